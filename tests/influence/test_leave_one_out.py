"""Closed-form leave-one-out equals refitting without the example, and replay of a converged run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.problems import MLP, RIDGE, SOFTMAX, examples_for, problem_of
from workers.influence.behaviours import Behaviour
from workers.influence.leave_one_out import LeaveOneOut, LinearOptimum, NoClosedForm, linear_optimum
from workers.influence.replay import Replay
from workers.training.trainer import train
from workers.training.trajectory import Trajectory

PENALTY = 0.05
NUMBER = 40


def optimum_of(architecture: dict, kept: torch.Tensor | None = None) -> LinearOptimum:
    examples = examples_for(architecture, NUMBER)
    if kept is not None:
        examples = examples.select(kept)
    features = examples.inputs["features"].double()
    design = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)
    targets = examples.targets
    targets = targets.double() if targets.is_floating_point() else targets
    outputs = architecture["number_of_outputs"]
    return linear_optimum(design, targets, outputs, PENALTY, NUMBER)


def refitted_without(architecture: dict, example: int) -> torch.Tensor:
    kept = torch.tensor([place for place in range(NUMBER) if place != example])
    return optimum_of(architecture, kept).parameters


def test_the_ridge_optimum_solves_the_normal_equations() -> None:
    optimum = optimum_of(RIDGE)
    design = optimum.design.numpy()
    targets = examples_for(RIDGE, NUMBER).targets.double().numpy()
    normal = 2 * design.T @ design / NUMBER + PENALTY * np.eye(6)
    expected = np.linalg.solve(normal, 2 * design.T @ targets / NUMBER)
    np.testing.assert_allclose(optimum.parameters[0], expected, rtol=1e-9)


def test_ridge_removal_is_exact() -> None:
    optimum = optimum_of(RIDGE)
    for example, move in enumerate(optimum.removal()):
        expected = refitted_without(RIDGE, example) - optimum.parameters
        torch.testing.assert_close(move, expected, rtol=1e-7, atol=1e-10)


def test_ridge_first_order_influence_divides_the_exact_move_by_one_minus_leverage() -> None:
    optimum = optimum_of(RIDGE)
    leverage = 2 / NUMBER * ((optimum.design @ optimum.inverse) * optimum.design).sum(1)
    expected = -optimum.first_order() / (1 - leverage)[:, None, None]
    torch.testing.assert_close(optimum.removal(), expected, rtol=1e-9, atol=1e-12)


def test_a_newton_step_of_softmax_regression_comes_close_to_refitting() -> None:
    optimum = optimum_of(SOFTMAX)
    newton, first_order = optimum.removal(), -optimum.first_order()
    expected = torch.stack(
        [refitted_without(SOFTMAX, example) - optimum.parameters for example in range(NUMBER)]
    )
    error = (newton - expected).norm() / expected.norm()
    assert error < 0.1
    assert error < (first_order - expected).norm() / expected.norm()


@pytest.mark.parametrize("architecture", [RIDGE, SOFTMAX], ids=["ridge", "softmax"])
def test_replay_of_a_converged_run_equals_the_first_order_closed_form(architecture: dict) -> None:
    problem = problem_of(
        architecture,
        NUMBER,
        optimizer="sgd",
        learning_rate=0.2,
        momentum=0.5,
        weight_decay=PENALTY,
        batch_size=NUMBER,
        epochs=1500,
    )
    behaviours = [Behaviour("mean_loss", examples_for(architecture, 6, seed=1))]
    run = train(problem, 0, trajectory=Trajectory())
    replayed = Replay().scores([run], behaviours).per_seed
    closed = LeaveOneOut(removal=False).scores([run], behaviours).per_seed
    np.testing.assert_allclose(replayed, closed, rtol=1e-4, atol=1e-7)


def test_other_models_and_objectives_are_refused_with_the_reason() -> None:
    behaviours = [Behaviour("mean_loss", examples_for(MLP, 6))]
    with pytest.raises(NoClosedForm, match="linear models only"):
        LeaveOneOut().estimate_cost(problem_of(MLP), 1, behaviours)
    decayed = problem_of(SOFTMAX, optimizer="adamw", weight_decay=0.1)
    with pytest.raises(NoClosedForm, match="decoupled"):
        LeaveOneOut().estimate_cost(decayed, 1, behaviours)


def test_every_seed_gets_the_same_scores() -> None:
    problem = problem_of(SOFTMAX, optimizer="sgd", weight_decay=0.1)
    behaviours = [Behaviour("mean_margin", examples_for(SOFTMAX, 6, seed=1))]
    scores = LeaveOneOut().scores([train(problem, seed) for seed in (4, 5)], behaviours)
    assert scores.seeds == (4, 5)
    np.testing.assert_array_equal(scores.per_seed[0], scores.per_seed[1])
    assert LeaveOneOut().estimate_cost(problem, 2, behaviours).seconds > 0
