"""Edits given back in forms that other tools read, streamed: nothing is held in memory as a whole.

A weighted dataset, a plain list of edits, an issue table as cleanlab users know it, and a snippet.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.models import ExampleValues, Influence, Proposal
from curation.queries.example_values import arrays_of
from curation.queries.examples import CONTENT_COLUMNS, ExampleTable
from curation.queries.predictions import edits_of
from curation.services.files import local_path

ROWS_AT_ONCE = 16_384
FORMULA = re.compile(r"^[=+\-@\t\r＝＋－＠]")
NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")


def weighted_dataset(
    table: ExampleTable, proposal: Proposal, *, keep_removed: bool = False
) -> pa.RecordBatchReader:
    """Every example with its `weight`; examples of weight 0 are left out unless they are kept.

    Columns bear the names of the upload; probe examples have weight 1.
    """
    _register_weights(table, proposal)
    chosen = [
        name
        for name in table.columns
        if name in ("example_id", "split", "label", "target", *CONTENT_COLUMNS)
    ]
    taken = {*chosen, "weight"}
    parts = [f'"{name}"' for name in chosen]
    for name in table.attributes:
        given = name.removeprefix("attribute_")
        parts.append(f"{_quoted(name)} AS {_quoted(name if given in taken else given)}")
    where = "true" if keep_removed else "coalesce(weight, 1) != 0"
    return _read(
        table,
        [*parts, "coalesce(weight, 1.0) AS weight"],
        f"examples LEFT JOIN weights ON train_index = weight_index WHERE {where} ORDER BY position",
    )


def edits_table(table: ExampleTable, proposal: Proposal) -> pa.RecordBatchReader:
    """One row an edit: `example_id`, `train_index`, `weight`."""
    _register_weights(table, proposal)
    return _read(
        table,
        ["example_id", "train_index", "weight"],
        "examples JOIN weights ON train_index = weight_index ORDER BY train_index",
    )


def issue_table(
    table: ExampleTable, proposal: Proposal, influence: Influence | None
) -> pa.RecordBatchReader:
    """One row a training example: its weight, `is_influence_issue` where the edits lower it,
    with scores `influence_score`, the rank of its influence from 0 (most harmful) to 1, and the
    `loss`, `confidence` and `self_influence` that the proposal's baseline has measured.
    """
    _register_weights(table, proposal)
    scores = ["NULL::FLOAT AS influence", "NULL::DOUBLE AS influence_score"]
    join = ""
    if influence is not None:
        column = np.load(local_path(influence.scores_file), mmap_mode="r", allow_pickle=False)
        values = np.asarray(column)
        gain = values if influence.behaviour.better == "higher" else -values
        rank = np.empty(len(values))
        rank[np.argsort(gain, kind="stable")] = np.linspace(0.0, 1.0, len(values))
        table.connection.register(
            "ranked",
            {
                "ranked_index": np.arange(len(values), dtype=np.int32),
                "influence": values,
                "rank": rank,
            },
        )
        scores = ["influence", "rank AS influence_score"]
        join = "LEFT JOIN ranked ON train_index = ranked_index"
    measured = _register_values(table, proposal)
    if measured:
        join += " LEFT JOIN measured ON train_index = measured_index"
    label = "label" if "label" in table.columns else "NULL::VARCHAR"
    return _read(
        table,
        [
            "example_id",
            f"{label} AS given_label",
            "coalesce(weight, 1) < 1 AS is_influence_issue",
            "coalesce(weight, 1.0) AS weight",
            *scores,
            *measured,
        ],
        f"examples LEFT JOIN weights ON train_index = weight_index {join} "
        "WHERE split = 'train' ORDER BY train_index",
    )


def _read(table: ExampleTable, columns: list[str], source: str) -> pa.RecordBatchReader:
    """Columns and source are fixed text or quoted names, never values."""
    query = f"SELECT {', '.join(columns)} FROM {source}"  # noqa: S608
    return table.connection.sql(query).to_arrow_reader(ROWS_AT_ONCE)


def as_csv(reader: pa.RecordBatchReader) -> Iterator[bytes]:
    """CSV whose cells cannot start a formula in a spreadsheet."""
    yield _csv_lines([[_cell(name) for name in reader.schema.names]])
    for batch in reader:
        columns = [[_cell(value) for value in column.to_pylist()] for column in batch.columns]
        yield _csv_lines(zip(*columns, strict=True))


def as_json_lines(reader: pa.RecordBatchReader) -> Iterator[bytes]:
    for batch in reader:
        lines = (json.dumps(row, ensure_ascii=False, default=str) for row in batch.to_pylist())
        yield ("\n".join(lines) + "\n").encode() if batch.num_rows else b""


def write_parquet(reader: pa.RecordBatchReader, stream: BinaryIO) -> None:
    with pq.ParquetWriter(stream, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def sampler_snippet(proposal: Proposal) -> str:
    """A ready piece of Python that trains with the weights of the exported dataset."""
    return f'''"""Train with the edits of a Hunch proposal.

Proposal: {json.dumps(proposal.name)}
Export the dataset first as Parquet, with removed examples left out, to weighted.parquet.
"""

import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

table = pq.read_table("weighted.parquet", filters=[("split", "==", "train")])
weights = torch.tensor(table.column("weight").to_pylist(), dtype=torch.double)

# Either draw examples in proportion to their weights ...
sampler = WeightedRandomSampler(weights, num_samples=len(weights), replacement=True)
# loader = DataLoader(your_dataset, batch_size=32, sampler=sampler)

# ... or weigh their losses, which is what Hunch predicts and retrains with:
# losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
# loss = (batch_weights * losses).sum() / nominal_batch_size
'''


def _register_weights(table: ExampleTable, proposal: Proposal) -> None:
    indices, weights = edits_of(proposal)
    table.connection.register(
        "weights", {"weight_index": indices.astype(np.int32), "weight": weights}
    )


def _register_values(table: ExampleTable, proposal: Proposal) -> list[str]:
    """Makes what the baseline measured of the train examples a table; the names of its columns."""
    arrays = arrays_of(ExampleValues.objects.filter(baseline=proposal.baseline).first())
    train = np.asarray(table.index.array("train_rows"))
    columns = {name: np.asarray(array[train]) for name, array in arrays.items()}
    if columns:
        index = np.arange(len(train), dtype=np.int32)
        table.connection.register("measured", {"measured_index": index, **columns})
    return list(columns)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, str) and FORMULA.match(value) and not NUMBER.match(value):
        return f"'{value}"
    return value


def _csv_lines(rows: Any) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerows(rows)
    return stream.getvalue().encode()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
