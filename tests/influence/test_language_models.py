"""Replay of language models is the derivative of retraining on the texts that people upload, and
padding does not show in it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import torch

from tests.influence.test_replay import assert_every_example_agrees, finite_differences, recorded
from workers.influence.behaviours import Behaviour
from workers.influence.replay import Replay
from workers.training.encoding.examples import Encoded, encode_examples
from workers.training.examples import EncodedExamples
from workers.training.networks.registry import default_architecture
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe

PROMPTS = ["Sky? ", "Sea, at noon? ", "", "Sun? ", "Sky? ", "Sea? "]
COMPLETIONS = ["blue", "green", "warm", "hot", "grey", "b"]
SMALL = {"width": 8, "heads": 2, "layers": 1, "maximum_length": 24}


def encoded_pairs(**settings: Any) -> Encoded:
    """Five training pairs of different lengths and one probe pair."""
    metadata = {"task": "prompt_completion"}
    table = pa.table(
        {
            "split": ["train"] * 5 + ["probe"],
            "train_index": pa.array([0, 1, 2, 3, 4, None], pa.int64()),
            "probe_index": pa.array([None] * 5 + [0], pa.int64()),
            "prompt": PROMPTS,
            "completion": COMPLETIONS,
        }
    )
    architecture = default_architecture("causal_transformer", metadata) | SMALL | settings
    return encode_examples(table, metadata, architecture)


def problem_for(encoded: Encoded, train: EncodedExamples | None = None) -> TrainingProblem:
    recipe = Recipe(
        precision="float64", batch_size=2, epochs=2, learning_rate=0.02, weight_decay=0.01
    )
    return TrainingProblem(encoded.architecture, train or encoded.train, recipe, encoded.loss)


def behaviours_on(probe: EncodedExamples) -> list[Behaviour]:
    return [Behaviour(kind, probe) for kind in ("mean_loss", "completion_log_probability")]


def lengthened(examples: EncodedExamples, number: int) -> EncodedExamples:
    """The same examples with `number` places of padding after each."""

    def pad(values: torch.Tensor, fill: int) -> torch.Tensor:
        return torch.nn.functional.pad(values, (0, number), value=fill)

    inputs = {name: pad(values, 0) for name, values in examples.inputs.items()}
    return EncodedExamples(inputs, pad(examples.targets, -100))


@pytest.mark.parametrize("loss_on", ["completion", "all"])
@pytest.mark.parametrize("tokenizer", ["bytes", "trained"])
def test_replay_equals_finite_differences_on_prompts_and_completions(
    loss_on: str, tokenizer: str
) -> None:
    encoded = encoded_pairs(loss_on=loss_on, tokenizer=tokenizer)
    problem = problem_for(encoded)
    behaviours = behaviours_on(encoded.probe)
    scores = Replay().scores([recorded(problem)], behaviours).per_seed[0]
    assert_every_example_agrees(scores, finite_differences(problem, 3, behaviours))


def test_padding_changes_no_score() -> None:
    encoded = encoded_pairs(tokenizer="bytes")
    behaviours = behaviours_on(encoded.probe)
    short = problem_for(encoded)
    room = encoded.architecture["maximum_length"] - short.train.targets.shape[1]
    long = problem_for(encoded, lengthened(short.train, room))
    assert long.train.targets.shape[1] > short.train.targets.shape[1]
    scores = [Replay().scores([recorded(one)], behaviours).per_seed[0] for one in (short, long)]
    torch.testing.assert_close(*map(torch.as_tensor, scores), rtol=1e-8, atol=1e-12)
