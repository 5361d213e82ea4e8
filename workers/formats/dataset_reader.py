"""An upload of one or many files as one stream of batches with the same columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from workers.formats.columnar import ArrowReader, ParquetReader
from workers.formats.content import DatasetPart, detect_content
from workers.formats.delimited import DelimitedReader
from workers.formats.errors import FormatError
from workers.formats.json_lines import JsonArrayReader, JsonLinesReader
from workers.formats.limits import DatasetLimits
from workers.formats.readers import Batch, TableReader, data_parts, split_in_name

_READERS: dict[str, type[TableReader]] = {
    "delimited": DelimitedReader,
    "jsonl": JsonLinesReader,
    "json": JsonArrayReader,
    "parquet": ParquetReader,
    "arrow": ArrowReader,
}
SPLIT_FROM_NAME = "split"


def open_part(part: DatasetPart, limits: DatasetLimits) -> TableReader:
    """The reader for one file, chosen by its content."""
    content = detect_content(part, limits)
    return _READERS[content.format](part, content, limits)


class DatasetReader:
    """All data files of an upload. Raises FormatError where their columns differ.

    `full` scans JSON for every field; without it only the head of a file is looked at. Where the
    names of all shards state a split and no column does, a column `split` is added from the names.
    """

    def __init__(
        self, parts: Sequence[DatasetPart], limits: DatasetLimits, *, full: bool = True
    ) -> None:
        self.limits = limits
        self.readers = [open_part(part, limits) for part in data_parts(parts, limits)]
        described = [_described(reader, full) for reader in self.readers]
        names, self.types = described[0]
        for reader, (other, _) in zip(self.readers[1:], described[1:], strict=True):
            if set(other) != set(names):
                different = sorted(set(other) ^ set(names))[0]
                raise reader.error(
                    f"has not the columns of {self.readers[0].part.name}", field=different
                )
        self.class_names = self._class_names()
        splits = [split_in_name(reader.part.name) for reader in self.readers]
        self.splits = None
        has_split = any(n.casefold() == SPLIT_FROM_NAME for n in names)
        if len(self.readers) > 1 and all(splits) and not has_split:
            self.splits = splits
            names = (*names, SPLIT_FROM_NAME)
        self.names = tuple(names)

    def _class_names(self) -> Mapping[str, tuple[str, ...]]:
        described = [
            r.columns().class_names if r.format in ("parquet", "arrow") else {}
            for r in self.readers
        ]
        if any(names != described[0] for names in described):
            raise FormatError(
                self.readers[0].part.name, rule="the files disagree about the names of classes"
            )
        return described[0]

    @property
    def format(self) -> str:
        return self.readers[0].format

    def number_of_rows(self) -> int | None:
        counts = [reader.number_of_rows() for reader in self.readers]
        known = [c for c in counts if c is not None]
        return sum(known) if len(known) == len(counts) else None

    def batches(
        self, wanted: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Batch]:
        """Batches of all files; `progress(bytes done, bytes in all)` is called after each."""
        total = sum(reader.content.file_bytes for reader in self.readers)
        before = rows = 0
        for number, reader in enumerate(self.readers):
            size = reader.content.file_bytes
            stored = [n for n in wanted if self.splits is None or n != SPLIT_FROM_NAME]
            for batch in reader.batches(stored):
                rows += batch.table.num_rows
                if rows > self.limits.max_rows:
                    raise reader.error(f"has more than {self.limits.max_rows:,} rows")
                yield self._with_split(batch, wanted, number)
                if progress is not None:
                    progress(min(before + min(batch.bytes_read, size), total), total)
            before += size

    def _with_split(self, batch: Batch, wanted: Sequence[str], number: int) -> Batch:
        if self.splits is None or SPLIT_FROM_NAME not in wanted:
            return batch
        values = pa.array([self.splits[number]] * batch.table.num_rows, pa.string())
        table = batch.table.append_column(SPLIT_FROM_NAME, values).select(list(wanted))
        return Batch(table, batch.file, batch.first_row, batch.bytes_read)


def _described(
    reader: TableReader, full: bool
) -> tuple[tuple[str, ...], Mapping[str, pa.DataType] | None]:
    if reader.format in ("jsonl", "json") and not full:
        return tuple(reader.head(1_000).column_names), None
    columns = reader.columns()
    return columns.names, columns.types


def parts_from_folder(folder: Path) -> list[DatasetPart]:
    """The regular files below a folder (links are not followed), named by their relative path."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]
    return [DatasetPart(p, p.relative_to(folder).as_posix()) for p in files]
