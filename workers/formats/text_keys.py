"""Normal forms and hashes of texts, on which duplicates and splits are decided."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.formats.conversion import engine, query

_SPACE = 32
# Lower case for ASCII letters, a space for every other ASCII character that is no digit.
_NORMAL = np.array([b if b >= 128 or chr(b).isalnum() else _SPACE for b in range(256)], np.uint8)
_NORMAL[65:91] += 32


def normalised_text(text: pa.Array) -> pa.Array:
    """Lower case, with every run of ASCII punctuation, symbols and spacing as one space, none at
    the ends.

    Works on the UTF-8 bytes (Arrow's regular expressions take five times as long); null becomes
    empty.
    """
    text = pc.fill_null(text, "")
    offsets, data = string_bytes(text)
    if len(data) and data.max() >= 128:
        offsets, data = string_bytes(pc.utf8_lower(text))
    data = _NORMAL[data]
    filled = np.flatnonzero(np.diff(offsets))
    space = data == _SPACE
    kept = ~space
    kept[1:] |= kept[:-1]  # the first space of a run
    starts = offsets[:-1][filled]
    kept[starts] = ~space[starts]
    data, offsets = _without(data, offsets, np.flatnonzero(~kept))
    ends = offsets[1:][np.diff(offsets) > 0] - 1
    data, offsets = _without(data, offsets, ends[data[ends] == _SPACE])
    return pa.StringArray.from_buffers(
        len(text), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(data))
    )


def _without(
    data: np.ndarray, offsets: np.ndarray, dropped: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bytes and offsets of strings once the bytes at the sorted positions `dropped` are gone."""
    return np.delete(data, dropped), offsets - np.searchsorted(dropped, offsets)


def string_bytes(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (N + 1,) from zero and the UTF-8 bytes of a string array without nulls."""
    buffers = text.buffers()
    offsets = np.frombuffer(buffers[1], np.int32)[text.offset : text.offset + len(text) + 1]
    data = np.frombuffer(buffers[2], np.uint8) if buffers[2] is not None else np.zeros(0, np.uint8)
    return (offsets - offsets[0]).astype(np.int64), data[offsets[0] : offsets[-1]]


def text_hashes(text: pa.Array) -> np.ndarray:
    """64-bit hashes (N,) of texts, for finding equal ones within one process; not stable over
    releases."""
    with engine() as connection:
        table = query(connection, "SELECT hash(v) AS h FROM batch", pa.table({"v": text}))
    hashes: np.ndarray = table["h"].to_numpy().astype(np.uint64)
    return hashes
