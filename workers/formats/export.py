"""Edits given back in the forms that other tools read: a weighted dataset, an issue table, a
snippet."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from workers.formats.canonical import ATTRIBUTE_PREFIX
from workers.formats.conversion import engine, is_text, query

FORMATS = ("parquet", "csv", "jsonl")
_HIDDEN = ("position", "train_index", "probe_index")
# A spreadsheet runs a cell that begins so; a plain number is harmless and stays as it is.
_FORMULA = r"^[=+\-@\t\r\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_BATCH_ROWS = 65_536


def export_weighted_dataset(
    canonical: Path, weights: Mapping[str, float], output: Path, file_format: str = "parquet"
) -> int:
    """Write the dataset with a `weight` column to `output`; returns the number of rows written.

    `weights` maps example ids of train rows to weights (1 where missing); weight 0 leaves the row
    out. Probe rows are kept with weight 1. Attributes get their first names back. In CSV, cells
    that would start a formula are prefixed with an apostrophe. Raises KeyError for an id that no
    train row has, ValueError for a weight that is negative or not finite.
    """
    _check_weights(canonical, weights)
    known = pa.array(list(weights), pa.string())
    values = np.append(np.fromiter(weights.values(), float, len(weights)), 1.0)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in _read(canonical):
            index = pc.fill_null(pc.index_in(batch.column("example_id"), known), len(known))
            weight = values[index.to_numpy(zero_copy_only=False)]
            names = [n for n in batch.schema.names if n not in _HIDDEN]
            table = batch.select(names).append_column("weight", pa.array(weight))
            yield table.rename_columns(_given_names(table.schema.names)).filter(
                pa.array(weight != 0)
            )

    return _write(batches(), output, file_format)


def export_issue_table(
    canonical: Path,
    weights: Mapping[str, float],
    influence: np.ndarray | None,
    output: Path,
    file_format: str = "csv",
) -> int:
    """Write one row a train example in the manner of cleanlab's issue tables.

    Columns: `example_id`, `given_label` (classification), `is_influence_issue` (the edits remove or
    down-weight it), `weight`, and with `influence` (N train,) also `influence` and
    `influence_score`, its rank scaled to 0 (most harmful) … 1; `influence` must be signed so that
    lower is more harmful.
    """
    _check_weights(canonical, weights)
    known = pa.array(list(weights), pa.string())
    values = np.append(np.fromiter(weights.values(), float, len(weights)), 1.0)
    ranks = None
    if influence is not None:
        ranks = np.empty(len(influence))
        ranks[np.argsort(influence, kind="stable")] = np.linspace(0.0, 1.0, len(influence))

    def batches() -> Iterator[pa.RecordBatch]:
        for whole in _read(canonical):
            batch = whole.filter(pc.equal(whole.column("split"), "train"))
            ids = batch.column("example_id")
            index = pc.fill_null(pc.index_in(ids, known), len(known))
            weight = values[index.to_numpy(zero_copy_only=False)]
            columns = {"example_id": ids}
            if "label" in batch.schema.names:
                columns["given_label"] = batch.column("label")
            columns["is_influence_issue"] = pa.array(weight < 1)
            columns["weight"] = pa.array(weight)
            if influence is not None and ranks is not None:
                rows = batch.column("train_index").to_numpy(zero_copy_only=False).astype(np.int64)
                columns["influence"] = pa.array(influence[rows].astype(float))
                columns["influence_score"] = pa.array(ranks[rows])
            yield pa.RecordBatch.from_pydict(columns)

    return _write(batches(), output, file_format)


def weighted_sampler_snippet(file_name: str) -> str:
    """Python source that trains on an exported Parquet with torch's WeightedRandomSampler.

    `file_name` stands in it as a quoted literal.
    """
    return f"""\
# Draws training examples in proportion to the weights of the edit. A weighted loss, with
# sum(weight * loss) / batch_size, is what the prediction was about; sampling agrees with it on
# average.
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

examples = pq.read_table({json.dumps(file_name)}).filter(pc.field("split") == "train")
weights = torch.tensor(examples["weight"].to_pylist(), dtype=torch.double)
sampler = WeightedRandomSampler(
    weights, num_samples=len(weights), generator=torch.Generator().manual_seed(0)
)
loader = DataLoader(examples.to_pylist(), batch_size=32, sampler=sampler, collate_fn=list)
"""


def escape_formulas(values: pa.Array) -> pa.Array:
    """Text cells with an apostrophe before every one that a spreadsheet would take for a
    formula."""
    starts = pc.match_substring_regex(values, _FORMULA)
    number = pc.match_substring_regex(values, _NUMBER)
    risky = pc.fill_null(pc.and_not(starts, number), False)
    return pc.if_else(risky, pc.binary_join_element_wise("'", values, ""), values)


def _check_weights(canonical: Path, weights: Mapping[str, float]) -> None:
    for example_id, weight in weights.items():
        if not np.isfinite(weight) or weight < 0:
            raise ValueError(f"the weight of example '{example_id}' must be finite and at least 0")
    wanted = pa.array(list(weights), pa.string())
    found: set[str] = set()
    for batch in _read(canonical, ["example_id", "split"]):
        chosen = pc.and_(
            pc.equal(batch.column("split"), "train"), pc.is_in(batch.column("example_id"), wanted)
        )
        found.update(batch.column("example_id").filter(chosen).to_pylist())
    missing = [example_id for example_id in weights if example_id not in found]
    if missing:
        raise KeyError(f"no train example has the id '{missing[0]}'")


def _read(canonical: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(canonical) as file:
        yield from file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)


def _given_names(names: list[str]) -> list[str]:
    """Attribute columns under their first names, where those are free regardless of case."""
    fixed = {n.casefold() for n in names if not n.startswith(ATTRIBUTE_PREFIX)}
    return [
        n.removeprefix(ATTRIBUTE_PREFIX)
        if n.removeprefix(ATTRIBUTE_PREFIX).casefold() not in fixed
        else n
        for n in names
    ]


def _write(batches: Iterator[pa.RecordBatch], output: Path, file_format: str) -> int:
    writers: dict[str, Callable[[Iterator[pa.RecordBatch], Path], int]] = {
        "parquet": _write_parquet,
        "csv": _write_csv,
        "jsonl": _write_jsonl,
    }
    if file_format not in writers:
        raise ValueError(f"the format must be one of {', '.join(FORMATS)}")
    with _aside(output) as partial:
        return writers[file_format](batches, partial)


@contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """A temporary path beside `output` that takes its name when the block ends well."""
    partial = output.parent / f".{output.name}.{secrets.token_hex(8)}.partial"
    try:
        yield partial
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)


def _write_parquet(batches: Iterator[pa.RecordBatch], path: Path) -> int:
    first = next(batches)
    rows = int(first.num_rows)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _write_csv(batches: Iterator[pa.RecordBatch], path: Path) -> int:
    rows = 0
    writer: pa_csv.CSVWriter | None = None
    with path.open("wb") as stream:
        for batch in batches:
            names = escape_formulas(pa.array(batch.schema.names)).to_pylist()
            columns = [
                escape_formulas(c if is_text(c.type) else _json_text(c)) if _as_text(c) else c
                for c in batch.columns
            ]
            flat = pa.RecordBatch.from_arrays(columns, names=names)
            writer = writer or pa_csv.CSVWriter(stream, flat.schema)
            writer.write_batch(flat)
            rows += batch.num_rows
        if writer is not None:
            writer.close()
    return rows


def _as_text(column: pa.Array) -> bool:
    return is_text(column.type) or pa.types.is_nested(column.type)


def _json_text(column: pa.Array) -> pa.Array:
    with engine() as connection:
        table = pa.table({"v": column})
        text = query(connection, "SELECT CAST(to_json(v) AS VARCHAR) AS v FROM batch", table)["v"]
    return text.combine_chunks().cast(pa.string())


def _write_jsonl(batches: Iterator[pa.RecordBatch], path: Path) -> int:
    rows = 0
    with path.open("wb") as stream, engine() as connection:
        for batch in batches:
            if not batch.num_rows:
                continue
            sql = "SELECT string_agg(CAST(to_json(batch) AS VARCHAR), chr(10)) AS lines FROM batch"
            lines = query(connection, sql, pa.Table.from_batches([batch]))["lines"][0].as_py()
            stream.write(lines.encode() + b"\n")
            rows += batch.num_rows
    return rows
