"""Parquet and Arrow files: the footer's claims are checked before any data, every batch before
use."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.formats.conversion import is_readable, is_text, nesting
from workers.formats.readers import Batch, Columns, TableReader
from workers.formats.rules import check_column_names

_CODECS = {"UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4", "LZ4_RAW"}
_BATCH_ROWS = 65_536
_BATCH_BYTES = 32 * 1024 * 1024


class ColumnarReader(TableReader):
    """What Parquet and Arrow share: a typed schema and Hugging Face's class names in its
    metadata."""

    schema: pa.Schema
    _unfolded = 0  # bytes of text behind dictionaries so far

    def columns(self) -> Columns:
        self._open()
        names = self.schema.names
        check_column_names(names, self.part.name, self.limits)
        if not names:
            raise self.error("the file has no columns")
        for field in self.schema:
            if nesting(field.type) > self.limits.max_nesting:
                raise self.error("the column is nested too deep", field=field.name)
        types = {field.name: field.type for field in self.schema}
        return Columns(tuple(names), types, _class_names(self.schema))

    def _open(self) -> None:
        raise NotImplementedError

    def _checked(self, batch: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        """Refuse columns whose buffers, offsets or UTF-8 are broken; these would crash later
        code."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if not is_readable(column.type):
                raise self.error(f"holds {str(column.type)[:80]}, which cannot be read", field=name)
            try:
                column.validate(full=True)
            except (pa.ArrowInvalid, pa.ArrowIndexError) as error:
                rule = "holds text that is not UTF-8" if "UTF" in str(error) else "is damaged"
                raise self.error(rule, field=name, row=first_row + 1) from error
        return batch

    def _bounded(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The batch in pieces whose dictionaries unfold to about 32 MiB each; a small file may
        repeat
        one long text for every row. Raises FormatError where all rows together unfold too far."""
        sizes = np.zeros(batch.num_rows, np.int64)
        for column in batch.columns:
            if pa.types.is_dictionary(column.type) and is_text(column.type.value_type):
                lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
                sizes += pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(sizes)
        self._unfolded += int(ends[-1]) if len(ends) else 0
        if self._unfolded > self.limits.max_uncompressed_bytes:
            raise self.error(
                f"holds more than {self.limits.max_uncompressed_bytes:,} bytes once unpacked"
            )
        piece = ends // _BATCH_BYTES
        starts = np.flatnonzero(np.diff(piece, prepend=-1)).tolist()
        for start, end in pairwise([*starts, batch.num_rows]):
            yield batch.slice(start, end - start)

    def _refused(self, error: Exception) -> Exception:
        return self.error(
            f"the {self.format.capitalize()} data are damaged or cut short ({type(error).__name__})"
        )


class ParquetReader(ColumnarReader):
    """Reads row groups in order; text columns stay dictionary-encoded until they are measured."""

    format = "parquet"

    def _open(self) -> None:
        if hasattr(self, "_file"):
            return
        self._check_frame()
        limit = self.limits.max_footer_bytes
        containers = max(4 * self.limits.max_columns, self.limits.max_row_groups) + 1
        arguments = {
            "thrift_string_size_limit": limit,
            "thrift_container_size_limit": containers,
            "memory_map": False,
            "buffer_size": 1024 * 1024,
            "pre_buffer": False,
        }
        try:
            plain = pq.ParquetFile(self.part.path, **arguments)
            self._check_metadata(plain.metadata)
            texts = [f.name for f in plain.schema_arrow if is_text(f.type)]
            # Reading a text column as a dictionary keeps repeated values single.
            self._file = pq.ParquetFile(self.part.path, read_dictionary=texts, **arguments)
            self.schema = plain.schema_arrow
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise self._refused(error) from error

    def _check_frame(self) -> None:
        size = self.content.file_bytes
        with self.part.path.open("rb") as stream:
            stream.seek(max(0, size - 8))
            tail = stream.read(8)
        if size < 12 or tail[4:] != b"PAR1":
            raise self.error("the Parquet file is cut short: its last bytes are not 'PAR1'")
        length = struct.unpack("<I", tail[:4])[0]
        if not 0 < length <= size - 12:
            raise self.error("the Parquet footer's length points outside the file")
        if length > self.limits.max_footer_bytes:
            raise self.error(f"the Parquet footer has {length:,} bytes, which is too many")

    def _check_metadata(self, metadata: pq.FileMetaData) -> None:
        limits = self.limits
        if metadata.num_rows < 0 or metadata.num_rows > limits.max_rows:
            raise self.error(
                f"has {metadata.num_rows:,} rows; at most {limits.max_rows:,} are read"
            )
        if metadata.num_columns > limits.max_columns:
            raise self.error(
                f"has {metadata.num_columns:,} columns; at most {limits.max_columns:,} are read"
            )
        if metadata.num_row_groups > limits.max_row_groups:
            raise self.error(f"has more than {limits.max_row_groups:,} row groups")
        rows = unpacked = 0
        for group_number in range(metadata.num_row_groups):
            group = metadata.row_group(group_number)
            rows += group.num_rows
            for column_number in range(metadata.num_columns):
                unpacked += self._check_chunk(group.column(column_number), group.num_rows)
                if unpacked > limits.max_uncompressed_bytes:
                    raise self.error(
                        f"holds more than {limits.max_uncompressed_bytes:,} bytes once unpacked"
                    )
        if rows != metadata.num_rows:
            raise self.error("the row groups and the footer disagree about the number of rows")

    def _check_chunk(self, chunk: pq.ColumnChunkMetaData, rows: int) -> int:
        """Unpacked bytes of one column of one row group, after checking what it says of itself."""
        name = chunk.path_in_schema
        if rows == 0 and chunk.num_values == 0:
            return 0
        size = self.content.file_bytes
        starts = [chunk.data_page_offset]
        if chunk.has_dictionary_page and chunk.dictionary_page_offset:
            starts.append(chunk.dictionary_page_offset)
        if chunk.compression not in _CODECS:
            raise self.error(f"uses the compression {chunk.compression}", field=name)
        inside = all(0 < s < size for s in starts)
        if not inside or not 0 <= chunk.total_compressed_size <= size - min(starts):
            raise self.error("the column's data lie outside the file", field=name)
        if (
            chunk.total_uncompressed_size < 0
            or not 0 <= chunk.num_values <= self.limits.max_numbers
        ):
            raise self.error("the column claims an impossible size", field=name)
        if "." not in name and chunk.num_values != rows:
            raise self.error("the column and its row group disagree about the rows", field=name)
        return int(chunk.total_uncompressed_size)

    def number_of_rows(self) -> int | None:
        self._open()
        return int(self._file.metadata.num_rows)

    def head(self, rows: int) -> pa.Table:
        names = self._readable()
        self._unfolded = 0
        for batch in self._iterate(names, rows):
            first = next(self._bounded(self._checked(batch, 0)), batch)
            return pa.Table.from_batches([first])
        return self.schema.empty_table().select(names)

    def _readable(self) -> list[str]:
        self._open()
        return [f.name for f in self.schema if is_readable(f.type)]

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        self._open()
        total = max(1, self._file.metadata.num_rows)
        groups = self._file.metadata
        unpacked = sum(groups.row_group(g).total_byte_size for g in range(groups.num_row_groups))
        step = max(1, min(_BATCH_ROWS, _BATCH_BYTES * total // max(1, unpacked)))
        rows = self._unfolded = 0
        for batch in self._iterate(wanted, step):
            before, rows = rows, rows + batch.num_rows
            if rows > total:
                raise self.error("holds more rows than its footer says")
            done = self.content.file_bytes * rows // total
            for piece in self._bounded(self._checked(batch, before)):
                yield Batch(piece, self.part.name, before, done)
                before += piece.num_rows
        if rows != self._file.metadata.num_rows:
            raise self.error("holds fewer rows than its footer says")

    def _iterate(self, names: Sequence[str], step: int) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._file.iter_batches(
                batch_size=step, columns=list(names), use_threads=False
            ):
                yield batch.select(list(names))
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, pa.ArrowMemoryError):
                raise
            raise self._refused(error) from error


class ArrowReader(ColumnarReader):
    """Arrow files and streams, such as the shards of a saved Hugging Face dataset."""

    format = "arrow"

    def _open(self) -> None:
        if not hasattr(self, "schema"):
            with pa.memory_map(str(self.part.path)) as source:
                self.schema = self._reader(source).schema

    def _reader(self, source: pa.NativeFile) -> pa.RecordBatchReader:
        try:
            if source.read(6) == b"ARROW1":
                source.seek(0)
                opened = pa.ipc.open_file(source)
                if opened.num_record_batches > self.limits.max_row_groups:
                    raise self.error(f"has more than {self.limits.max_row_groups:,} batches")
                numbers = range(opened.num_record_batches)
                batches = (opened.get_batch(k) for k in numbers)
                return pa.RecordBatchReader.from_batches(opened.schema, batches)
            source.seek(0)
            return pa.ipc.open_stream(source)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._refused(error) from error

    def head(self, rows: int) -> pa.Table:
        self._open()
        names = [f.name for f in self.schema if is_readable(f.type)]
        for batch in self._iterate(names):
            first = next(self._bounded(self._checked(batch.slice(0, rows), 0)), batch)
            return pa.Table.from_batches([first])
        return self.schema.empty_table().select(names)

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        self._open()
        rows = self._unfolded = 0
        for whole in self._iterate(wanted):
            if rows + whole.num_rows > self.limits.max_rows:
                raise self.error(f"has more than {self.limits.max_rows:,} rows")
            self._checked(whole, rows)
            step = max(1, min(_BATCH_ROWS, _BATCH_BYTES * len(whole) // max(1, whole.nbytes)))
            for start in range(0, whole.num_rows, step):
                for piece in self._bounded(whole.slice(start, step)):
                    yield Batch(piece, self.part.name, rows, self._position)
                    rows += piece.num_rows

    def _iterate(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(self.part.path)) as source:
            try:
                for batch in self._reader(source):
                    self._position = source.tell()
                    yield batch.select(list(names))
            except (pa.ArrowException, OSError, ValueError) as error:
                if isinstance(error, pa.ArrowMemoryError):
                    raise
                raise self._refused(error) from error


def _class_names(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Class names of Hugging Face's ClassLabel columns, from the schema's `huggingface`
    metadata."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None or len(text) > 1024 * 1024:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
        return {
            str(column): tuple(str(name) for name in feature["names"])
            for column, feature in features.items()
            if isinstance(feature, dict)
            and feature.get("_type") == "ClassLabel"
            and isinstance(feature.get("names"), list)
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
