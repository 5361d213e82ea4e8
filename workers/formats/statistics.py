"""What a canonical examples table holds: balance, lengths, duplicates, leakage, conflicting
labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.formats import near_duplicates
from workers.formats.canonical import ATTRIBUTE_PREFIX, read_metadata
from workers.formats.conversion import engine
from workers.formats.splits import hash_rows
from workers.formats.text_keys import normalised_text, text_hashes

_BATCH_ROWS = 65_536
SAMPLES = 20
_LENGTH_EDGES = (0, 1, 10, 20, 40, 80, 120, 160, 240, 320, 500, 1_000, 2_000, 5_000, 10_000)


def dataset_statistics(path: Path) -> dict[str, Any]:
    """Statistics of a canonical table as JSON.

    Keys: `rows`, `columns` [{name, type}], `splits` {train, probe}, `classes` [{label, train,
    probe}], `target` (regression), `text_length` {unit, edges, counts, median, maximum},
    `exact_duplicates`, `near_duplicates` and `conflicting_labels` (each {groups, rows,
    across_splits, samples}; `rows` counts the rows in groups, `across_splits` the groups with rows
    in both splits: leakage), `attributes` [{name, distinct, missing, most_common}].
    Near-duplicates are null for more than 2,000,000 texts, and for numbers.
    """
    with pq.ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
    probe = _column(path, "split", lambda c: pc.equal(c, "probe"), rows, bool)
    statistics: dict[str, Any] = {
        "rows": rows,
        "columns": [{"name": field.name, "type": str(field.type)} for field in schema],
        "splits": {"train": int(rows - probe.sum()), "probe": int(probe.sum())},
    }
    keys, near = _content_keys(path, schema, rows)
    groups = _equal_groups(keys)
    statistics["exact_duplicates"] = _groups_summary(path, groups, probe)
    statistics["near_duplicates"] = None if near is None else _groups_summary(path, near, probe)
    if "label" in schema.names:
        codes = _label_codes(path, rows, read_metadata_or_empty(path), statistics, probe)
        statistics["conflicting_labels"] = _groups_summary(path, _conflicts(groups, codes), probe)
    if "target" in schema.names:
        statistics["target"] = _target(path, rows)
    statistics["attributes"] = _attributes(path, schema)
    if any(name in schema.names for name in ("text", "prompt")):
        statistics["text_length"] = _text_lengths(path, schema, rows)
    return statistics


def read_metadata_or_empty(path: Path) -> dict[str, Any]:
    try:
        return read_metadata(path)
    except KeyError:
        return {}


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False)
    # The allocator keeps what was freed: 80 MiB after a million texts.
    pa.default_memory_pool().release_unused()


def _column(path: Path, name: str, compute: Any, rows: int, dtype: type) -> np.ndarray:
    result: np.ndarray = np.empty(rows, dtype)
    start = 0
    for batch in _batches(path, [name]):
        values = compute(batch.column(0)).to_numpy(zero_copy_only=False)
        result[start : start + len(values)] = values
        start += len(values)
    return result


def _content_columns(schema: pa.Schema) -> list[str]:
    return [n for n in ("text", "prompt", "completion", "features", "image") if n in schema.names]


def _content_keys(path: Path, schema: pa.Schema, rows: int) -> tuple[np.ndarray, np.ndarray | None]:
    """64-bit content hashes (N,), and near-duplicate groups (N,) where the content is text."""
    names = _content_columns(schema)
    if names and names[0] not in ("features", "image"):
        near = None
        if rows <= near_duplicates.MOST_TEXTS:  # first, since it needs the most memory
            near = near_duplicates.near_duplicate_groups(
                lambda: map(normalised_text, _texts(path, names))
            )
        return np.concatenate([text_hashes(text) for text in _texts(path, names)]), near
    keys = np.empty(rows, np.uint64)
    start = 0
    for batch in _batches(path, names):
        column = batch.column(0)
        matrix = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
        keys[start : start + len(matrix)] = hash_rows(matrix)
        start += len(matrix)
    return keys, None


def _texts(path: Path, names: list[str]) -> Iterator[pa.Array]:
    """The content of text tasks, a batch at a time; several columns are joined by line breaks."""
    for batch in _batches(path, names):
        whole = [pc.fill_null(column, "") for column in batch.columns]
        yield pc.binary_join_element_wise(*whole, "\n") if len(whole) > 1 else whole[0]


def _equal_groups(keys: np.ndarray) -> np.ndarray:
    """Group number (N,) of equal keys; −1 for keys that stand alone."""
    if not len(keys):
        return np.zeros(0, np.int64)
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return np.where(counts[inverse] > 1, inverse, -1)


def _conflicts(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The groups in which labels (N,) differ; −1 elsewhere."""
    if not len(groups) or groups.max(initial=-1) < 0:
        return groups
    inside = groups >= 0
    size = int(groups.max()) + 1
    least, most = np.full(size, np.iinfo(np.int64).max), np.full(size, -1)
    np.minimum.at(least, groups[inside], labels[inside])
    np.maximum.at(most, groups[inside], labels[inside])
    differs = least < most
    return np.where(inside & differs[groups], groups, -1)


def _groups_summary(path: Path, groups: np.ndarray, probe: np.ndarray) -> dict[str, Any]:
    inside = np.flatnonzero(groups >= 0)
    numbers, compact = np.unique(groups[inside], return_inverse=True)
    with_probe = np.bincount(compact, probe[inside], minlength=len(numbers)) > 0
    with_train = np.bincount(compact, ~probe[inside], minlength=len(numbers)) > 0
    across = with_probe & with_train
    shown = np.argsort(~across, kind="stable")[:SAMPLES]
    order = np.argsort(compact, kind="stable")
    bounds = np.searchsorted(compact[order], np.arange(len(numbers) + 1))
    samples = [inside[order[bounds[g] : bounds[g + 1]]][:5].tolist() for g in shown]
    return {
        "groups": len(numbers),
        "rows": len(inside),
        "across_splits": int(across.sum()),
        "samples": _sampled_examples(path, samples),
    }


def _sampled_examples(path: Path, samples: list[list[int]]) -> list[list[dict[str, Any]]]:
    """The examples at some positions, each with id, split, label and the start of its text."""
    wanted = np.unique([p for group in samples for p in group]).astype(np.int64)
    if not len(wanted):
        return []
    with pq.ParquetFile(path) as file:
        names = [
            n
            for n in ("example_id", "split", "label", "text", "prompt")
            if n in file.schema_arrow.names
        ]
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for batch in _batches(path, names):
        low, high = np.searchsorted(wanted, [start, start + len(batch)])
        if low < high:
            rows = batch.take(pa.array(wanted[low:high] - start)).to_pylist()
            for position, row in zip(wanted[low:high].tolist(), rows, strict=True):
                found[position] = {k: (v[:200] if v is not None else None) for k, v in row.items()}
        start += len(batch)
    return [[found[p] for p in group] for group in samples]


def _label_codes(
    path: Path, rows: int, metadata: dict[str, Any], statistics: dict[str, Any], probe: np.ndarray
) -> np.ndarray:
    classes = metadata.get("classes") or sorted(
        {v for b in _batches(path, ["label"]) for v in pc.unique(b.column(0)).to_pylist()}
    )
    known = pa.array(classes, pa.string())
    codes = _column(path, "label", lambda c: pc.fill_null(pc.index_in(c, known), -1), rows, int)
    train = np.bincount(codes[~probe & (codes >= 0)], minlength=len(classes))
    in_probe = np.bincount(codes[probe & (codes >= 0)], minlength=len(classes))
    statistics["classes"] = [
        {"label": label, "train": int(train[k]), "probe": int(in_probe[k])}
        for k, label in enumerate(classes)
    ]
    return codes


def _target(path: Path, rows: int) -> dict[str, Any]:
    target = _column(path, "target", lambda c: c, rows, float)
    counts, edges = np.histogram(target, bins=20)
    return {
        "minimum": float(target.min()),
        "maximum": float(target.max()),
        "mean": float(target.mean()),
        "standard_deviation": float(target.std()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _text_lengths(path: Path, schema: pa.Schema, rows: int) -> dict[str, Any]:
    names = [n for n in ("text", "prompt", "completion") if n in schema.names]
    lengths = np.sum([_column(path, n, pc.utf8_length, rows, int) for n in names], axis=0)
    edges = [*_LENGTH_EDGES, max(int(lengths.max(initial=0)), _LENGTH_EDGES[-1]) + 1]
    counts, _ = np.histogram(lengths, bins=edges)
    return {
        "unit": "characters",
        "edges": edges,
        "counts": counts.tolist(),
        "median": float(np.median(lengths)),
        "maximum": int(lengths.max(initial=0)),
    }


def _attributes(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Distinct values (estimated by HyperLogLog), missing values and the ten most common of each
    attribute; the common ones are counted on the first 100,000 rows."""
    names = [n for n in schema.names if n.startswith(ATTRIBUTE_PREFIX)]
    described = []
    for name in names:
        with pq.ParquetFile(path) as file, engine() as connection:
            batches = file.iter_batches(_BATCH_ROWS, columns=[name], use_threads=False)
            stream = pa.RecordBatchReader.from_batches(
                pa.schema([pa.field("v", pa.string())]), (b.rename_columns(["v"]) for b in batches)
            )
            connection.register("values_read", stream)
            distinct, missing = connection.execute(
                "SELECT approx_count_distinct(v), count(*) - count(nullif(v, '')) FROM values_read"
            ).fetchall()[0]
        common: dict[str, int] = {}
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(100_000, columns=[name], use_threads=False):
                top = pc.value_counts(batch.column(0)).to_pylist()
                top = sorted(top, key=lambda item: (-item["counts"], str(item["values"])))[:10]
                common = {t["values"][:100]: t["counts"] for t in top if t["values"]}
                break
        described.append(
            {
                "name": name.removeprefix(ATTRIBUTE_PREFIX),
                "distinct": int(distinct),
                "missing": int(missing),
                "most_common": [{"value": v, "rows": n} for v, n in common.items()],
            }
        )
    return described
