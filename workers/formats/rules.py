"""Rules of single columns, checked a batch at a time: characters, lengths, missing and broken
numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.formats.errors import FormatError
from workers.formats.limits import DatasetLimits

# Control characters (C0, DEL, C1), line and paragraph separators, and the characters that reorder
# or hide text on a page: bidirectional marks, embeddings, overrides and isolates, and zero-width
# spaces.
_UNSAFE_RANGES = (
    r"\x00-\x1F\x7F-\x{9F}\x{200B}\x{200E}\x{200F}\x{2028}\x{2029}\x{202A}-\x{202E}"
    r"\x{2060}\x{2066}-\x{2069}\x{FEFF}"
)
UNSAFE_IN_NAMES = f"[{_UNSAFE_RANGES}]"
_UNSAFE_PYTHON = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)


@dataclass(frozen=True)
class Place:
    """Where a batch lies: the file, and the number of rows of that file before it."""

    file: str
    first_row: int

    def error(self, index: int, field: str | None, rule: str) -> FormatError:
        return FormatError(self.file, self.first_row + index + 1, field, rule)


def first_true(mask: pa.Array | np.ndarray) -> int | None:
    """Index of the first true entry, or None."""
    if isinstance(mask, (pa.Array, pa.ChunkedArray)):
        mask = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    where = int(np.argmax(mask)) if len(mask) else 0
    return where if len(mask) and bool(mask[where]) else None


def check_column_names(names: Sequence[str], file: str, limits: DatasetLimits) -> None:
    """Raise FormatError for too many, empty, too long, unsafe or (regardless of case) repeated
    names."""
    if len(names) > limits.max_columns:
        raise FormatError(
            file, rule=f"has {len(names):,} columns; at most {limits.max_columns:,} are read"
        )
    seen: dict[str, str] = {}
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise FormatError(file, rule=f"column {position} has no name")
        if len(name) > limits.max_column_name_characters:
            raise FormatError(
                file,
                field=name,
                rule=f"a column name has at most {limits.max_column_name_characters} characters",
            )
        if _UNSAFE_PYTHON.search(name) or not _encodable(name):
            raise FormatError(
                file, field=name, rule="a column name holds no control or text-direction characters"
            )
        other = seen.get(name.casefold())
        if other is not None:
            rule = "stands twice" if other == name else f"differs from '{other}' only in case"
            raise FormatError(file, field=name, rule=f"the column {rule}")
        seen[name.casefold()] = name


def _encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(
    values: pa.Array, field: str, place: Place, max_bytes: int, *, required: bool
) -> None:
    """Free text: present and not blank when `required`, no NUL, at most `max_bytes` bytes of
    UTF-8."""
    if required:
        blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)
        if (at := first_true(blank)) is not None:
            raise place.error(at, field, "the text is empty")
    if (at := first_true(pc.greater(pc.binary_length(values), max_bytes))) is not None:
        size = pc.binary_length(values)[at].as_py()
        raise place.error(at, field, f"has {size:,} bytes; at most {max_bytes:,} are allowed")
    if (at := first_true(pc.match_substring(values, "\0"))) is not None:
        raise place.error(at, field, "holds a NUL character")


def check_name(
    values: pa.Array, field: str, place: Place, max_characters: int, *, what: str
) -> None:
    """Ids and labels: present, short, and free of characters that a page could not show safely."""
    if (at := first_true(pc.fill_null(pc.equal(values, ""), True))) is not None:
        raise place.error(at, field, f"the {what} is missing")
    if (at := first_true(pc.greater(pc.utf8_length(values), max_characters))) is not None:
        raise place.error(at, field, f"the {what} has more than {max_characters} characters")
    if (at := first_true(pc.match_substring_regex(values, UNSAFE_IN_NAMES))) is not None:
        raise place.error(
            at, field, f"the {what} holds a control, invisible or text-direction character"
        )


def check_finite(
    matrix: np.ndarray, fields: Sequence[str], place: Place, *, what: str = "value"
) -> None:
    """`matrix` (N, D) must be finite; `fields` holds D names or one name for all columns."""
    finite = np.isfinite(matrix)
    if finite.all():
        return
    row, column = (int(k) for k in np.argwhere(~finite)[0])
    field = fields[column] if len(fields) == matrix.shape[1] else f"{fields[0]}[{column}]"
    value = matrix[row, column]
    kind = "NaN (not a number)" if np.isnan(value) else "infinite, or too large for a 32-bit number"
    raise place.error(row, field, f"the {what} is {kind}")
