"""Words, word pairs and character n-grams of texts as hash buckets, without a loop over texts.

A unit is a polynomial hash of its code points modulo 2^64, so every n-gram of all texts costs a few
NumPy operations on one array.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
PAIR_SALT = np.uint64(0xD6E8FEB86659FD93)
CHARACTERS_AT_ONCE = 1_000_000
CHARACTER_NGRAMS = (3,)
SPACE, WORD, SYMBOL = 0, 1, 2


def hashed_counts(texts: pa.Array, buckets: int) -> tuple[Integers, Integers, Integers]:
    """The units of each text: (row, bucket, count) triples, sorted by row, then bucket.

    A text is lower-cased after NFKC normalisation; its units are its words and runs of symbols,
    pairs of neighbours, and character 3-grams. `buckets` is a power of two.
    """
    rows, found, counts = [], [], []
    for first_row, chunk in chunks(normalised(texts)):
        row, unit = units(chunk)
        bucket = (mixed(unit) >> np.uint64(64 - (buckets.bit_length() - 1))).astype(np.int64)
        cells, count = np.unique(row * buckets + bucket, return_counts=True)
        rows.append(cells // buckets + first_row)
        found.append(cells % buckets)
        counts.append(count)
    if not rows:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    return np.concatenate(rows), np.concatenate(found), np.concatenate(counts)


def normalised(texts: pa.Array) -> pa.Array:
    filled = pc.fill_null(texts.cast(pa.large_string()), "")
    return pc.utf8_lower(pc.utf8_normalize(filled, form="NFKC"))


def chunks(texts: pa.Array) -> Iterator[tuple[int, pa.Array]]:
    """Consecutive rows of about a million characters together; one long row stays whole."""
    ends = np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64))
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + CHARACTERS_AT_ONCE, side="right"))
        stop = max(stop, start + 1)
        yield start, texts.slice(start, stop - start)
        start = stop


def units(texts: pa.Array) -> tuple[Integers, Hashes]:
    """(row, hash) of every unit of the texts, repeated units repeated."""
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    joined = "".join(texts.to_pylist())
    code_points = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    row = np.repeat(np.arange(len(texts)), lengths)
    if not len(code_points):
        return row, np.zeros(0, np.uint64)
    kind = character_kinds(code_points)
    # Every kind of white space counts as the same character.
    values = mixed(np.where(kind == SPACE, 32, code_points).astype(np.uint64))
    found = [word_units(row, kind, values)]
    found += [character_ngrams(row, values, length) for length in CHARACTER_NGRAMS]
    return np.concatenate([rows for rows, _ in found]), np.concatenate([unit for _, unit in found])


def character_kinds(code_points: npt.NDArray[np.uint32]) -> npt.NDArray[np.int8]:
    different, inverse = np.unique(code_points, return_inverse=True)
    kinds = [
        SPACE if chr(point).isspace() else WORD if chr(point).isalnum() else SYMBOL
        for point in different.tolist()
    ]
    return np.asarray(kinds, np.int8)[inverse]


def word_units(
    row: Integers, kind: npt.NDArray[np.int8], values: Hashes
) -> tuple[Integers, Hashes]:
    """Words and runs of symbols, and pairs of neighbours in the same text."""
    begins = np.flatnonzero(
        np.concatenate([[True], (kind[1:] != kind[:-1]) | (row[1:] != row[:-1])])
    )
    lengths = np.diff(np.append(begins, len(values)))
    place = np.arange(len(values)) - np.repeat(begins, lengths)
    words = np.add.reduceat(values * powers(int(lengths.max()))[place], begins)
    is_word = kind[begins] != SPACE
    words, word_row = mixed(words[is_word]), row[begins][is_word]
    same_text = word_row[1:] == word_row[:-1]
    pairs = mixed(words[:-1] * MULTIPLIER + words[1:] + PAIR_SALT)[same_text]
    return np.concatenate([word_row, word_row[1:][same_text]]), np.concatenate([words, pairs])


def character_ngrams(row: Integers, values: Hashes, length: int) -> tuple[Integers, Hashes]:
    """Every run of `length` characters that stays within one text."""
    last = len(values) - length + 1
    if last <= 0:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    power = powers(length)
    total = np.full(last, np.uint64(length), np.uint64)
    for place in range(length):
        total += values[place : place + last] * power[place]
    inside = row[:last] == row[length - 1 :]
    return row[:last][inside], total[inside]


def powers(count: int) -> Hashes:
    result = np.full(count, MULTIPLIER, np.uint64)
    result[0] = 1
    return np.multiply.accumulate(result)


def mixed(values: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele et al. 2014): every input bit reaches the top bits."""
    values = values + MULTIPLIER
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
