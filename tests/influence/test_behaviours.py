"""Behaviours of language models: each is what its words say, its gradient is its derivative, and
neither depends on how the examples are laid out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.influence.test_language_models import encoded_pairs, lengthened
from tests.influence.test_replay import assert_every_example_agrees, finite_differences, recorded
from tests.networks.conftest import TINY_GPT2, TINY_LLAMA, language_model
from workers.influence import behaviours as module
from workers.influence.behaviours import (
    HIGHER_IS_BETTER,
    UNITS,
    Behaviour,
    behaviour_gradients,
    behaviour_prompt_values,
    behaviour_values,
    without_extensions,
)
from workers.influence.replay import Replay
from workers.training.encoding import encode_rows, text_table
from workers.training.examples import EncodedExamples
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe

LANGUAGE_KINDS = list(UNITS)[3:]
BYTES = {"name": "causal_transformer", "width": 8, "heads": 2, "layers": 1, "maximum_length": 12}
NETWORKS = {
    "bytes": BYTES | {"vocabulary_size": 40},
    "gpt2": language_model(TINY_GPT2),
    "llama": language_model(TINY_LLAMA),
    "gpt2 lora": language_model(TINY_GPT2, trained_part="lora", lora_rank=2),
    "bytes lora": BYTES | {"vocabulary_size": 40, "trained_part": "lora", "lora_rank": 2},
}


def texts(number: int, seed: int, length: int = 7) -> EncodedExamples:
    """Sequences of different lengths of which only the last two or three tokens count."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 40, (number, length), generator=generator)
    lengths = torch.randint(3, length + 1, (number,), generator=generator)
    mask = torch.arange(length) < lengths[:, None]
    targets = torch.where(mask, ids.roll(-1, 1), -100)
    targets[torch.arange(length) < lengths[:, None] - 3 + torch.arange(number)[:, None] % 2] = -100
    return EncodedExamples({"ids": (ids * mask).int(), "mask": mask}, targets)


def behaviours_on(examples: EncodedExamples) -> list[Behaviour]:
    extra = {
        "completion_preference": {"alternatives": texts(len(examples), 9)},
        "token_class_probability": {"prompts": torch.arange(len(examples)) // 2},
    }
    return [Behaviour(kind, examples, **extra.get(kind, {})) for kind in LANGUAGE_KINDS]


def problem_of(network: str, number: int = 5, seed: int = 0) -> TrainingProblem:
    recipe = Recipe(
        precision="float64", batch_size=2, epochs=2, learning_rate=0.02, weight_decay=0.01
    )
    return TrainingProblem(NETWORKS[network], texts(number, seed), recipe, "next_token")


def log_probabilities(network, examples: EncodedExamples) -> list[list[float]]:
    """Of each counted token of each example, by a plain loop."""
    rows = []
    for place in range(len(examples)):
        one = examples.select(torch.tensor([place]))
        scores = network(**one.inputs)[0]
        rows.append(
            [
                scores[at].log_softmax(0)[token].item()
                for at, token in enumerate(one.targets[0].tolist())
                if token >= 0
            ]
        )
    return rows


def test_each_kind_is_what_its_words_say():
    problem = problem_of("gpt2")
    network = problem.build_network(0)
    layout = ParameterLayout.of(network)
    examples = texts(6, 3)
    found = dict(
        zip(
            LANGUAGE_KINDS,
            behaviour_values(behaviours_on(examples), network, layout, layout.flatten(network)),
            strict=True,
        )
    )
    rows = log_probabilities(network, examples)
    others = log_probabilities(network, texts(6, 9))
    sums = np.array([sum(row) for row in rows])
    expected = {
        "completion_log_probability": sums.mean(),
        "completion_mean_log_probability": np.mean([np.mean(row) for row in rows]),
        "completion_preference": (sums - [sum(row) for row in others]).mean(),
        "perplexity": math.exp(-sums.sum() / sum(map(len, rows))),
        "token_class_probability": np.exp(sums).reshape(3, 2).sum(1).mean(),
    }
    for kind, value in expected.items():
        assert float(found[kind]) == pytest.approx(value, rel=1e-9), kind
    assert set(HIGHER_IS_BETTER) == set(UNITS)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("tokens_at_once", [2_048, 8])
def test_the_gradient_of_each_kind_is_its_derivative(network, tokens_at_once, monkeypatch):
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", tokens_at_once)
    built = problem_of(network).build_network(0)
    layout = ParameterLayout.of(built)
    flat = layout.flatten(built)
    flat += 0.05 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(1))
    behaviours = behaviours_on(texts(6, 3))
    gradients = behaviour_gradients(behaviours, built, layout, flat)
    generator = torch.Generator().manual_seed(2)
    direction = torch.randn(flat.shape, dtype=flat.dtype, generator=generator)
    size = 1e-6
    up, down = (
        behaviour_values(behaviours, built, layout, flat + sign * size * direction)
        for sign in (1, -1)
    )
    torch.testing.assert_close(gradients @ direction, (up - down) / (2 * size), rtol=1e-6, atol=0)


@pytest.mark.parametrize("network", ["gpt2", "llama", "gpt2 lora", "bytes lora"])
def test_replay_of_language_models_equals_finite_differences_of_retraining(network):
    problem = problem_of(network)
    behaviours = behaviours_on(texts(4, 3))
    scores = Replay().scores([recorded(problem)], behaviours).per_seed[0]
    # Adapters start with gradients of zero, where AdamW curves most: small steps, little curvature.
    expected = finite_differences(problem, 3, behaviours, size=1e-7)
    assert_every_example_agrees(scores, expected)


@pytest.mark.parametrize("network", ["bytes", "gpt2", "llama"])
def test_neither_padding_nor_the_number_of_examples_at_once_shows(network, monkeypatch):
    problem = problem_of(network)
    built = problem.build_network(0)
    layout = ParameterLayout.of(built)
    flat = layout.flatten(built)
    examples = texts(6, 3)
    plain = behaviour_values(behaviours_on(examples), built, layout, flat)
    padded = [
        Behaviour(one.kind, lengthened(one.examples, 3), None, one.alternatives, one.prompts)
        for one in behaviours_on(examples)
    ]
    torch.testing.assert_close(
        behaviour_values(padded, built, layout, flat), plain, rtol=1e-9, atol=0
    )
    monkeypatch.setattr(module, "TOKENS_AT_ONCE", 1)
    one_by_one = behaviour_values(behaviours_on(examples), built, layout, flat)
    torch.testing.assert_close(one_by_one, plain, rtol=1e-9, atol=0)


def test_paraphrases_are_one_behaviour_whose_value_lies_amid_their_spread():
    problem = problem_of("bytes")
    built = problem.build_network(0)
    layout = ParameterLayout.of(built)
    flat = layout.flatten(built)
    behaviours = behaviours_on(texts(6, 3))
    values = behaviour_values(behaviours, built, layout, flat)
    for behaviour, value, each in zip(
        behaviours, values, behaviour_prompt_values(behaviours, built, layout, flat), strict=True
    ):
        assert len(each) == (3 if behaviour.kind == "token_class_probability" else 6)
        assert each.min() <= value <= each.max()
        if behaviour.kind != "perplexity":
            torch.testing.assert_close(each.mean(), value)


def test_a_continuation_that_another_one_begins_is_not_counted_twice():
    encoded = encoded_pairs(tokenizer="bytes")
    words = ["no", "nothing", "not", "yes", "no"]
    rows = encode_rows(
        text_table(words * 2, prompts=["Sky? "] * 5 + ["Sea? "] * 5),
        encoded.state,
        completions_only=True,
        ends=False,
    )
    kept = without_extensions(rows, torch.arange(10) // 5)
    assert kept.tolist() == [0, 3, 5, 8]


def test_the_probabilities_of_all_first_bytes_sum_to_one():
    encoded = encoded_pairs(tokenizer="bytes")
    recipe = Recipe(precision="float64")
    problem = TrainingProblem(encoded.architecture, encoded.train, recipe, encoded.loss)
    network = problem.build_network(0)
    layout = ParameterLayout.of(network)
    one = encode_rows(text_table(["x"], prompts=["Sky"]), encoded.state, ends=False)
    size = encoded.architecture["vocabulary_size"]
    every = one.select(torch.zeros(size, dtype=torch.int64))
    every.targets[:, (one.targets[0] >= 0).nonzero()[0, 0]] = torch.arange(size)
    behaviour = Behaviour(
        "token_class_probability", every, prompts=torch.zeros(size, dtype=torch.int64)
    )
    value = behaviour_values([behaviour], network, layout, layout.flatten(network))
    assert float(value[0]) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("kind", "extra", "rule"),
    [
        ("completion_preference", {}, "alternatives"),
        ("perplexity", {"alternatives": texts(3, 1)}, "alternatives"),
        ("token_class_probability", {}, "prompts"),
        ("completion_preference", {"alternatives": texts(2, 1)}, "3 alternatives are needed"),
        ("mean_margin", {}, "does not fit"),
    ],
)
def test_parts_that_do_not_belong_to_a_kind_are_refused(kind, extra, rule):
    with pytest.raises(ValueError, match=rule):
        Behaviour(kind, texts(3, 0), **extra)
