"""A canonical table with a proposal's weights applied: weight 0 leaves an example out, a whole
number above 1 repeats it. Probe examples stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.formats.canonical import ATTRIBUTE_PREFIX, CanonicalWriter, read_metadata
from workers.formats.errors import FormatError
from workers.formats.limits import DatasetLimits
from workers.formats.statistics import dataset_statistics

BATCH_ROWS = 65_536


def apply_weights(
    source: Path,
    weights: Mapping[int, float],
    output: Path,
    limits: DatasetLimits,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write `source` with `weights` (train index → whole number) applied, and summarise it.

    Copies of an example get ids of their own, `ID#2`, `ID#3`, … Returns the summary of an import.

    Raises:
        FormatError: a weight is no whole number, nothing would be left to train on, too many rows
            would come out, or the id of a copy is taken or too long. Nothing is written then.
    """
    for index, weight in weights.items():
        if weight != int(weight):
            rule = (
                f"train example {index} has weight {weight:g}; a version holds whole weights only"
            )
            raise FormatError(field="weight", rule=rule)
    with pq.ParquetFile(source) as file:
        schema, total = file.schema_arrow.remove_metadata(), file.metadata.num_rows
        metadata = read_metadata(source)
        repeats = _repeats(source, weights)
        rows = int(repeats.sum())
        if rows > limits.max_rows:
            raise FormatError(
                rule=f"the version would have {rows:,} rows, more than {limits.max_rows:,}"
            )
        with CanonicalWriter(output, schema) as writer:
            counts = {"train": 0, "probe": 0}
            done = 0
            for batch in file.iter_batches(BATCH_ROWS):
                written = _applied(batch, repeats[done : done + len(batch)], counts, schema, limits)
                done += len(batch)
                if len(written):
                    writer.write(written)
                if progress is not None:
                    progress(done, total)
            if counts["train"] == 0:
                raise FormatError(rule="no training example would be left")
            digest = writer.close(metadata)
            _check_ids(writer.partial, any(repeats > 1))
            statistics = dataset_statistics(writer.partial)
            writer.promote()
    return {
        "task": metadata["task"],
        "format": "parquet",
        "rows": rows,
        "train_rows": counts["train"],
        "probe_rows": counts["probe"],
        "classes": metadata.get("classes") or [],
        "class_counts": statistics.get("classes", []),
        "feature_names": metadata.get("feature_names") or [],
        "image_shape": metadata.get("image_shape"),
        "attributes": [
            name.removeprefix(ATTRIBUTE_PREFIX)
            for name in schema.names
            if name.startswith(ATTRIBUTE_PREFIX)
        ],
        "content_sha256": digest,
        "statistics": statistics,
    }


def _repeats(source: Path, weights: Mapping[int, float]) -> np.ndarray:
    """How often each row is written."""
    column = pq.read_table(source, columns=["train_index"], use_threads=False)["train_index"]
    train = pc.fill_null(column, -1).to_numpy()
    of_train = np.ones(int(train.max(initial=-1)) + 1, np.int64)
    for index, weight in weights.items():
        if not 0 <= index < len(of_train):
            raise FormatError(field="weight", rule=f"there is no train example {index}")
        of_train[index] = int(weight)
    return np.where(train >= 0, of_train[train], 1)


def _applied(
    batch: pa.RecordBatch,
    repeats: np.ndarray,
    counts: dict[str, int],
    schema: pa.Schema,
    limits: DatasetLimits,
) -> pa.RecordBatch:
    """The batch's rows repeated, with positions and indices numbered anew from `counts` on."""
    places = np.repeat(np.arange(len(batch)), repeats)
    starts = np.cumsum(repeats) - repeats
    copy = np.arange(len(places)) - starts[places]
    taken = batch.take(pa.array(places))
    is_train = pc.equal(taken.column("split"), "train").to_numpy(zero_copy_only=False)
    first = counts["train"] + counts["probe"]
    columns = {
        "example_id": _ids(taken.column("example_id"), copy, limits),
        "position": pa.array(np.arange(first, first + len(taken))),
        "train_index": _numbered(is_train, counts["train"]),
        "probe_index": _numbered(~is_train, counts["probe"]),
    }
    counts["train"] += int(is_train.sum())
    counts["probe"] += int((~is_train).sum())
    return pa.record_batch(
        [columns.get(name, taken.column(name)) for name in schema.names], schema=schema
    )


def _numbered(mask: np.ndarray, start: int) -> pa.Array:
    return pa.array((start + np.cumsum(mask) - 1).astype(np.int32), mask=~mask)


def _ids(ids: pa.Array, copy: np.ndarray, limits: DatasetLimits) -> pa.Array:
    if not copy.any():
        return ids
    numbers = pa.array(copy + 1).cast(pa.string())
    marked = pc.binary_join_element_wise(ids, numbers, "#")
    named = pc.if_else(pa.array(copy > 0), marked, ids)
    longest = pc.max(pc.utf8_length(named)).as_py()
    if longest > limits.max_id_characters:
        raise FormatError(field="example_id", rule="the id of a copy would be too long")
    return named


def _check_ids(written: Path, has_copies: bool) -> None:
    """Ids of the source are unique; those of copies may collide with them."""
    if not has_copies:
        return
    ids = pq.read_table(written, columns=["example_id"], use_threads=False)["example_id"]
    counts = pc.value_counts(ids.combine_chunks())
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        taken = twice.field("values")[0].as_py()
        raise FormatError(field="example_id", rule=f"the id {taken!r} of a copy is taken")
