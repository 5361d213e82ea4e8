"""Tokens for networks trained from scratch: bytes, or byte-level BPE fitted on the train split."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

Integers = npt.NDArray[np.int64]

PADDING, BEGIN, END = 0, 1, 2
SPECIAL_TOKENS = ("<padding>", "<begin>", "<end>")
NUMBER_OF_SPECIAL_TOKENS = len(SPECIAL_TOKENS)
TEXTS_AT_ONCE = 10_000


def fit_tokenizer(texts: pa.Array, size: int) -> str:
    """A byte-level BPE tokenizer (Sennrich et al. 2016) of at most `size` tokens, as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    batches = (
        texts.slice(start, TEXTS_AT_ONCE).to_pylist()
        for start in range(0, len(texts), TEXTS_AT_ONCE)
    )
    tokenizer.train_from_iterator(batches, trainer)
    serialised: str = tokenizer.to_str()
    return serialised


def vocabulary_size(tokenizer_json: str | None) -> int:
    """Tokens of a fitted tokenizer, or of raw bytes where there is none."""
    if tokenizer_json is None:
        return 256 + NUMBER_OF_SPECIAL_TOKENS
    size: int = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    return size


def token_texts(tokens: list[int], tokenizer: Any | None) -> list[str]:
    """How each token reads, by a `tokenizers.Tokenizer` or as a byte where there is none. Tokens
    that are a part of a character read as �; together with special tokens, all are kept."""
    if tokenizer is not None:
        return [str(tokenizer.decode([token], skip_special_tokens=False)) for token in tokens]
    return [
        SPECIAL_TOKENS[token]
        if token < NUMBER_OF_SPECIAL_TOKENS
        else bytes([token - NUMBER_OF_SPECIAL_TOKENS]).decode("utf-8", "replace")
        for token in tokens
    ]


def flat_ids(texts: pa.Array, tokenizer_json: str | None) -> tuple[Integers, Integers]:
    """The tokens of all texts in one array, and each text's number of tokens."""
    if tokenizer_json is None:
        return flat_bytes(texts)
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.encode_special_tokens = True  # a text that spells "<end>" is only text
    return encoded(tokenizer, texts, add_special_tokens=False)


def encoded(tokenizer: Any, texts: pa.Array, add_special_tokens: bool) -> tuple[Integers, Integers]:
    """As `flat_ids`, with any tokenizer."""
    pieces: list[Integers] = [np.zeros(0, np.int64)]
    lengths: list[Integers] = [np.zeros(0, np.int64)]
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        batch = tokenizer.encode_batch_fast(
            texts.slice(start, TEXTS_AT_ONCE).to_pylist(), add_special_tokens=add_special_tokens
        )
        rows = [encoding.ids for encoding in batch]
        lengths.append(np.fromiter(map(len, rows), np.int64, len(rows)))
        pieces.append(np.fromiter((token for row in rows for token in row), np.int64))
    return np.concatenate(pieces), np.concatenate(lengths)


def flat_bytes(texts: pa.Array) -> tuple[Integers, Integers]:
    binary = texts.cast(pa.large_binary())
    lengths = pc.binary_length(binary).to_numpy(zero_copy_only=False).astype(np.int64)
    joined = b"".join(binary.to_pylist())
    ids = np.frombuffer(joined, np.uint8).astype(np.int64) + NUMBER_OF_SPECIAL_TOKENS
    return ids, lengths


def padded(
    ids: Integers, lengths: Integers, longest: int, padding: int = PADDING
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Rows cut at `longest` and padded on the right to the longest left: ids and mask (N, L)."""
    kept = np.minimum(lengths, longest)
    width = max(int(kept.max()) if len(kept) else 1, 1)
    mask = np.arange(width) < kept[:, None]
    result = np.full((len(lengths), width), padding, np.int32)
    begins = np.cumsum(lengths) - lengths
    rows, places = np.nonzero(mask)
    result[rows, places] = ids[begins[rows] + places]
    return result, mask
