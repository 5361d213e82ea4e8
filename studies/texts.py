"""Texts made ready for small language models trained from scratch: training rows, and the prompts
with completions that behaviours read. The studies' own texts live in their files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from workers.influence.behaviours import Behaviour
from workers.training.encoding.language import encode_sequences, fit_tokens
from workers.training.encoding.tokenizers import SPECIAL_TOKENS
from workers.training.examples import EncodedExamples
from workers.training.networks.registry import default_architecture
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe

Pair = tuple[str, str]
"""Prompt and completion. A whole text is the completion of an empty prompt."""

ROOT = Path(__file__).parent.parent
MESSAGES = ROOT / "benchmarks" / "data" / "sms_spam.jsonl"
TWEETS = ROOT / "curation" / "sample_project" / "vader_tweets_one_rater.jsonl"


@dataclass(frozen=True)
class Texts:
    """A problem of training on texts, and what further texts are encoded with."""

    problem: TrainingProblem
    state: dict[str, Any]

    def encode(self, pairs: Sequence[Pair]) -> EncodedExamples:
        return _encode(pairs, self.state)

    def log_probability(self, pairs: Sequence[Pair]) -> Behaviour:
        """Log-probability of the completions given their prompts, mean over pairs, in nats."""
        return Behaviour("completion_log_probability", self.encode(pairs))

    def preference(self, pairs: Sequence[Pair], others: Sequence[str]) -> Behaviour:
        """How much likelier the completions are than other ones of the same prompts: the
        difference of log-probabilities, mean over pairs, in nats."""
        against = [(prompt, other) for (prompt, _), other in zip(pairs, others, strict=True)]
        return Behaviour(
            "completion_preference", self.encode(pairs), alternatives=self.encode(against)
        )

    def loss(self, pairs: Sequence[Pair]) -> Behaviour:
        """Mean negative log-probability of a completion's token, mean over pairs, in nats."""
        return Behaviour("mean_loss", self.encode(pairs))


def texts_of(
    train: Sequence[Pair], architecture: dict[str, Any], recipe: Recipe, *, by_words: bool = False
) -> Texts:
    """Encodes the training rows as Hunch encodes prompts and completions, the loss on completions
    alone; `by_words` makes every word a token, for studies on made-up sentences."""
    base = default_architecture("causal_transformer", {"task": "prompt_completion"})
    complete = base | architecture
    texts = pa.array([prompt + completion for prompt, completion in train])
    if by_words:
        words = sorted({word for text in texts.to_pylist() for word in text.split()})
        tokenizer = word_tokenizer(words)
        state = {
            "tokenizer_json": tokenizer.to_str(),
            "vocabulary_size": tokenizer.get_vocab_size(),
            "maximum_length": complete["maximum_length"],
        }
    else:
        state = fit_tokens(texts, complete)
    complete["vocabulary_size"] = state["vocabulary_size"]
    problem = TrainingProblem(complete, _encode(train, state), recipe, "next_token")
    return Texts(problem, state)


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """Every word a token; a word that training lacks is an error, not an unknown token."""
    places = {word: place for place, word in enumerate([*SPECIAL_TOKENS, *words])}
    tokenizer = Tokenizer(models.WordLevel(places, unk_token=SPECIAL_TOKENS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _encode(pairs: Sequence[Pair], state: dict[str, Any]) -> EncodedExamples:
    prompts = pa.array([prompt for prompt, _ in pairs], pa.string())
    completions = pa.array([completion for _, completion in pairs], pa.string())
    inputs, targets, _ = encode_sequences(prompts, completions, state, False)
    return EncodedExamples({name: torch.as_tensor(t) for name, t in inputs.items()}, targets)
