"""Columns of any accepted type turned into text, numbers or number lists, with the row of the
first failure."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.formats.rules import Place, first_true


def engine() -> duckdb.DuckDBPyConnection:
    """A connection to an in-memory DuckDB that reads no files, loads no extensions and uses one
    thread."""
    return _database().cursor()


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    """Made once a process, since making one takes about as long as reading 15,000 rows."""
    return duckdb.connect(
        config={
            "threads": 1,
            "enable_external_access": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": "1GB",
        }
    )


def query(connection: duckdb.DuckDBPyConnection, sql: str, table: pa.Table) -> pa.Table:
    """Run `sql`, which reads the table as `batch`."""
    connection.register("batch", table)
    try:
        return connection.sql(sql).to_arrow_table()
    finally:
        connection.unregister("batch")


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_numeric(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def is_number_list(kind: pa.DataType) -> bool:
    """A list of numbers, or a list of such lists."""
    while is_list(kind):
        kind = kind.value_type
        if is_numeric(kind):
            return True
    return False


def is_nested(kind: pa.DataType) -> bool:
    return bool(is_list(kind) or pa.types.is_struct(kind))


def nesting(kind: pa.DataType) -> int:
    """How many lists and structs lie inside each other."""
    children = [kind.field(k).type for k in range(kind.num_fields)] if is_nested(kind) else []
    return 1 + max(map(nesting, children), default=0) if children else 0


def is_readable(kind: pa.DataType) -> bool:
    """Whether `as_text` can show the type; binary, map, union and the like are not, nor
    dictionaries
    inside lists and structs, whose unfolded size cannot be told beforehand."""
    return _is_plain(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _is_plain(kind: pa.DataType) -> bool:
    if is_list(kind):
        return _is_plain(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_is_plain(kind.field(k).type) for k in range(kind.num_fields))
    plain = is_text(kind) or is_numeric(kind)
    return bool(plain or pa.types.is_temporal(kind) or pa.types.is_null(kind))


def as_text(
    values: pa.Array,
    field: str,
    place: Place,
    max_bytes: int,
    class_names: Sequence[str] | None = None,
) -> pa.Array:
    """The column as strings: numbers as written, lists and structs as JSON, null kept.

    `class_names` turns class numbers into names (-1 into null). Dictionary values are measured
    before they are repeated, so that a small file cannot grow into a large one.
    """
    if class_names is not None and pa.types.is_integer(values.type):
        return _class_names(values, field, place, class_names)
    if pa.types.is_dictionary(values.type):
        lengths = pc.take(pc.binary_length(values.dictionary), values.indices)
        if (at := first_true(pc.greater(lengths, max_bytes))) is not None:
            raise place.error(
                at, field, f"has {lengths[at].as_py():,} bytes; at most {max_bytes:,} are allowed"
            )
        values = values.dictionary_decode()
    if pa.types.is_string(values.type):
        return values
    if is_nested(values.type):
        sql = "SELECT CAST(to_json(v) AS VARCHAR) AS v FROM batch"
        with engine() as connection:
            text = query(connection, sql, pa.table({"v": values}))["v"].combine_chunks()
        text = text.cast(pa.string())
        return pc.if_else(pc.is_valid(values), text, pa.scalar(None, pa.string()))
    return values.cast(pa.string())


def _class_names(
    values: pa.Array, field: str, place: Place, class_names: Sequence[str]
) -> pa.Array:
    numbers = pc.fill_null(values.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    if (at := first_true((numbers < -1) | (numbers >= len(class_names)))) is not None:
        raise place.error(
            at, field, f"class number {numbers[at]} has no name; there are {len(class_names)} names"
        )
    taken = pa.array(numbers, mask=numbers < 0)
    return pc.take(pa.array(class_names, pa.string()), taken)


def as_numbers(values: pa.Array, field: str, place: Place) -> np.ndarray:
    """The column as float64 (N,); raises FormatError at the first missing or unreadable value."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if is_text(values.type):
        values = pc.utf8_trim_whitespace(values)
    elif not is_numeric(values.type):
        raise place.error(0, field, f"must hold numbers, but holds {values.type}")
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    try:
        numbers = values.cast(pa.float64(), safe=False)
    except pa.ArrowInvalid:
        at = _first_unreadable(values)
        found = str(values[at].as_py())[:40]
        rule = "the number is missing" if not found else f"'{found}' is not a number"
        raise place.error(at, field, rule) from None
    if numbers.null_count:
        raise place.error(first_true(pc.is_null(numbers)) or 0, field, "the number is missing")
    result: np.ndarray = numbers.to_numpy(zero_copy_only=False)
    return result


def _first_unreadable(values: pa.Array) -> int:
    """Binary search for the first text that is not a number; `values` has at least one."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values[low:middle].cast(pa.float64())
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def as_number_matrix(
    values: pa.Array, field: str, place: Place, width: int | None, max_width: int
) -> np.ndarray:
    """A column of number lists (nested lists are flattened) as float64 (N, D).

    Raises FormatError where a list is missing, holds something else, or differs from `width` (that
    of the first row when None).
    """
    if is_text(values.type) or pa.types.is_dictionary(values.type):
        values = _lists_from_text(values, field, place)
    elif not is_number_list(values.type):
        raise place.error(0, field, f"must hold lists of numbers, but holds {values.type}")
    if (at := first_true(pc.is_null(values))) is not None:
        raise place.error(at, field, "the list is missing")
    rows = np.arange(len(values) + 1, dtype=np.int64)
    while is_list(values.type):
        if values.null_count:
            raise place.error(0, field, "a list inside the column is missing")
        lengths = pc.list_value_length(values).to_numpy(zero_copy_only=False)
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        rows = starts[rows]
        values = values.flatten()
    widths = np.diff(rows)
    width = int(widths[0]) if width is None and len(widths) else int(width or 0)
    if (at := first_true(widths != width)) is not None:
        raise place.error(at, field, f"holds {widths[at]:,} numbers, but {width:,} are expected")
    if not 0 < width <= max_width:
        raise place.error(0, field, f"holds {width:,} numbers; 1 to {max_width:,} are allowed")
    if values.null_count:
        at = (first_true(pc.is_null(values)) or 0) // width
        raise place.error(at, field, "a number in the list is missing or cannot be read")
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    numbers: np.ndarray = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers.reshape(-1, width)


_LISTS = """
SELECT TRY_CAST('[' || replace(replace(replace(v, '[', ''), ']', ''), '"', '') || ']' AS DOUBLE[])
    AS v
FROM batch
"""


def _lists_from_text(values: pa.Array, field: str, place: Place) -> pa.Array:
    """Lists written as text, such as `[0.5, 1]` or `[[1, 2], [3, 4]]`, flattened."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if (
        at := first_true(pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True))
    ) is not None:
        raise place.error(at, field, "the list is missing")
    with engine() as connection:
        lists = query(connection, _LISTS, pa.table({"v": values}))["v"].combine_chunks()
    if (at := first_true(pc.is_null(lists))) is not None:
        found = str(values[at].as_py())[:40]
        raise place.error(at, field, f"'{found}' is not a list of numbers")
    return lists
