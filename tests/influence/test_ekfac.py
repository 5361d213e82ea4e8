"""EK-FAC scores equal the dense solve, do not depend on how they are computed, and report what
they leave out; as a preconditioner EK-FAC changes the work and not the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.influence.test_curvature import explicit_gauss_newton, explicit_scores
from tests.influence.test_kronecker import GPT2, dense, problem_with
from tests.influence.test_replay import behaviours_for
from tests.training.problems import CONVOLUTIONAL, MLP, RIDGE, TRANSFORMER, problem_of
from workers.influence import gauss_newton
from workers.influence.coverage import CoverageError
from workers.influence.curvature import Curvature
from workers.influence.damping import distance_of_run, training_time_damping
from workers.influence.ekfac import Ekfac
from workers.influence.kronecker import fit_kronecker
from workers.influence.linearised import Linearised
from workers.influence.registry import build_method
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory


@pytest.mark.parametrize("architecture", [MLP, CONVOLUTIONAL, TRANSFORMER, GPT2],
                         ids=["mlp", "convolutional", "transformer", "GPT-2"])  # fmt: skip
def test_scores_are_the_dense_solve(architecture: dict) -> None:
    run = train(problem_with(architecture), 3)
    behaviours = behaviours_for(problem_of(TRANSFORMER if architecture is GPT2 else architecture))
    scores = Ekfac(damping=0.05, scales=()).scores([run], behaviours).per_seed[0]
    at = Linearised.of(run)
    matrix = dense(fit_kronecker(at)) + 0.05 * torch.eye(len(at.parameters), dtype=torch.float64)
    solved = torch.linalg.solve(matrix, at.behaviour_gradients(behaviours).T).T
    expected = -at.loss_gradients(at.train) @ solved.T / at.denominator
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6 * expected.abs().max())


def test_scores_equal_the_explicit_inverse_where_the_curvature_is_a_kronecker_product() -> None:
    run = train(problem_of(RIDGE, 12, optimizer="sgd", weight_decay=0.1), 3)
    behaviours = behaviours_for(run.problem)
    scores = Ekfac(damping=0.05).scores([run], behaviours).per_seed[0]
    np.testing.assert_allclose(scores, explicit_scores(run, behaviours, 0.15), rtol=1e-4)


def test_the_order_and_company_of_behaviours_and_examples_change_nothing() -> None:
    run = train(problem_of(), 3)
    behaviours = behaviours_for(run.problem)
    method = Ekfac(damping=0.01)
    together = method.scores([run], behaviours).per_seed
    for place, behaviour in enumerate(behaviours):
        alone = method.scores([run], [behaviour]).per_seed[0, :, 0]
        np.testing.assert_allclose(alone, together[0, :, place], rtol=1e-5, atol=1e-9)
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    problem = run.problem
    moved = TrainingProblem(MLP, problem.train.select(order), problem.recipe, problem.loss)
    shuffled = TrainingRun(moved, 3, None, run.parameters, run.layout, ())
    found = method.scores([shuffled], behaviours).per_seed
    np.testing.assert_allclose(found, together[:, order.numpy()], rtol=1e-4, atol=1e-8)


def test_what_is_left_out_is_reported_and_too_much_of_it_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = train(problem_of(TRANSFORMER, 6), 3)
    behaviours = behaviours_for(run.problem)
    known = build_method("ekfac").scores([run], behaviours).diagnostics["seeds"][0]
    left = {one["parameter"]: one for one in known["coverage"]["left_out"]}
    assert left["body.norm.weight"]["reason"] == "a vector"
    assert left["body.positions.weight"]["kept"] == "diagonal"
    total = sum(one["size"] for one in left.values()) / run.parameters.numel()
    assert known["coverage"]["share"] == pytest.approx(1 - total)
    monkeypatch.setattr("workers.influence.kronecker_uses._HANDLERS", {})
    with pytest.raises(CoverageError, match="describes only 0%"):
        build_method("ekfac").scores([run], behaviours)


@pytest.mark.parametrize("damping", [None, 1e-4])
def test_as_preconditioner_it_leaves_the_answer(
    damping: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gauss_newton, "LARGEST_EXACT", 0)
    run = train(problem_of(number=60), 3, trajectory=Trajectory())
    behaviours = behaviours_for(run.problem)
    scores = {}
    for name in ("none", "ekfac"):
        method = Curvature(
            damping=damping, preconditioner=name, tolerance=1e-9, most_iterations=2000
        )
        scores[name], known = method.scores_of_run(run, behaviours)
        assert known["solver"] == "conjugate gradients"
    torch.testing.assert_close(scores["ekfac"], scores["none"], rtol=1e-5, atol=1e-9)


def test_it_saves_iterations_where_the_damping_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauss_newton, "LARGEST_EXACT", 0)
    run = train(problem_of(number=60), 3)
    behaviours = behaviours_for(run.problem)
    iterations = [
        Curvature(damping=1e-6, preconditioner=name, most_iterations=2000)
        .scores_of_run(run, behaviours)[1]["iterations"]
        for name in ("ekfac", "none")
    ]  # fmt: skip
    assert iterations[0] < iterations[1]


def test_an_unknown_preconditioner_is_refused() -> None:
    with pytest.raises(ValueError, match="none, ekfac"):
        Curvature(preconditioner="newton")


@pytest.mark.parametrize("exact", [True, False])
def test_the_default_damping_is_in_units_of_each_parameters_steps(
    exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exact:
        monkeypatch.setattr(gauss_newton, "LARGEST_EXACT", 0)
    run = train(problem_of(MLP, 20), 3, trajectory=Trajectory())
    behaviours = behaviours_for(run.problem)
    at = Linearised.of(run)
    matrix = explicit_gauss_newton(run) + torch.diag(2 / distance_of_run(run))
    solved = torch.linalg.solve(matrix, at.behaviour_gradients(behaviours).T).T
    expected = -at.loss_gradients(at.train) @ solved.T / at.denominator
    method = Curvature(strength=2.0, tolerance=1e-10)
    scores = method.scores([run], behaviours)
    assert scores.diagnostics["seeds"][0]["damping"] == 2.0
    np.testing.assert_allclose(
        scores.per_seed[0], expected, rtol=1e-4, atol=1e-6 * expected.abs().max()
    )


def test_sgd_moves_all_parameters_alike() -> None:
    run = train(problem_of(optimizer="sgd"), 3, trajectory=Trajectory())
    inverse = 1 / distance_of_run(run)
    torch.testing.assert_close(inverse, torch.full_like(inverse, training_time_damping(run)))


def test_a_run_of_adamw_that_was_not_recorded_has_no_distances() -> None:
    with pytest.raises(ValueError, match="no recorded trajectory"):
        distance_of_run(train(problem_of(), 3))


@pytest.mark.parametrize("name", ["curvature", "ekfac"])
def test_held_out_edits_choose_the_strength(name: str) -> None:
    runs = [train(problem_of(number=40), seed, trajectory=Trajectory()) for seed in (3, 4)]
    behaviours = behaviours_for(runs[0].problem)
    edits = -(np.random.default_rng(0).random((30, 40)) < 0.1).astype(float)
    measured = edits @ build_method(name, strength=10.0).scores(runs, behaviours).aggregate()
    method = build_method(name)
    assert method.choose_strength(runs, behaviours, edits, measured) == 10.0
