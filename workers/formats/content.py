"""What a file is, decided by its bytes, and streams that stop at a limit; nothing here parses
rows."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workers.formats.errors import FormatError
from workers.formats.limits import DatasetLimits

CHUNK_BYTES = 4 * 1024 * 1024
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive (or a spreadsheet or torch file, which are zip archives)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"PARE", "an encrypted Parquet file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"%PDF", "a PDF file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x7fELF", "a program"),
    (b"\x89HDF", "an HDF5 file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"#!", "a script"),
    (b"{\\rtf", "a rich-text document"),
)
_MARKUP = re.compile(rb"^\s*<(\?xml|!doctype|html)", re.IGNORECASE)
_ACCEPTED = "use CSV, TSV, JSON Lines, a JSON array, Parquet or Arrow"


@dataclass(frozen=True)
class DatasetPart:
    """One uploaded file: where the service stored it, and the name it came with.

    The name is shown in messages and says which split a shard belongs to; it is never used as a
    path.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Content:
    """`format` is "parquet", "arrow", "json" (an array), "jsonl" or "delimited"."""

    format: str
    compression: str | None
    file_bytes: int


def detect_content(part: DatasetPart, limits: DatasetLimits) -> Content:
    """Decide the format from the bytes alone; raises FormatError for anything that is not a
    dataset."""
    size = part.path.stat().st_size
    if size == 0:
        raise FormatError(part.name, rule="the file is empty")
    if size > limits.max_file_bytes:
        raise FormatError(
            part.name,
            rule=f"the file has {size:,} bytes; at most {limits.max_file_bytes:,} are read",
        )
    with part.path.open("rb") as stream:
        head = stream.read(65_536)
    compression = None
    if head.startswith(b"\x1f\x8b"):
        compression = "gzip"
        head = next(byte_chunks(part, "gzip", limits, chunk_bytes=65_536), b"")
        if head[:4] == b"PAR1" or head[:6] == b"ARROW1" or head[:2] == b"\x1f\x8b":
            raise FormatError(
                part.name, rule="only text may be gzip-compressed; upload it unpacked"
            )
    return Content(_format_of(head, part.name), compression, size)


def _format_of(head: bytes, name: str) -> str:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1") or head.startswith(b"\xff\xff\xff\xff"):
        return "arrow"
    for magic, what in _REFUSED:
        if head.startswith(magic):
            raise FormatError(name, rule=f"this is {what}; {_ACCEPTED}")
    if re.match(rb"\x80[\x02-\x05]", head):
        raise FormatError(name, rule=f"this is a pickle, which is never opened; {_ACCEPTED}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FormatError(name, rule="the text is UTF-16; save it as UTF-8")
    text = head.removeprefix(codecs.BOM_UTF8)
    if _MARKUP.match(text):
        raise FormatError(name, rule=f"this is an HTML or XML page; {_ACCEPTED}")
    stripped = text.lstrip(b" \t\r\n")
    if not stripped:
        if len(text) < 65_536:
            raise FormatError(name, rule="the file holds nothing but blank lines")
        raise FormatError(name, rule="the file begins with more than 64 KiB of blank space")
    return {b"{": "jsonl", b"[": "json"}.get(stripped[:1], "delimited")


def byte_chunks(
    part: DatasetPart,
    compression: str | None,
    limits: DatasetLimits,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[bytes]:
    """The unpacked bytes of a text file, a chunk at a time, without a leading byte order mark.

    Raises FormatError past `max_uncompressed_bytes`, on broken gzip data, and on NUL bytes.
    """
    total = lines = 0
    with _open(part.path, compression) as stream:
        while True:
            try:
                chunk = stream.read(chunk_bytes)
            except (OSError, EOFError, zlib.error) as error:
                if compression is None:
                    raise
                raise FormatError(
                    part.name, rule="the gzip data are damaged or cut short"
                ) from error
            if not chunk:
                return
            if total == 0:
                chunk = chunk.removeprefix(codecs.BOM_UTF8)
            total += len(chunk)
            if total > limits.max_uncompressed_bytes:
                raise FormatError(
                    part.name,
                    rule=f"holds more than {limits.max_uncompressed_bytes:,} bytes once unpacked",
                )
            zero = chunk.find(b"\0")
            if zero >= 0:
                line = lines + chunk.count(b"\n", 0, zero) + 1
                raise FormatError(
                    part.name, rule=f"line {line:,} holds a NUL byte; the file must be UTF-8 text"
                )
            lines += chunk.count(b"\n")
            yield chunk


def _open(path: Path, compression: str | None) -> BinaryIO:
    if compression == "gzip":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


class CheckedTextStream(io.RawIOBase):
    """A readable file over `byte_chunks` that also checks UTF-8, for parsers that want a file."""

    def __init__(self, part: DatasetPart, compression: str | None, limits: DatasetLimits) -> None:
        super().__init__()
        self._name = part.name
        self._chunks = byte_chunks(part, compression, limits)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._buffer = memoryview(b"")
        self._lines = 0
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._buffer:
            chunk = next(self._chunks, b"")
            check_utf8(chunk, self._decoder, self._name, self._lines, final=not chunk)
            self._lines += chunk.count(b"\n")
            self.bytes_read += len(chunk)
            self._buffer = memoryview(chunk)
        count = min(len(target), len(self._buffer))
        target[:count] = self._buffer[:count]
        self._buffer = self._buffer[count:]
        return count


def check_utf8(
    chunk: bytes, decoder: codecs.IncrementalDecoder, name: str, lines_before: int, final: bool
) -> None:
    """Raise FormatError naming the line where `chunk` stops being UTF-8."""
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        line = lines_before + chunk.count(b"\n", 0, error.start) + 1
        raise FormatError(
            name, row=line, rule=f"line {line:,} is not UTF-8 text; save the file as UTF-8"
        ) from error
