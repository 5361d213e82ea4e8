"""TracIn equals a loop over checkpoints and examples, and replay where nothing moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.influence.test_replay import behaviours_for
from tests.training.problems import ARCHITECTURES, problem_of
from workers.influence.checkpoints import checkpoint_learning_rates
from workers.influence.linearised import Linearised
from workers.influence.registry import build_method
from workers.training.losses import LOSSES
from workers.training.optimizers import learning_rates
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

ARCHITECTURE = next(iter(ARCHITECTURES.values()))


def problem_with(architecture: dict, **changes: object) -> TrainingProblem:
    problem = problem_of(architecture)
    return replace(problem, recipe=replace(problem.recipe, precision="float64", **changes))


def recorded(problem: TrainingProblem, seed: int = 3, spacing: int = 1) -> TrainingRun:
    return train(problem, seed, trajectory=Trajectory(spacing=spacing))


def scores_of(run: TrainingRun, behaviours: list | None = None, **options: int) -> np.ndarray:
    wanted = behaviours_for(run.problem) if behaviours is None else behaviours
    return build_method("checkpoints", **options).scores([run], wanted).per_seed[0]


def loop(run: TrainingRun) -> np.ndarray:
    """(N, K) by plain autograd, one example and one checkpoint at a time, all steps recorded."""
    problem, recipe = run.problem, run.problem.recipe
    rates = learning_rates(recipe, problem.number_of_steps)
    total = torch.zeros(len(problem.train), len(behaviours_for(problem)), dtype=torch.float64)
    for step, rate in enumerate(rates):
        rows = run.trajectory.rows(step)
        scale = torch.full_like(rows[0], 1 / (1 - recipe.momentum))
        if recipe.optimizer == "adamw":
            if step == 0:  # the first checkpoint is that before step 1 and stands for step 0 too
                rates[1] += rate
                continue
            scale = 1 / torch.sqrt(rows[2] / (1 - recipe.beta2**step) + recipe.epsilon)
        at = Linearised(problem, run.seed, rows[0])
        wanted = at.behaviour_gradients(behaviours_for(problem))
        for place in range(len(problem.train)):
            one = at.train.select(torch.tensor([place]))
            leaf = rows[0].clone().requires_grad_()
            loss = LOSSES[problem.loss](at.outputs(one.inputs, leaf), one.targets).sum()
            gradient = torch.autograd.grad(loss, leaf)[0]
            total[place] -= rates[step] * (wanted * scale) @ gradient / at.denominator
    return total.numpy()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_scores_equal_a_loop_over_checkpoints_and_examples(
    architecture: dict, optimizer: str
) -> None:
    run = recorded(problem_with(architecture, optimizer=optimizer, epochs=1, schedule="linear"))
    np.testing.assert_allclose(
        scores_of(run, most_checkpoints=1000), loop(run), rtol=1e-5, atol=1e-9
    )


def test_scores_tend_to_those_of_replay_as_the_learning_rate_vanishes() -> None:
    run = recorded(
        problem_with(
            ARCHITECTURE,
            optimizer="sgd",
            momentum=0.0,
            weight_decay=0.0,
            learning_rate=1e-7,
            schedule="constant",
        )
    )
    exact = build_method("replay").scores([run], behaviours_for(run.problem)).per_seed[0]
    size = np.abs(exact).max()
    np.testing.assert_allclose(scores_of(run) / size, exact / size, rtol=1e-4, atol=1e-5)


def test_one_behaviour_at_a_time_gives_the_same_scores() -> None:
    run = recorded(problem_with(ARCHITECTURE))
    behaviours = behaviours_for(run.problem)
    alone = np.concatenate([scores_of(run, [one]) for one in behaviours], 1)
    np.testing.assert_allclose(scores_of(run), alone, rtol=1e-5, atol=1e-9)


def test_the_order_of_behaviours_does_not_matter() -> None:
    run = recorded(problem_with(ARCHITECTURE))
    turned = scores_of(run, behaviours_for(run.problem)[::-1])
    np.testing.assert_allclose(scores_of(run), turned[:, ::-1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("spacing", [1, 7, 100])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_few_checkpoints_share_out_the_whole_run(optimizer: str, spacing: int) -> None:
    recipe = Recipe(optimizer=optimizer, schedule="cosine", warmup_steps=5)
    steps = [*range(0, 100, spacing), 100]
    shares = checkpoint_learning_rates(steps, recipe, 12)
    assert len(shares) <= 12
    assert set(shares) <= set(steps)
    assert sum(shares.values()) == pytest.approx(sum(learning_rates(recipe, 100)))


def test_evenly_spaced_checkpoints_share_evenly() -> None:
    recipe = Recipe(optimizer="sgd", learning_rate=0.5, warmup_steps=0)
    shares = checkpoint_learning_rates([0, 2, 4, 6, 8], recipe, 2)
    assert shares == {0: pytest.approx(1.5), 4: pytest.approx(2.5)}


def test_a_run_without_trajectory_is_refused() -> None:
    run = train(problem_with(ARCHITECTURE), 3)
    with pytest.raises(ValueError, match="trajectory"):
        scores_of(run)


def test_no_checkpoints_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        build_method("checkpoints", most_checkpoints=0)


def test_the_cost_is_estimated_before_the_start() -> None:
    problem = problem_with(ARCHITECTURE)
    cost = build_method("checkpoints").estimate_cost(problem, 2, behaviours_for(problem))
    assert cost.seconds > 0
    assert cost.bytes > 0
