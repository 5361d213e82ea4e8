"""JSON Lines and JSON arrays: lines cut with NumPy, parsed by DuckDB, depth and length checked
before."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.formats.annotation_exports import recognise, unfold
from workers.formats.content import byte_chunks, check_utf8
from workers.formats.conversion import engine, query
from workers.formats.readers import Batch, Columns, TableReader
from workers.formats.rules import check_column_names, first_true
from workers.formats.text_keys import string_bytes

_KEYS = """
WITH lists AS (
    SELECT json_keys(line) AS names, min(number) AS number FROM batch GROUP BY names
)
SELECT name, min(number * 100000 + place) AS place,
       min(CASE WHEN len(list_filter(names, lambda other: other = name)) > 1 THEN number END)
           AS repeated
FROM (
    SELECT unnest(names) AS name, generate_subscripts(names, 1) AS place, number, names
    FROM lists
) GROUP BY name ORDER BY place LIMIT {limit}
"""


class JsonLinesReader(TableReader):
    """One JSON object a line. All values arrive as text: numbers as written, lists and objects as
    JSON."""

    format = "jsonl"

    def columns(self) -> Columns:
        """Every field name of every line, in order of first appearance."""
        names: dict[str, None] = {}
        with engine() as connection:
            for lines, row, _ in self._line_batches():
                for name in self._names_in(connection, lines, row):
                    names.setdefault(name)
                if len(names) > self.limits.max_columns:
                    raise self.error(f"has more than {self.limits.max_columns:,} different fields")
        check_column_names(list(names), self.part.name, self.limits)
        if not names:
            raise self.error("the file holds no rows")
        return Columns(tuple(names))

    def head(self, rows: int) -> pa.Table:
        with engine() as connection:
            for lines, _, _ in self._line_batches(chunk_bytes=1024 * 1024):
                lines = lines.slice(0, rows)
                names = list(self._names_in(connection, lines, 0))
                check_column_names(names, self.part.name, self.limits)
                return pa.Table.from_batches([self._parse(connection, lines, names, 0)])
        raise self.error("the file holds no rows")

    def batches(self, wanted: Sequence[str]) -> Iterator[Batch]:
        with engine() as connection:
            for lines, row, done in self._line_batches():
                yield Batch(self._parse(connection, lines, wanted, row), self.part.name, row, done)

    def _names_in(
        self, connection: duckdb.DuckDBPyConnection, lines: pa.Array, row: int
    ) -> list[str]:
        table = pa.table({"line": lines, "number": np.arange(row, row + len(lines))})
        sql = _KEYS.format(limit=self.limits.max_columns + 1)
        try:
            found = query(connection, sql, table)
            empty = query(
                connection,
                "SELECT min(number) AS n FROM batch WHERE len(json_keys(line)) = 0",
                table,
            )["n"][0].as_py()
        except duckdb.Error as error:
            raise self._first_malformed(connection, table, error) from error
        if empty is not None:
            raise self.error("the line is not a JSON object with fields", row=empty + 1)
        if (at := first_true(found["repeated"].is_valid().combine_chunks())) is not None:
            name, number = found["name"][at].as_py(), found["repeated"][at].as_py()
            raise self.error("a field stands twice in one line", field=name, row=number + 1)
        return [str(name) for name in found["name"].to_pylist()]

    def _first_malformed(
        self, connection: duckdb.DuckDBPyConnection, table: pa.Table, error: Exception
    ) -> Exception:
        sql = "SELECT min(number) AS n FROM batch WHERE NOT json_valid(line)"
        number = query(connection, sql, table)["n"][0].as_py()
        row = None if number is None else number + 1
        reason = str(error).split("of input: ")[-1].split(".")[0].strip()[:80]
        return self.error(f"the line is not valid JSON ({reason})", row=row)

    def _parse(
        self, connection: duckdb.DuckDBPyConnection, lines: pa.Array, names: Sequence[str], row: int
    ) -> pa.RecordBatch:
        structure = json.dumps(dict.fromkeys(names, "VARCHAR")).replace("'", "''")
        # The names come from the upload: inside the literal, every apostrophe is doubled.
        sql = f"SELECT json_transform(line, '{structure}') AS fields FROM batch"  # noqa: S608
        fields = query(connection, sql, pa.table({"line": lines}))["fields"].combine_chunks()
        columns = [c.cast(pa.string()) for c in fields.flatten()]
        return pa.RecordBatch.from_arrays(columns, names=list(names))

    def _line_batches(
        self, chunk_bytes: int = 4 * 1024 * 1024
    ) -> Iterator[tuple[pa.Array, int, int]]:
        """Non-blank lines as a string array, rows before them, and bytes read so far."""
        rows = done = 0
        unfolding: str | None = None
        for block in self._whole_lines(chunk_bytes):
            done += len(block)
            lines = self._cut(block)
            if not len(lines):
                continue
            if rows == 0:
                unfolding = recognise(lines[0].as_py())
            self._check_nesting(lines, rows)
            if unfolding:
                lines = unfold(lines, unfolding, self.part.name, rows)
            yield lines, rows, done
            rows += len(lines)
            if rows > self.limits.max_rows:
                raise self.error(f"has more than {self.limits.max_rows:,} rows")

    def _whole_lines(self, chunk_bytes: int) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        pending: list[bytes] = []
        size = lines = 0
        for chunk in byte_chunks(self.part, self.content.compression, self.limits, chunk_bytes):
            check_utf8(chunk, decoder, self.part.name, lines, final=False)
            lines += chunk.count(b"\n")
            end = chunk.rfind(b"\n") + 1
            if end:
                yield b"".join([*pending, chunk[:end]])
                pending, size = [], 0
            pending.append(chunk[end:])
            size += len(chunk) - end
            if size > self.limits.max_row_bytes:
                raise self.error(
                    f"line {lines + 1:,} is longer than {self.limits.max_row_bytes:,} bytes",
                    row=lines + 1,
                )
        check_utf8(b"", decoder, self.part.name, lines, final=True)
        if size:
            yield b"".join(pending)

    def _cut(self, block: bytes) -> pa.Array:
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == 10) + 1
        if not len(ends) or ends[-1] != len(data):
            ends = np.append(ends, len(data))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(block))
        short = np.diff(offsets) <= 2
        if short.any():
            blank = pc.equal(pc.utf8_trim_whitespace(lines), "")
            lines = lines.filter(pc.invert(blank))
        return lines

    def _check_nesting(self, lines: pa.Array, rows: int) -> None:
        """Refuse deep nesting before a parser sees it: lines with few brackets pass at once, the
        others are measured outside their strings."""
        offsets, data = string_bytes(lines)
        limit = self.limits.max_nesting
        opening = (data == ord("[")) | (data == ord("{"))
        counts = np.diff(np.searchsorted(np.flatnonzero(opening), offsets))
        suspicious = np.flatnonzero(counts > limit)
        if not len(suspicious) or deepest_nesting(data) <= limit:
            return
        for index in suspicious:
            start, end = int(offsets[index]), int(offsets[index + 1])
            if deepest_nesting(data[start:end]) > limit:
                raise self.error(
                    f"is nested more than {limit} levels deep", row=rows + int(index) + 1
                )


def deepest_nesting(line: np.ndarray) -> int:
    """Greatest depth of brackets outside strings in the UTF-8 bytes (L,) of JSON documents in a
    row."""
    structural = np.flatnonzero(np.isin(line, np.frombuffer(b'"\\[]{}', np.uint8)))
    kinds = line[structural]
    backslash = kinds == ord("\\")
    # A quote is escaped by an odd run of backslashes that ends right before it.
    position = np.arange(len(kinds))
    breaks = np.ones(len(kinds), bool)
    breaks[1:] = ~backslash[1:] | ~backslash[:-1] | (np.diff(structural) != 1)
    run_start = np.maximum.accumulate(np.where(breaks, position, 0))
    run_length = np.where(backslash, position - run_start + 1, 0)
    adjacent = np.zeros(len(kinds), bool)
    adjacent[1:] = np.diff(structural) == 1
    escaped = adjacent & (np.concatenate([[0], run_length[:-1]]) % 2 == 1)
    quote = (kinds == ord('"')) & ~escaped
    outside = np.cumsum(quote) % 2 == 0
    steps = np.isin(kinds, np.frombuffer(b"[{", np.uint8)).astype(np.int64)
    steps -= np.isin(kinds, np.frombuffer(b"]}", np.uint8))
    return int(np.cumsum(steps * outside).max(initial=0))


class JsonArrayReader(JsonLinesReader):
    """A JSON array of objects, which must be small enough to hold in memory; read as lines."""

    format = "json"

    def _whole_lines(self, chunk_bytes: int) -> Iterator[bytes]:
        limit = self.limits.max_json_array_bytes
        chunks: list[bytes] = []
        size = 0
        for chunk in byte_chunks(self.part, self.content.compression, self.limits):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise self.error(f"a JSON array has at most {limit:,} bytes; use JSON Lines")
        document = b"".join(chunks)
        decoder = codecs.getincrementaldecoder("utf-8")()
        check_utf8(document, decoder, self.part.name, 0, final=True)
        if deepest_nesting(np.frombuffer(document, np.uint8)) > self.limits.max_nesting:
            raise self.error(f"is nested more than {self.limits.max_nesting} levels deep")
        with engine() as connection:
            try:
                items = query(
                    connection,
                    "SELECT unnest(CAST(document AS JSON[])) AS line FROM batch",
                    pa.table({"document": pa.array([document.decode()])}),
                )["line"]
            except duckdb.Error as error:
                reason = str(error).split("of input: ")[-1].split(".")[0].strip()[:80]
                raise self.error(f"the file is not a valid JSON array ({reason})") from error
        if not len(items):
            raise self.error("the JSON array is empty")
        step = 16_384
        for start in range(0, len(items), step):
            piece = items.slice(start, step).to_pylist()
            yield "".join(f"{item or 'null'}\n" for item in piece).encode()
