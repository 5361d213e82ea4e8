"""Influence scores for programs: slices, and the whole matrix as Parquet in bounded memory."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.models import Baseline, DatasetVersion, Influence, StoredFile
from curation.queries.examples import ExampleTable
from curation.services.files import local_path

ROWS_AT_ONCE = 65_536
CACHED_ROWS = 200_000


def score_slice(influence: Influence, start: int, count: int) -> dict[str, Any]:
    """Scores and ids of `count` examples from train index `start` on; null where not finite."""
    scores = np.load(local_path(influence.scores_file), mmap_mode="r", allow_pickle=False)
    part = np.asarray(scores[start : start + count]).tolist()
    with ExampleTable(influence.baseline.dataset_version) as table:
        ids = table.connection.execute(
            "SELECT example_id FROM examples WHERE train_index >= ? AND train_index < ? "
            "ORDER BY train_index",
            [start, start + count],
        ).fetchall()
    return {
        "start": start,
        "total": len(scores),
        "example_ids": [row[0] for row in ids],
        "scores": [score if math.isfinite(score) else None for score in part],
    }


def matrix_sha256(influences: Sequence[Influence]) -> str:
    """Identifies the matrix by the contents of its columns, without reading them."""
    parts = [[str(one.behaviour_id), one.behaviour.name, one.scores_file_id] for one in influences]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write_matrix(baseline: Baseline, influences: Sequence[Influence], stream: BinaryIO) -> None:
    """Write `example_id`, `train_index` and one float32 column a behaviour, `score: NAME`.

    Each column's metadata has the behaviour's id, unit and better direction.
    """
    columns = [
        np.load(local_path(one.scores_file), mmap_mode="r", allow_pickle=False)
        for one in influences
    ]
    schema = pa.schema(
        [
            pa.field("example_id", pa.string()),
            pa.field("train_index", pa.int32()),
            *(
                pa.field(
                    f"score: {one.behaviour.name}",
                    pa.float32(),
                    metadata={
                        "behaviour": str(one.behaviour_id),
                        "unit": one.behaviour.unit,
                        "better": one.behaviour.better,
                    },
                )
                for one in influences
            ),
        ],
        metadata={
            "hunch": json.dumps({"baseline": str(baseline.pk), "method": influences[0].method})
        },
    )
    with (
        ExampleTable(baseline.dataset_version) as table,
        pq.ParquetWriter(stream, schema) as writer,
    ):
        reader = table.connection.sql(
            "SELECT example_id, train_index FROM examples "
            "WHERE split = 'train' ORDER BY train_index"
        ).to_arrow_reader(ROWS_AT_ONCE)
        for batch in reader:
            indices = batch.column("train_index").to_numpy()
            scores = [pa.array(column[indices], pa.float32()) for column in columns]
            ids = batch.column("example_id").cast(pa.string())
            writer.write_batch(
                pa.record_batch([ids, pa.array(indices, pa.int32()), *scores], schema=schema)
            )


@dataclass(frozen=True)
class TrainIds:
    """The ids of the train split, by train index, and back."""

    ids: Sequence[str]
    index_of: Mapping[str, int]


def indices_of_ids(version: DatasetVersion, ids: Sequence[str]) -> dict[str, int]:
    """Train index of each example id that the train split has."""
    if version.train_count <= CACHED_ROWS:
        index_of = _train_ids(version.examples_file).index_of
        return {one: index_of[one] for one in ids if one in index_of}
    return dict(
        _ask(
            version,
            "SELECT example_id, train_index FROM examples WHERE split = 'train' "
            "AND example_id IN (SELECT unnest(?::VARCHAR[]))",
            ids,
        )
    )


def ids_of_indices(version: DatasetVersion, indices: Sequence[int]) -> dict[int, str]:
    """Example id of each train index that exists."""
    if version.train_count <= CACHED_ROWS:
        known = _train_ids(version.examples_file).ids
        return {index: known[index] for index in indices if index < len(known)}
    return dict(
        _ask(
            version,
            "SELECT train_index, example_id FROM examples "
            "WHERE train_index IN (SELECT unnest(?::INTEGER[]))",
            indices,
        )
    )


def _ask(version: DatasetVersion, query: str, values: Sequence[Any]) -> list[Any]:
    with ExampleTable(version) as table:
        return table.connection.execute(query, [list(values)]).fetchall()


@lru_cache(maxsize=8)
def _train_ids(examples_file: StoredFile) -> TrainIds:
    """Kept in memory, since what-if predictions ask for it all the time and it never changes."""
    table = pq.read_table(local_path(examples_file), columns=["example_id", "train_index"])
    table = table.filter(pc.is_valid(table.column("train_index")))
    order = np.argsort(table.column("train_index").to_numpy())
    ids = table.column("example_id").take(order).to_pylist()
    return TrainIds(ids, {example_id: index for index, example_id in enumerate(ids)})
