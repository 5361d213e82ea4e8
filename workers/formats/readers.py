"""One interface over every accepted format: columns, and batches of rows read a bounded piece at a
time."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa

from workers.formats.content import Content, DatasetPart
from workers.formats.errors import FormatError
from workers.formats.limits import DatasetLimits


@dataclass(frozen=True)
class Batch:
    """Some rows of one file: `table` columns are text, numbers, lists or structs as the file has
    them."""

    table: pa.RecordBatch
    file: str
    first_row: int  # rows of this file before the batch
    bytes_read: int  # of this file, for progress


@dataclass(frozen=True)
class Columns:
    """What a file says of its columns. `types` is None for formats that hold text only."""

    names: tuple[str, ...]
    types: Mapping[str, pa.DataType] | None = None
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class TableReader(ABC):
    """Reads one file. `columns()` may scan it; `batches()` reads it from the start each time."""

    format: str

    def __init__(self, part: DatasetPart, content: Content, limits: DatasetLimits) -> None:
        self.part = part
        self.content = content
        self.limits = limits

    @abstractmethod
    def columns(self) -> Columns: ...

    @abstractmethod
    def head(self, rows: int) -> pa.Table:
        """At most `rows` first rows, reading no more than a bounded part of the file."""

    @abstractmethod
    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        """All rows, in order, with the wanted columns in the order given."""

    def number_of_rows(self) -> int | None:
        """Rows where known before reading, else None."""
        return None

    def error(self, rule: str, field: str | None = None, row: int | None = None) -> FormatError:
        return FormatError(self.part.name, row, field, rule)


# Files that stand beside the data in a saved dataset and hold none of its rows.
_COMPANIONS = re.compile(
    r"^(dataset_info|dataset_infos|dataset_dict|state)\.json$|^(readme|license|citation)|^\.",
    re.IGNORECASE,
)
_SPLIT_IN_NAME = re.compile(
    r"^(train|training|test|validation|valid|val|dev|probe|eval|holdout)(?=$|[-_.])", re.IGNORECASE
)


def data_parts(parts: Sequence[DatasetPart], limits: DatasetLimits) -> list[DatasetPart]:
    """The parts that hold rows, shards in order; raises FormatError for none or too many."""
    if len(parts) > limits.max_files:
        raise FormatError(rule=f"{len(parts):,} files; at most {limits.max_files:,} are read")
    if len(parts) == 1:
        return list(parts)
    kept = [p for p in parts if not _COMPANIONS.match(PurePosixPath(p.name).name)]
    if not kept:
        raise FormatError(rule="the folder holds no data file (Parquet, Arrow, JSON Lines or CSV)")
    return sorted(kept, key=lambda p: p.name)


def split_in_name(name: str) -> str | None:
    """The split that a shard's name or folder states, as in `train-00000-of-00002.parquet`."""
    path = PurePosixPath(name.replace("\\", "/"))
    for piece in (path.name, *reversed(path.parts[:-1])):
        if found := _SPLIT_IN_NAME.match(piece):
            return found.group(1).lower()
    return None
