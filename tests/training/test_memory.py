"""Ways to spend less memory change nothing but the time: micro-batches and recomputed activations,
in training and in replay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.influence.test_behaviours import behaviours_on, problem_of, texts
from tests.influence.test_replay import recorded
from workers.influence.replay import Replay
from workers.training.batched import train_many
from workers.training.program import TrainingProgram
from workers.training.recipe import Recipe, RecipeError
from workers.training.trainer import train

SAVINGS = [
    {"micro_batch_size": 1},
    {"micro_batch_size": 3},
    {"recompute_activations": True},
    {"micro_batch_size": 2, "recompute_activations": True},
]


def saving(problem, **fields):
    return replace(problem, recipe=replace(problem.recipe, batch_size=4, **fields))


@pytest.mark.parametrize("fields", SAVINGS)
@pytest.mark.parametrize("network", ["bytes", "gpt2", "llama", "gpt2 lora"])
def test_training_ends_at_the_same_parameters(network, fields):
    problem = problem_of(network, number=7)
    weights = torch.tensor([1, 0, 2, 1, 1, 0.5, 1], dtype=torch.float64)
    plain = train(saving(problem), 2, weights)
    frugal = train(saving(problem, **fields), 2, weights)
    torch.testing.assert_close(frugal.parameters, plain.parameters, rtol=1e-9, atol=1e-12)
    assert frugal.learning_curve == pytest.approx(plain.learning_curve, rel=1e-9)
    many = train_many(saving(problem, **fields), [2], weights[None])
    torch.testing.assert_close(many[0], plain.parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fields", SAVINGS)
@pytest.mark.parametrize("network", ["bytes", "gpt2", "llama"])
def test_replay_finds_the_same_scores(network, fields):
    problem = problem_of(network, number=7)
    behaviours = behaviours_on(texts(4, 3))
    plain, frugal = (
        Replay().scores([recorded(saving(problem, **own))], behaviours).per_seed
        for own in ({}, fields)
    )
    np.testing.assert_allclose(frugal, plain, rtol=1e-5, atol=1e-9)


def test_fewer_numbers_are_kept_for_the_way_back():
    """Counts what autograd saves during a forward pass."""

    def kept(**fields) -> int:
        problem = saving(problem_of("gpt2", number=4), **fields)
        program = TrainingProgram(problem, 0)
        sizes = []

        def save(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        batch, weights = problem.examples, torch.ones(4, dtype=torch.float64)
        with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
            program.gradient(batch, weights)
        return sum(sizes)

    assert kept(recompute_activations=True) < 0.7 * kept()


def test_how_memory_is_spent_is_no_part_of_what_is_trained():
    problem = problem_of("gpt2")
    assert saving(problem).fingerprint == saving(problem, micro_batch_size=2).fingerprint


def test_a_micro_batch_larger_than_the_batch_is_refused():
    with pytest.raises(RecipeError, match="micro_batch_size"):
        Recipe(batch_size=4, micro_batch_size=5).validate()
