"""Token sequences for networks trained from scratch: texts to classify, and texts to predict."""

from __future__ import annotations

from dataclasses import dataclass
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
Ragged = tuple[Integers, Integers]
"""Rows of different lengths: all values one after the other, and each row's length."""


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


@dataclass(frozen=True)
class SequenceForm:
    """What stands around the tokens of a prompt and its text: ids before and after, the id of
    padding, and how many positions the model reads at most."""

    begin: tuple[int, ...]
    end: tuple[int, ...]
    padding: int
    longest: int


def encode_sequences(
    prompts: pa.Array | None,
    texts: pa.Array,
    state: dict[str, Any],
    count_prompts: bool,
    ends: bool = True,
) -> tuple[dict[str, Tensor], Tensor, int]:
    """`laid_out` with the tokens of a network trained from scratch: begin, prompt, text, end; the
    last not where `ends` is off."""
    text_tokens = flat_ids(texts, state["tokenizer_json"])
    prompt_tokens = (np.zeros(0, np.int64), np.zeros(len(texts), np.int64))
    if prompts is not None:
        prompt_tokens = flat_ids(prompts, state["tokenizer_json"])
    form = SequenceForm((BEGIN,), (END,) if ends else (), PADDING, state["maximum_length"])
    return laid_out(prompt_tokens, text_tokens, form, count_prompts)


def laid_out(
    prompts: Ragged, texts: Ragged, form: SequenceForm, count_prompts: bool
) -> tuple[dict[str, Tensor], Tensor, int]:
    """Inputs {"ids", "mask"} (N, L) and shifted targets (N, L) of a language model, and how many
    examples were cut.

    Position t predicts token t + 1, and a target of −100 does not count: padding, and the prompt
    unless `count_prompts`. A sequence longer than the model allows loses the start of its prompt
    first, and then the end of its text. One sequence a row: none are packed together.
    """
    number = len(texts[1])
    room = form.longest + 1 - len(form.begin)  # one more than positions: the last is a target
    ids, lengths = joined([texts, repeated(form.end, number)])
    cut = lengths > room
    text_tokens = shortened(ids, lengths, np.full(number, room), from_start=False)
    left = room - text_tokens[1]
    cut |= prompts[1] > left
    prompt_tokens = shortened(*prompts, left, from_start=True)
    ids, lengths = joined([repeated(form.begin, number), prompt_tokens, text_tokens])
    rows, mask = padded(ids, lengths, form.longest + 1, form.padding)
    if rows.shape[1] < 2:
        rows, mask = np.pad(rows, ((0, 0), (0, 1))), np.pad(mask, ((0, 0), (0, 1)))
    targets = np.where(mask[:, 1:], rows[:, 1:], IGNORED_TOKEN).astype(np.int64)
    if not count_prompts:
        first = len(form.begin) + prompt_tokens[1] - 1
        targets[np.arange(targets.shape[1]) < first[:, None]] = IGNORED_TOKEN
    # The last token is only ever a target; as an input it would be padding.
    inputs = {
        "ids": torch.from_numpy(np.where(mask[:, 1:], rows[:, :-1], form.padding).astype(np.int32)),
        "mask": torch.from_numpy(np.ascontiguousarray(mask[:, 1:])),
    }
    return inputs, torch.from_numpy(targets), int(cut.sum())


def repeated(values: tuple[int, ...], number: int) -> Ragged:
    """`number` rows, each of the same values."""
    return np.tile(np.array(values, np.int64), number), np.full(number, len(values), np.int64)


def joined(parts: list[Ragged]) -> Ragged:
    """Row-wise concatenation of ragged arrays, each given as flat values and row lengths."""
    lengths = np.stack([part_lengths for _, part_lengths in parts])
    ends = np.cumsum(lengths.T.reshape(-1)).reshape(lengths.T.shape)
    result = np.zeros(int(lengths.sum()), np.int64)
    for place, (values, part_lengths) in enumerate(parts):
        begins = ends[:, place] - part_lengths
        own = np.cumsum(part_lengths) - part_lengths
        result[np.arange(len(values)) + np.repeat(begins - own, part_lengths)] = values
    return result, lengths.sum(0)


def shortened(ids: Integers, lengths: Integers, most: Integers, *, from_start: bool) -> Ragged:
    """At most `most` (N,) values of each row, dropping its start or its end."""
    place = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    if from_start:
        place = np.repeat(lengths, lengths) - 1 - place
    return ids[place < np.repeat(most, lengths)], np.minimum(lengths, most)
