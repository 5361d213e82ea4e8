"""Sequences for an uploaded causal language model, by its own tokenizer and chat template."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from workers.formats.chat_templates import render_conversations
from workers.training.encoding.language import Ragged, SequenceForm, laid_out
from workers.training.encoding.tokenizers import TEXTS_AT_ONCE

if TYPE_CHECKING:
    from workers.formats.models import UploadedModel


def fit_language_model(
    architecture: dict[str, Any], model: UploadedModel, *, has_messages: bool
) -> dict[str, Any]:
    """The state of the encoding. Nothing is fitted: tokens, the ids that begin and end a text and
    the longest input are the upload's own. Chat messages go through the upload's template, where
    it has one and the architecture does not say `plain`."""
    begin, end = ids_around(model)
    return {
        "kind": "uploaded_sequences",
        "model_sha256": model.summary.sha256,
        "vocabulary_size": model.summary.vocabulary_size,
        "maximum_length": min(architecture["maximum_length"], model.summary.longest_input),
        "padding_id": model.padding_id,
        "begin": begin,
        "end": end,
        "count_prompts": architecture["loss_on"] == "all",
        "chat": has_messages
        and model.chat_template is not None
        and architecture["chat"] == "template",
    }


def ids_around(model: UploadedModel) -> tuple[list[int], list[int]]:
    """The ids before and after a text: what the tokenizer itself puts first, or else the
    configuration's begin or end token, so that the first token of a text is predicted too; and
    the configuration's end token."""
    size, configuration = model.summary.vocabulary_size, model.summary.configuration

    def named(name: str) -> list[int]:
        value = configuration.get(name)
        value = value[0] if isinstance(value, list) and value else value
        return [value] if type(value) is int and 0 <= value < size else []

    end = named("eos_token_id")
    own = model.tokenizer.encode("", add_special_tokens=True).ids
    begin = [token for token in own if [token] != end][:1] or named("bos_token_id")
    return begin or end or [model.padding_id], end


def encode_for_model(
    prompts: pa.Array | None,
    texts: pa.Array,
    messages: pa.Array | None,
    state: dict[str, Any],
    model: UploadedModel,
    ends: bool,
) -> tuple[dict[str, Tensor], Tensor, int]:
    """`laid_out` with the upload's tokens.

    Prompt and text are tokenised together, as the model will read them; a token that reaches over
    the border counts as the text's. With a chat template `messages`, or else the prompt as the
    user's message, are rendered, and the template alone says how a conversation begins and ends;
    only then do special tokens spelled out in a text count as such.
    """
    form = SequenceForm(
        tuple(state["begin"]),
        tuple(state["end"]) if ends else (),
        state["padding_id"],
        state["maximum_length"],
    )
    if state["chat"]:
        assert model.chat_template is not None
        if messages is None:
            messages = as_conversations(prompts, texts)
        prompts, answers = render_conversations(model.chat_template, messages)
        texts = answers if ends else texts
        form = SequenceForm((), (), form.padding, form.longest)
    split = tokens_apart(model.tokenizer, prompts, texts, has_special_tokens=state["chat"])
    return laid_out(*split, form, state["count_prompts"])


def as_conversations(prompts: pa.Array | None, texts: pa.Array) -> pa.Array:
    """Each prompt as a user's message and each text as its answer, as JSON."""
    asked = [""] * len(texts) if prompts is None else prompts.to_pylist()
    return pa.array(
        [
            json.dumps(
                [
                    {"role": "user", "content": prompt},
                    {"role": "assistant", "content": text},
                ]
            )
            for prompt, text in zip(asked, texts.to_pylist(), strict=True)
        ],
        pa.large_string(),
    )


def tokens_apart(
    tokenizer: Any, prompts: pa.Array | None, texts: pa.Array, *, has_special_tokens: bool
) -> tuple[Ragged, Ragged]:
    """The tokens of the prompts and of the texts after them."""
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = not has_special_tokens
    before: list[list[int]] = []
    after: list[list[int]] = []
    try:
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            own = texts.slice(start, TEXTS_AT_ONCE).to_pylist()
            first = [""] * len(own)
            if prompts is not None:
                first = prompts.slice(start, TEXTS_AT_ONCE).to_pylist()
            whole = [prompt + text for prompt, text in zip(first, own, strict=True)]
            encodings = tokenizer.encode_batch(whole, add_special_tokens=False)
            for prompt, encoding in zip(first, encodings, strict=True):
                border = 0
                if prompt:
                    border = sum(end <= len(prompt) for _, end in encoding.offsets)
                before.append(encoding.ids[:border])
                after.append(encoding.ids[border:])
    finally:
        tokenizer.encode_special_tokens = False
    return ragged(before), ragged(after)


def ragged(rows: list[list[int]]) -> Ragged:
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return np.fromiter((token for row in rows for token in row), np.int64), lengths
