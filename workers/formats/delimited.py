"""CSV and TSV: dialect by content, header checked first, rows streamed by Arrow as text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.csv as pa_csv

from workers.formats.content import CheckedTextStream, byte_chunks
from workers.formats.errors import FormatError
from workers.formats.readers import Batch, Columns, TableReader
from workers.formats.rules import check_column_names

_HEAD_BYTES = 1024 * 1024
_DELIMITERS = (",", "\t", ";", "|")


class DelimitedReader(TableReader):
    """Rows of a CSV-like file; the first line names the columns."""

    format = "csv"

    def columns(self) -> Columns:
        head = self._head_text()
        self._delimiter = self._choose_delimiter(head)
        self.format = "tsv" if self._delimiter == "\t" else "csv"
        header = next(self._records(head), [])
        if len(header) > self.limits.max_columns:
            raise self.error(f"has more than {self.limits.max_columns:,} columns")
        self._header = header
        names = [n.strip() or f"unnamed_{k}" for k, n in enumerate(header, start=1)]
        check_column_names(names, self.part.name, self.limits)
        return Columns(tuple(names))

    def _head_text(self) -> str:
        chunk = next(
            byte_chunks(self.part, self.content.compression, self.limits, _HEAD_BYTES), b""
        )
        try:
            return chunk.decode("utf-8")
        except UnicodeDecodeError as error:
            if len(chunk) - error.start < 4 and error.reason == "unexpected end of data":
                return chunk[: error.start].decode("utf-8")
            line = chunk.count(b"\n", 0, error.start) + 1
            raise self.error(
                f"line {line:,} is not UTF-8 text; save the file as UTF-8", row=line
            ) from error

    def _records(self, head: str, delimiter: str | None = None) -> Iterator[list[str]]:
        reader = csv.reader(
            io.StringIO(head.lstrip("\r\n"), newline=""), delimiter=delimiter or self._delimiter
        )
        try:
            for record in reader:
                if record:
                    yield record
        except csv.Error:
            raise self.error(
                "a field in the first rows is longer than 128 KiB, or a quote is never closed"
            ) from None

    def _choose_delimiter(self, head: str) -> str:
        """The delimiter that gives the most columns, the same number in each of the first
        records."""
        best, most = ",", 1
        for delimiter in _DELIMITERS:
            counts: list[int] = []
            try:
                for record in self._records(head, delimiter):
                    counts.append(len(record))
                    if len(counts) == 20:
                        break
            except FormatError:
                pass
            complete = counts[:-1] if len(counts) > 2 else counts[:1]
            agreeing = complete.count(counts[0]) / len(complete) if complete else 0.0
            if counts and counts[0] > most and agreeing >= 0.5:
                best, most = delimiter, counts[0]
        return best

    def head(self, rows: int) -> pa.Table:
        names = self.columns().names
        records = []
        for number, record in enumerate(self._records(self._head_text())):
            if number == 0:
                continue
            if len(record) == len(names):
                records.append(record)
            if len(records) == rows:
                break
        columns = zip(*records, strict=True) if records else ([] for _ in names)
        return pa.table([pa.array(c, pa.string()) for c in columns], names=list(names))

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        names = self.columns().names
        ragged: list[pa_csv.InvalidRow] = []

        def remember(row: pa_csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        stream = CheckedTextStream(self.part, self.content.compression, self.limits)
        rows = 0
        try:
            for record_batch in self._open(stream, remember):
                table = record_batch.rename_columns(list(names)).select(list(wanted))
                yield Batch(table, self.part.name, rows, stream.bytes_read)
                rows += record_batch.num_rows
                if rows > self.limits.max_rows:
                    raise self.error(f"has more than {self.limits.max_rows:,} rows")
        except pa.ArrowInvalid as error:
            raise self._explained(error, ragged, rows) from error

    def _open(self, stream: CheckedTextStream, remember: object) -> pa_csv.CSVStreamingReader:
        return pa_csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=pa_csv.ReadOptions(
                use_threads=False, block_size=self.limits.max_row_bytes
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.string() for name in self._header},
                strings_can_be_null=False,
                check_utf8=False,  # the stream has checked it
            ),
        )

    def _explained(
        self, error: pa.ArrowInvalid, ragged: list[pa_csv.InvalidRow], rows: int
    ) -> FormatError:
        if ragged:
            row = ragged[0]
            number = row.number - 1 if row.number is not None else None
            return self.error(
                f"has {row.actual_columns:,} fields where the header has {row.expected_columns:,}",
                row=number,
            )
        if "straddl" in str(error) or "block" in str(error):
            return self.error(
                f"a row has over {self.limits.max_row_bytes:,} bytes, or a quote is never closed",
                row=rows + 1,
            )
        return self.error("the rows could not be read as CSV", row=rows + 1)
