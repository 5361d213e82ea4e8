"""Token sequences for networks trained from scratch: texts to classify, and texts to predict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from workers.training.encoding.tokenizers import (
    BEGIN,
    END,
    PADDING,
    Integers,
    fit_tokenizer,
    flat_ids,
    padded,
    vocabulary_size,
)

IGNORED_TOKEN = -100


def fit_tokens(texts: pa.Array, architecture: dict[str, Any]) -> dict[str, Any]:
    """The state of a token encoding; `texts` are all texts of the train split."""
    tokenizer = None
    if architecture["tokenizer"] == "trained":
        tokenizer = fit_tokenizer(texts, architecture["tokenizer_size"])
    return {
        "kind": "tokens",
        "tokenizer_json": tokenizer,
        "vocabulary_size": vocabulary_size(tokenizer),
        "maximum_length": architecture["maximum_length"],
    }


def encode_tokens(texts: pa.Array, state: dict[str, Any]) -> tuple[dict[str, Tensor], int]:
    """{"ids": (N, L) int32, "mask": (N, L) bool}, with a begin token; and how many were cut."""
    ids, lengths = flat_ids(texts, state["tokenizer_json"])
    ids, lengths = joined(
        [(np.full(len(texts), BEGIN), np.ones(len(texts), np.int64)), (ids, lengths)]
    )
    rows, mask = padded(ids, lengths, state["maximum_length"])
    cut = int((lengths > state["maximum_length"]).sum())
    return {"ids": torch.from_numpy(rows), "mask": torch.from_numpy(mask)}, cut


def encode_sequences(
    prompts: pa.Array | None, texts: pa.Array, state: dict[str, Any], count_prompts: bool
) -> tuple[dict[str, Tensor], Tensor, int]:
    """Inputs and shifted targets of a language model, and how many examples were cut.

    A sequence is begin, prompt, text, end; position t predicts token t + 1, and a target of −100
    does not count: padding, and the prompt unless `count_prompts`. A sequence longer than the
    model allows loses the start of its prompt first, and then the end of its text.
    """
    longest = state["maximum_length"] + 1  # one more token than positions: the last is a target
    number = len(texts)
    ones = np.ones(number, np.int64)
    ids, lengths = flat_ids(texts, state["tokenizer_json"])
    ids, lengths = joined([(ids, lengths), (np.full(number, END), ones)])
    ids, text_lengths = shortened(ids, lengths, np.full(number, longest - 1), from_start=False)
    prompt_ids, prompt_lengths = np.zeros(0, np.int64), np.zeros(number, np.int64)
    cut = lengths > longest - 1
    if prompts is not None:
        prompt_ids, prompt_lengths = flat_ids(prompts, state["tokenizer_json"])
        room = longest - 1 - text_lengths
        cut |= prompt_lengths > room
        prompt_ids, prompt_lengths = shortened(prompt_ids, prompt_lengths, room, from_start=True)
    ids, lengths = joined(
        [(np.full(number, BEGIN), ones), (prompt_ids, prompt_lengths), (ids, text_lengths)]
    )
    rows, mask = padded(ids, lengths, longest)
    targets = np.where(mask[:, 1:], rows[:, 1:], IGNORED_TOKEN).astype(np.int64)
    if not count_prompts:
        targets[np.arange(targets.shape[1]) < prompt_lengths[:, None]] = IGNORED_TOKEN
    # The last token is only ever a target; as an input it would be padding.
    inputs = {
        "ids": torch.from_numpy(np.where(mask[:, 1:], rows[:, :-1], PADDING).astype(np.int32)),
        "mask": torch.from_numpy(np.ascontiguousarray(mask[:, 1:])),
    }
    return inputs, torch.from_numpy(targets), int(cut.sum())


def joined(parts: list[tuple[Integers, Integers]]) -> tuple[Integers, Integers]:
    """Row-wise concatenation of ragged arrays, each given as flat values and row lengths."""
    lengths = np.stack([part_lengths for _, part_lengths in parts])
    ends = np.cumsum(lengths.T.reshape(-1)).reshape(lengths.T.shape)
    result = np.zeros(int(lengths.sum()), np.int64)
    for place, (values, part_lengths) in enumerate(parts):
        begins = ends[:, place] - part_lengths
        own = np.cumsum(part_lengths) - part_lengths
        result[np.arange(len(values)) + np.repeat(begins - own, part_lengths)] = values
    return result, lengths.sum(0)


def shortened(
    ids: Integers, lengths: Integers, most: Integers, *, from_start: bool
) -> tuple[Integers, Integers]:
    """At most `most` (N,) values of each row, dropping its start or its end."""
    place = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    if from_start:
        place = np.repeat(lengths, lengths) - 1 - place
    return ids[place < np.repeat(most, lengths)], np.minimum(lengths, most)
