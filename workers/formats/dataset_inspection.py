"""A first look at an upload: format, columns, a preview, and a suggested mapping; reads only the
head."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from workers.formats.column_mapping import ColumnMapping, suggest_mapping
from workers.formats.content import DatasetPart
from workers.formats.conversion import (
    as_text,
    is_number_list,
    is_numeric,
    is_readable,
    is_text,
)
from workers.formats.dataset_reader import SPLIT_FROM_NAME, DatasetReader
from workers.formats.limits import DatasetLimits
from workers.formats.rules import Place

PREVIEW_ROWS = 20
PREVIEW_CHARACTERS = 300
_SAMPLE_ROWS = 1_000
_BOOLEANS = {"true", "false"}


@dataclass(frozen=True)
class ColumnDescription:
    """`type` is "text", "category", "integer", "number", "boolean", "numbers" (lists), "messages"
    or "other" (cannot be read); the counts are of the first 1,000 rows."""

    name: str
    type: str
    distinct: int
    missing: int
    examples: list[str]
    list_length: int | None = None


@dataclass(frozen=True)
class DatasetInspection:
    """`rows` is None where it is not known without reading everything. `preview` holds rows of
    texts, in the order of `columns`, cut to 300 characters; None where a value is missing."""

    format: str
    compression: str | None
    files: int
    file_bytes: int
    rows: int | None
    columns: list[ColumnDescription]
    preview: list[list[str | None]]
    suggested_mapping: ColumnMapping | None
    sampled_rows: int

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        mapping = self.suggested_mapping
        value["suggested_mapping"] = None if mapping is None else mapping.to_json()
        return value


def inspect_dataset(path: Path, file_name: str, limits: DatasetLimits) -> DatasetInspection:
    """Look at one uploaded file; raises FormatError when it is not a dataset that can be read."""
    return inspect_parts([DatasetPart(path, file_name)], limits)


def inspect_parts(parts: Sequence[DatasetPart], limits: DatasetLimits) -> DatasetInspection:
    """`inspect_dataset` for an upload of several files."""
    reader = DatasetReader(parts, limits, full=False)
    first = reader.readers[0]
    table = first.head(_SAMPLE_ROWS)
    if not table.num_rows:
        raise first.error("the file holds no rows")
    if reader.splits is not None:
        table = table.append_column(
            SPLIT_FROM_NAME, pa.array([reader.splits[0]] * table.num_rows, pa.string())
        )
    columns: list[ColumnDescription] = []
    texts: list[list[str | None]] = []
    for name in reader.names:
        if name not in table.column_names:
            columns.append(ColumnDescription(name, "other", 0, 0, []))
            texts.append([None] * min(PREVIEW_ROWS, table.num_rows))
            continue
        values = table[name].combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks)
        text = as_text(
            values,
            name,
            Place(first.part.name, 0),
            limits.max_row_bytes,
            reader.class_names.get(name),
        )
        columns.append(_describe(name, values, text))
        texts.append([_shortened(v) for v in text.slice(0, PREVIEW_ROWS).to_pylist()])
    return DatasetInspection(
        format=first.format,
        compression=first.content.compression,
        files=len(reader.readers),
        file_bytes=sum(r.content.file_bytes for r in reader.readers),
        rows=reader.number_of_rows(),
        columns=columns,
        preview=[list(row) for row in zip(*texts, strict=True)],
        suggested_mapping=suggest_mapping({c.name: c.type for c in columns}),
        sampled_rows=table.num_rows,
    )


def _shortened(value: str | None) -> str | None:
    if value is None or len(value) <= PREVIEW_CHARACTERS:
        return value
    return value[: PREVIEW_CHARACTERS - 1] + "…"


def _describe(name: str, values: pa.Array, text: pa.Array) -> ColumnDescription:
    filled = text.filter(pc.fill_null(pc.not_equal(text, ""), False))
    distinct = pc.unique(filled)
    kind, length = _type_of(values, filled, len(distinct))
    return ColumnDescription(
        name=name,
        type=kind,
        distinct=len(distinct),
        missing=len(text) - len(filled),
        examples=[_shortened(v) or "" for v in distinct[:5].to_pylist()],
        list_length=length,
    )


def _type_of(values: pa.Array, filled: pa.Array, distinct: int) -> tuple[str, int | None]:
    kind = values.type
    if not is_readable(kind):
        return "other", None
    if is_number_list(kind):
        return "numbers", _flat_length(json.loads(filled[0].as_py())) if len(filled) else None
    if not len(filled):
        return "text", None
    if pa.types.is_boolean(kind):
        return "boolean", None
    if is_numeric(kind) and not pa.types.is_dictionary(kind):
        # A class column with names from the schema reads as text.
        if _castable(filled, pa.float64()):
            return ("integer" if pa.types.is_integer(kind) else "number"), None
        return "category", None
    return _type_of_text(filled, distinct, is_text(kind) or pa.types.is_dictionary(kind))


def _type_of_text(filled: pa.Array, distinct: int, plain: bool) -> tuple[str, int | None]:
    if (found := _list_type(filled[0].as_py())) is not None:
        return found
    if plain:
        if set(pc.unique(pc.utf8_lower(filled)).to_pylist()[:3]) <= _BOOLEANS:
            return "boolean", None
        if _castable(filled, pa.int64()):
            return "integer", None
        if _castable(filled, pa.float64()):
            return "number", None
    longest = pc.max(pc.utf8_length(filled)).as_py()
    few = distinct <= max(2, min(100, len(filled) // 3))
    return ("category" if few and longest <= 80 else "text"), None


def _list_type(text: str) -> tuple[str, int | None] | None:
    """The type of a column whose first value is a list written as JSON; None for others."""
    if not text.lstrip().startswith("["):
        return None
    try:
        parsed = json.loads(text)
        length = _flat_length(parsed)
    except (ValueError, RecursionError):
        return None
    if not parsed:
        return None
    if isinstance(parsed[0], dict):
        keys = parsed[0].keys()
        chat = {"role", "content"} <= keys or {"from", "value"} <= keys
        return ("messages", None) if chat else None
    return None if length is None else ("numbers", length)


def _castable(values: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _flat_length(value: Any) -> int | None:
    """Numbers in nested lists, or None where something else stands in them."""
    if isinstance(value, bool) or not isinstance(value, (int, float, list)):
        return None
    if not isinstance(value, list):
        return 1
    lengths = [_flat_length(item) for item in value]
    return None if None in lengths else sum(length or 0 for length in lengths)
