"""The header of a safetensors file, checked in full before any library reads the file."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.formats.errors import FormatError
from workers.formats.models_json import parse_json_object

BYTES_OF_DTYPE = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
MOST_DIMENSIONS = 8
LONGEST_NAME = 256


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header describes it; offsets are bytes after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def number_of_elements(self) -> int:
        return math.prod(self.shape)


def read_safetensors_header(
    path: Path, file: str, *, largest_header: int, most_tensors: int
) -> list[TensorEntry]:
    """Every tensor of the file, in the order of its bytes.

    Raises FormatError unless the header is JSON of bounded size and depth, every dtype is known,
    every shape fills exactly its bytes, and the tensors cover the rest of the file without gap or
    overlap. Reads the header only.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise FormatError(file=file, rule="too short to be a safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > size - 8:
            raise not_safetensors(start, file, "its header would end after the file")
        if length > largest_header:
            raise FormatError(file=file, rule=f"the header is larger than {largest_header} bytes")
        content = stream.read(length)
    if not content.startswith(b"{"):
        raise not_safetensors(start, file, "its header is not a JSON object")
    header = parse_json_object(content, file, deepest=4)
    check_metadata(header.pop("__metadata__", {}), file)
    if len(header) > most_tensors:
        raise FormatError(file=file, rule=f"holds more than {most_tensors} tensors")
    entries = [tensor_entry(name, value, file) for name, value in header.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    check_coverage(entries, size - 8 - length, file)
    return entries


def not_safetensors(start: bytes, file: str, reason: str) -> FormatError:
    """The refusal of a file whose first eight bytes are `start`, naming the usual disguises."""
    kind = None
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        kind = "a zip archive (such as a PyTorch pickle checkpoint)"
    elif start[0] == 0x80 and 2 <= start[1] <= 5:
        kind = "a Python pickle"
    elif start.startswith(b"\x1f\x8b"):
        kind = "a gzip archive"
    elif start.startswith(b"\x89HDF"):
        kind = "an HDF5 file"
    elif start.startswith(b"GGUF"):
        kind = "a GGUF file"
    if kind is None:
        return FormatError(file=file, rule=f"not a safetensors file: {reason}")
    return FormatError(
        file=file, rule=f"not a safetensors file but {kind}; only safetensors weights are read"
    )


def check_metadata(metadata: object, file: str) -> None:
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise FormatError(file=file, field="__metadata__", rule="must map texts to texts")


def tensor_entry(name: str, value: Any, file: str) -> TensorEntry:
    def refuse(rule: str) -> FormatError:
        return FormatError(file=file, field=name, rule=rule)

    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise refuse(f"a tensor's name must be 1 to {LONGEST_NAME} printable characters")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise refuse("a tensor needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES_OF_DTYPE:
        raise refuse(f"the dtype must be one of {', '.join(BYTES_OF_DTYPE)}")
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(map(natural, shape)):
        raise refuse(f"the shape must be at most {MOST_DIMENSIONS} whole numbers from 0 up")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(natural, offsets)):
        raise refuse("data_offsets must be two whole numbers from 0 up")
    begin, end = offsets
    if math.prod(shape) * BYTES_OF_DTYPE[dtype] != end - begin:
        raise refuse("shape and dtype do not fill the bytes that data_offsets claim")
    return TensorEntry(name, dtype, tuple(shape), begin, end)


def natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def check_coverage(entries: list[TensorEntry], available: int, file: str) -> None:
    place = 0
    for entry in entries:
        if entry.begin < place:
            raise FormatError(file=file, field=entry.name, rule="overlaps another tensor")
        if entry.begin > place:
            raise FormatError(file=file, field=entry.name, rule="leaves a gap before its bytes")
        if entry.end > available:
            raise FormatError(file=file, field=entry.name, rule="ends after the end of the file")
        place = entry.end
    if place != available:
        raise FormatError(file=file, rule=f"{available - place} bytes belong to no tensor")


def check_index(index: Mapping[str, Any], where: Mapping[str, str], file: str) -> None:
    """An index must name exactly the tensors that exist, each with its shard."""
    mapping = index.get("weight_map")
    if not isinstance(mapping, dict):
        raise FormatError(file=file, field="weight_map", rule="must be an object")
    for tensor, shard in mapping.items():
        if where.get(tensor) != shard:
            raise FormatError(file=file, field=tensor, rule="is not in the shard the index names")
    for tensor in where:
        if tensor not in mapping:
            raise FormatError(file=file, field=tensor, rule="is missing from the index")
