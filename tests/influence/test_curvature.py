"""Curvature equals the explicit inverse, the closed forms and itself however it is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.influence.test_replay import behaviours_for
from tests.training.problems import ARCHITECTURES, MLP, RIDGE, SOFTMAX, problem_of
from workers.influence import gauss_newton
from workers.influence.behaviours import Behaviour
from workers.influence.curvature import Curvature
from workers.influence.damping import (
    damping_by_evidence,
    damping_matching_scale,
    training_time_damping,
)
from workers.influence.gauss_newton import GaussNewton, conjugate_gradients
from workers.influence.leave_one_out import LeaveOneOut
from workers.influence.linearised import Linearised, square_root_curvature
from workers.training.losses import LOSSES
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, train


def explicit_gauss_newton(run: TrainingRun) -> torch.Tensor:
    """Σ wᵢ Jᵢᵀ Lᵢ Jᵢ / n, example by example with plain autograd."""
    at = Linearised.of(run)
    loss = LOSSES[run.problem.loss]
    total = torch.zeros(at.parameters.numel(), at.parameters.numel(), dtype=torch.float64)
    for place in range(len(at.train)):
        one = at.train.select(torch.tensor([place]))
        outputs = at.outputs(one.inputs)
        jacobian = torch.autograd.functional.jacobian(
            lambda flat, one=one: at.outputs(one.inputs, flat).flatten(), at.parameters
        )
        curvature = torch.autograd.functional.hessian(
            lambda flat, one=one, shape=outputs.shape: loss(flat.reshape(shape), one.targets)[0],
            outputs.detach().flatten(),
        )
        total += at.weights[place] * jacobian.T @ curvature @ jacobian
    return total / at.denominator


def explicit_scores(run: TrainingRun, behaviours: list[Behaviour], damping: float) -> np.ndarray:
    at = Linearised.of(run)
    matrix = explicit_gauss_newton(run)
    matrix += damping * torch.eye(len(matrix), dtype=torch.float64)
    loss = LOSSES[run.problem.loss]
    columns = []
    for place in range(len(at.train)):
        one = at.train.select(torch.tensor([place]))
        leaf = at.parameters.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            loss(at.outputs(one.inputs, leaf), one.targets).sum(), leaf
        )
        columns.append(torch.linalg.solve(matrix, gradient))
    gradients = at.behaviour_gradients(behaviours)
    return (-(torch.stack(columns) @ gradients.T) / at.denominator).numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_scores_equal_the_explicit_inverse_for_every_architecture(architecture: dict) -> None:
    weights = torch.linspace(0, 2, 8, dtype=torch.float64)
    run = train(problem_of(architecture, number=8), 3, weights)
    behaviours = behaviours_for(run.problem)
    scores = Curvature(damping=0.05, tolerance=1e-10).scores([run], behaviours).per_seed[0]
    expected = explicit_scores(run, behaviours, 0.05)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_small_factor_of_the_softmax_curvature_is_exact(classes: int) -> None:
    logits = 5 * torch.randn(20, classes, dtype=torch.float64)
    probabilities = logits.softmax(1)
    rows = square_root_curvature("cross_entropy", logits)
    assert rows.shape == (20, classes - 1, classes)
    expected = torch.diag_embed(probabilities) - (
        probabilities[:, :, None] * probabilities[:, None, :]
    )
    torch.testing.assert_close(rows.mT @ rows, expected)


def test_the_small_factor_stays_finite_for_a_certain_network() -> None:
    logits = torch.tensor([[200.0, 0.0, -200.0], [0.0, 0.0, 300.0]])
    assert torch.isfinite(square_root_curvature("cross_entropy", logits)).all()


def test_products_by_autograd_equal_products_by_the_factor() -> None:
    at = Linearised.of(train(problem_of(), 3))
    vectors = torch.randn(4, at.parameters.numel(), dtype=torch.float64)
    torch.testing.assert_close(
        GaussNewton(at, factor_bytes=0).product(vectors), GaussNewton(at).product(vectors)
    )


@pytest.mark.parametrize("number", [8, 60], ids=["by examples", "by parameters"])
def test_exact_and_iterative_solutions_agree(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(problem_of(number=number), 3)
    behaviours = behaviours_for(run.problem)
    exact, known = Curvature().path(run, behaviours, [1e-3, 1e-1])
    monkeypatch.setattr(gauss_newton, "LARGEST_EXACT", 0)
    iterated, known_iterated = Curvature(tolerance=1e-9, most_iterations=1000).path(
        run, behaviours, [1e-3, 1e-1]
    )
    assert (known[0]["solver"], known_iterated[0]["solver"]) == ("exact", "conjugate gradients")
    torch.testing.assert_close(iterated, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("architecture", [RIDGE, SOFTMAX], ids=["ridge", "softmax"])
def test_a_converged_linear_model_has_the_closed_form(architecture: dict) -> None:
    problem = problem_of(
        architecture,
        40,
        optimizer="sgd",
        learning_rate=0.2,
        momentum=0.5,
        weight_decay=0.05,
        batch_size=40,
        epochs=1500,
    )
    run = train(problem, 0)
    behaviours = behaviours_for(problem)
    scores = Curvature(damping=1e-9).scores([run], behaviours).per_seed
    closed = LeaveOneOut(removal=False).scores([run], behaviours).per_seed
    np.testing.assert_allclose(scores, closed, rtol=1e-4, atol=1e-7)


def test_behaviours_are_scored_alike_alone_and_together() -> None:
    run = train(problem_of(), 3)
    behaviours = behaviours_for(run.problem)
    method = Curvature(damping=0.01)
    together = method.scores([run], behaviours).per_seed[0]
    for place, behaviour in enumerate(behaviours):
        alone = method.scores([run], [behaviour]).per_seed[0, :, 0]
        np.testing.assert_allclose(alone, together[:, place], rtol=1e-5, atol=1e-9)


def test_the_order_of_the_examples_changes_nothing() -> None:
    run = train(problem_of(), 3)
    order = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    problem = run.problem
    moved = TrainingProblem(MLP, problem.train.select(order), problem.recipe, problem.loss)
    shuffled = TrainingRun(moved, 3, None, run.parameters, run.layout, ())
    behaviours = behaviours_for(problem)
    method = Curvature(damping=0.01)
    np.testing.assert_allclose(
        method.scores([shuffled], behaviours).per_seed,
        method.scores([run], behaviours).per_seed[:, order.numpy()],
        rtol=1e-5,
        atol=1e-9,
    )


def test_conjugate_gradients_reports_what_it_did_not_reach() -> None:
    matrix = torch.diag(torch.logspace(-4, 4, 50, dtype=torch.float64))
    right = torch.ones(2, 50, dtype=torch.float64)
    short = conjugate_gradients(lambda rows: rows @ matrix, right, 0.0, most_iterations=3)
    assert short.iterations == 3
    assert short.residuals.max() > 1e-4
    full = conjugate_gradients(
        lambda rows: rows @ matrix,
        right,
        0.0,
        precondition=lambda rows: rows / matrix.diagonal(),
    )
    assert full.iterations == 1


def test_a_damping_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Curvature(damping=0.0)


def test_twice_the_training_halves_the_damping_of_sgd() -> None:
    settings = {"optimizer": "sgd", "momentum": 0.5, "learning_rate": 0.1}
    once = train(problem_of(epochs=2, **settings), 0)
    twice = train(problem_of(epochs=4, **settings), 0)
    assert training_time_damping(once) == pytest.approx(2 * training_time_damping(twice))
    assert training_time_damping(once) == pytest.approx(0.5 / (0.1 * 6))


def test_the_scale_of_a_reference_gives_back_its_damping() -> None:
    run = train(problem_of(number=60), 3)
    behaviours = behaviours_for(run.problem)
    dampings = np.geomspace(1e-4, 1, 9).tolist()
    method = Curvature()
    path = method.path(run, behaviours, dampings)[0].mT.numpy()
    reference = method.path(run, behaviours, [0.02])[0][0].T.numpy()
    assert damping_matching_scale(dampings, path, reference) == pytest.approx(0.02, rel=0.1)


def test_held_out_edits_choose_the_damping_that_ranks_them() -> None:
    run = train(problem_of(number=60), 3)
    behaviours = behaviours_for(run.problem)
    dampings = [1e-4, 1e-2, 1.0]
    path = Curvature().path(run, behaviours, dampings)[0].mT.numpy()
    edits = -(np.random.default_rng(0).random((30, 60)) < 0.1).astype(float)
    assert damping_by_evidence(dampings, path, edits, edits @ path[1]) == 1e-2
