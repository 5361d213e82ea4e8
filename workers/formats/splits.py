"""Which split an example belongs to: stated by a column, or by a hash of its content."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.formats.column_mapping import ColumnMapping
from workers.formats.conversion import engine, query
from workers.formats.rules import Place, first_true
from workers.formats.text_keys import normalised_text


def split_from_column(values: pa.Array, mapping: ColumnMapping, place: Place) -> np.ndarray:
    """Booleans (N,): true for probe. Raises FormatError for a value that means neither."""
    assert mapping.split is not None
    lowered = pc.utf8_lower(pc.utf8_trim_whitespace(pc.fill_null(values, "")))
    is_train = pc.is_in(lowered, pa.array([v.strip().lower() for v in mapping.train_values]))
    is_probe = pc.is_in(lowered, pa.array([v.strip().lower() for v in mapping.probe_values]))
    if (at := first_true(pc.invert(pc.or_(is_train, is_probe)))) is not None:
        found = str(values[at].as_py() or "")[:40]
        train, probe = ", ".join(mapping.train_values), ", ".join(mapping.probe_values)
        what = f"'{found}' is" if found else "the split is missing: it must be"
        raise place.error(
            at, mapping.split, f"{what} neither a train value ({train}) nor a probe value ({probe})"
        )
    result: np.ndarray = is_probe.to_numpy(zero_copy_only=False)
    return result


def split_by_text(text: pa.Array, fraction: float, seed: int) -> np.ndarray:
    """Booleans (N,): true where the first 64 bits of MD5(seed, normalised text), as a share of 2⁶⁴,
    lie below `fraction`. Texts that differ only in case, punctuation or spacing stay together."""
    normal = normalised_text(text)
    key = pc.if_else(pc.equal(normal, ""), text, normal)
    sql = "SELECT md5_number_lower(seed || ':' || key) AS number FROM batch"
    table = pa.table({"key": key, "seed": pa.repeat(str(int(seed)), len(key))})
    with engine() as connection:
        numbers = query(connection, sql, table)["number"]
    return below(numbers.to_numpy().astype(np.uint64), fraction)


def split_by_numbers(matrix: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Booleans (N,): the same for rows of float32 numbers (N, D)."""
    return below(hash_rows(matrix, seed), fraction)


def below(numbers: np.ndarray, fraction: float) -> np.ndarray:
    result: np.ndarray = numbers < np.uint64(min(fraction, 1.0) * (2**64 - 2**11))
    return result


def hash_rows(matrix: np.ndarray, seed: int = 0) -> np.ndarray:
    """A 64-bit hash (N,) of each row of float32 (N, D): Σⱼ mix(bits(xⱼ) + j-th stream number),
    mixed."""
    generator = np.random.Generator(np.random.PCG64(seed % 2**63))
    streams = generator.integers(2**63, size=(matrix.shape[1],), dtype=np.uint64)
    bits: np.ndarray = (np.ascontiguousarray(matrix, np.float32) + np.float32(0)).view(np.uint32)
    total = np.zeros(len(matrix), np.uint64)
    for column in range(matrix.shape[1]):
        total += _mix(bits[:, column].astype(np.uint64) + streams[column])
    return _mix(total)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea & Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: np.ndarray = values ^ (values >> np.uint64(31))
    return result
