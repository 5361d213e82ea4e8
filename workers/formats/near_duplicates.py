"""Near-duplicate texts by MinHash over overlapping byte 5-grams, in NumPy, bounded for a million
texts.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman
& Ullman, "Mining of Massive Datasets" (2014), section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from workers.formats.text_keys import string_bytes, text_hashes

SHINGLE_BYTES = 5
BANDS = 4
ROWS_PER_BAND = 4
CONFIRMING_HASHES = 64
LEAST_SIMILARITY = 0.7
LONGEST_BYTES = 1_000  # only this much of each normalised text is compared
MOST_TEXTS = 2_000_000
_BLOCK_BYTES = 256 * 1024  # what fits a core's cache: measured twice as fast as 2 MiB


def near_duplicate_groups(read: Callable[[], Iterable[pa.Array]]) -> np.ndarray:
    """Group number (N,) of each normalised text; texts alone in their group are −1.

    `read` gives the texts from the start each time it is called, so that no more than a few dozen
    bytes a text are held. Two texts are linked when they are equal or when the estimated Jaccard
    similarity of their 5-grams is at least 0.7 (found with probability 1 − (1 − s⁴)⁴ at similarity
    s: 0.66 at 0.7, 0.98 at 0.9), and groups are the connected components. Texts shorter than 5
    bytes are linked only when equal.
    """
    bands: list[list[np.ndarray]] = [[] for _ in range(BANDS)]
    hashes: list[np.ndarray] = []
    multipliers, offsets = _hash_family(BANDS * ROWS_PER_BAND, seed=1)
    for texts in read():
        keys = _band_keys(signatures(texts, multipliers, offsets))
        for band, own in zip(bands, keys.T, strict=True):
            band.append(np.ascontiguousarray(own))
        hashes.append(text_hashes(texts))
    if not hashes:
        return np.zeros(0, np.int64)
    first, second = _candidate_links(bands)
    whole = np.concatenate(hashes)
    hashes.clear()
    linked = whole[first] == whole[second]
    unsure = np.flatnonzero(~linked)
    linked[unsure] = _similarity(read, first[unsure], second[unsure]) >= LEAST_SIMILARITY
    first, second = first[linked], second[linked]
    size = len(whole)
    graph = coo_matrix((np.ones(len(first), bool), (first, second)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    sizes = np.bincount(component)
    return np.where(sizes[component] > 1, component, -1)


def signatures(texts: pa.Array, multipliers: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """MinHash signatures (N, H) uint32: for hash function h the least value of aₕ·x + bₕ over the
    shingles x of a text."""
    starts, data = string_bytes(texts)
    result = np.empty((len(texts), len(multipliers)), np.uint32)
    row = 0
    while row < len(texts):
        end = int(np.searchsorted(starts, starts[row] + _BLOCK_BYTES, side="right")) - 1
        end = min(max(end, row + 1), len(texts))
        _sign_block(data, starts[row : end + 1], multipliers, offsets, result[row:end])
        row = end
    return result


def _sign_block(
    data: np.ndarray,
    starts: np.ndarray,
    multipliers: np.ndarray,
    offsets: np.ndarray,
    result: np.ndarray,
) -> None:
    lengths = np.minimum(np.diff(starts), LONGEST_BYTES)
    counts = np.maximum(lengths - SHINGLE_BYTES + 1, 1)
    first = np.concatenate([[0], np.cumsum(counts)])
    positions = np.repeat(starts[:-1] - first[:-1], counts) + np.arange(first[-1])
    block = np.concatenate([data[starts[0] : starts[-1]], np.zeros(SHINGLE_BYTES, np.uint8)])
    block = block.astype(np.uint32)
    positions -= starts[0]
    shingles = np.zeros(len(block) - SHINGLE_BYTES + 1, np.uint32)
    for k in range(SHINGLE_BYTES):
        shingles = shingles * np.uint32(0x01000193) + block[k : k + len(shingles)]
    shingles = shingles[positions]
    short = np.flatnonzero(lengths < SHINGLE_BYTES)
    shingles ^= shingles >> np.uint32(16)
    shingles *= np.uint32(0x85EBCA6B)
    shingles ^= shingles >> np.uint32(13)
    for h, (a, b) in enumerate(zip(multipliers, offsets, strict=True)):
        result[:, h] = np.minimum.reduceat(shingles * a + b, first[:-1])
    # A text too short for a shingle would read its neighbour's bytes: give it a hash of its own
    # bytes.
    for row in short:
        own = data[starts[row] : starts[row] + lengths[row]].tobytes()
        value = np.uint32(int.from_bytes(own.ljust(4, b"\0")[:4], "little") * 2 + 1 & 0xFFFFFFFF)
        result[row] = value * multipliers + offsets


def _hash_family(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.Generator(np.random.PCG64(seed))
    multipliers = generator.integers(2**32, size=number, dtype=np.uint32) | np.uint32(1)
    return multipliers, generator.integers(2**32, size=number, dtype=np.uint32)


def _band_keys(signature: np.ndarray) -> np.ndarray:
    """A 64-bit key (N, BANDS) for each group of hashes."""
    keys = np.zeros((len(signature), BANDS), np.uint64)
    for k in range(ROWS_PER_BAND):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + signature[:, k::ROWS_PER_BAND][:, :BANDS]
        keys ^= keys >> np.uint64(29)
    return keys


def _candidate_links(bands: list[list[np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (first of its bucket, other) over all bands, each once. Takes the keys out of `bands`,
    so that of a million texts no more is held than one band's order needs."""
    codes, size = np.zeros(0, np.int64), 1
    while bands:
        keys = np.concatenate(bands.pop())
        size = len(keys)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        follows = np.flatnonzero(keys[1:] == keys[:-1]) + 1
        del keys
        begins = np.diff(follows, prepend=-1) != 1  # the second of each bucket
        place = np.maximum.accumulate(np.where(begins, np.arange(len(follows)), 0))
        leader = order[follows[place] - 1]
        codes = np.union1d(codes, leader * size + order[follows])
    return codes // size, codes % size


def _similarity(
    read: Callable[[], Iterable[pa.Array]], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Estimated Jaccard similarity of each pair, from hashes computed for these texts only."""
    if not len(first):
        return np.zeros(0)
    rows = np.unique(np.concatenate([first, second]))
    multipliers, offsets = _hash_family(CONFIRMING_HASHES, seed=2)
    signed = np.empty((len(rows), CONFIRMING_HASHES), np.uint32)
    start = 0
    for texts in read():
        low, high = np.searchsorted(rows, [start, start + len(texts)])
        if low < high:
            chosen = texts.take(pa.array(rows[low:high] - start))
            signed[low:high] = signatures(chosen, multipliers, offsets)
        start += len(texts)
    result = np.empty(len(first))
    for low in range(0, len(first), 100_000):
        a = signed[np.searchsorted(rows, first[low : low + 100_000])]
        b = signed[np.searchsorted(rows, second[low : low + 100_000])]
        result[low : low + 100_000] = (a == b).mean(axis=1)
    return result
