"""Unrolled segments equal stochastic gradient descent that autograd unrolled, where training is
quadratic; the segment formulas with dense matrix functions, where it is not; and themselves
however the functions are computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.influence.test_curvature import explicit_gauss_newton
from tests.influence.test_replay import behaviours_for
from tests.training.problems import CONVOLUTIONAL, MLP, RIDGE, SOFTMAX, TRANSFORMER, problem_of
from workers.influence import unrolled
from workers.influence.behaviours import Behaviour
from workers.influence.leave_one_out import LeaveOneOut
from workers.influence.linearised import Linearised
from workers.influence.registry import build_method
from workers.influence.unrolled import Segment, Unrolled, response_of, segments_of
from workers.influence.unrolled_functions import lanczos
from workers.training.losses import LOSSES
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory


def recorded(architecture: dict = MLP, number: int = 12, **recipe: object) -> TrainingRun:
    return train(problem_of(architecture, number, **recipe), 3, trajectory=Trajectory())


def derivative_by_autograd(run: TrainingRun, behaviours: list[Behaviour]) -> np.ndarray:
    """(N, K) by differentiating full-batch gradient descent, every step of it, in the weights."""
    at = Linearised.of(run)
    recipe, loss = run.problem.recipe, LOSSES[run.problem.loss]
    weights = torch.ones(len(at.train), dtype=torch.float64, requires_grad=True)
    assert run.trajectory is not None
    theta = run.trajectory.rows(0)[0].clone().requires_grad_()
    for _ in range(run.problem.number_of_steps):
        losses = loss(at.outputs(at.train.inputs, theta), at.train.targets)
        objective = (losses @ weights) / recipe.batch_size
        objective = objective + recipe.weight_decay / 2 * theta.square().sum()
        (gradient,) = torch.autograd.grad(objective, theta, create_graph=True)
        theta = theta - recipe.learning_rate * gradient
    columns = []
    for behaviour in behaviours:
        value = behaviour.values(at.network, at.layout.unflatten(theta))
        columns.append(torch.autograd.grad(value, weights, retain_graph=True)[0])
    return torch.stack(columns, 1).numpy()


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_it_is_unrolled_descent_where_training_is_quadratic(weight_decay: float) -> None:
    # Small steps: a segment's exponential stands for a power of (1 - η H).
    run = recorded(
        RIDGE, optimizer="sgd", momentum=0.0, learning_rate=0.002, weight_decay=weight_decay,
        batch_size=12, epochs=120,
    )  # fmt: skip
    behaviours = behaviours_for(run.problem)
    scores = Unrolled(most_segments=40).scores([run], behaviours).per_seed[0]
    expected = derivative_by_autograd(run, behaviours)
    np.testing.assert_allclose(scores, expected, rtol=0.01, atol=0.01 * np.abs(expected).max())


def test_a_converged_linear_model_has_the_closed_form_without_any_damping() -> None:
    run = recorded(
        SOFTMAX, 40, optimizer="sgd", learning_rate=0.2, momentum=0.5, weight_decay=0.05,
        batch_size=40, epochs=1500,
    )  # fmt: skip
    behaviours = behaviours_for(run.problem)
    scores = Unrolled(most_segments=2).scores([run], behaviours).per_seed
    closed = LeaveOneOut(removal=False).scores([run], behaviours).per_seed
    np.testing.assert_allclose(scores, closed, rtol=1e-3, atol=1e-6)


def by_dense_matrices(
    run: TrainingRun, behaviours: list[Behaviour], segments: list[Segment]
) -> Tensor:
    """(K, N) from explicit Gauss–Newton matrices and matrix exponentials; AdamW, with decay."""
    assert run.trajectory is not None
    recipe = run.problem.recipe
    assert recipe.schedule == "constant"
    carried = Linearised.of(run).behaviour_gradients(behaviours)
    total: Tensor | float = 0.0
    for segment in reversed(segments):
        theta = run.trajectory.rows(segment.state)[0]
        at = Linearised(run.problem, run.seed, theta)
        there = replace(run, parameters=theta)
        distance = torch.zeros_like(theta)
        for step in range(segment.start, segment.stop):
            second = run.trajectory.rows(step + 1)[2] / (1 - recipe.beta2 ** (step + 1))
            distance += recipe.learning_rate / torch.sqrt(second + recipe.epsilon)
        decay = recipe.learning_rate * recipe.weight_decay * (segment.stop - segment.start)
        exponent = distance[:, None] * explicit_gauss_newton(there)
        exponent += decay * torch.eye(len(theta), dtype=torch.float64)
        after = torch.linalg.matrix_exp(-exponent)
        identity = torch.eye(len(theta), dtype=torch.float64)
        response = torch.linalg.solve(exponent, (identity - after) * distance[None, :])
        gradients = at.loss_gradients(at.train)
        total = total - carried @ response @ gradients.T / at.denominator
        carried = carried @ after
    assert isinstance(total, Tensor)
    return total


@pytest.mark.parametrize("architecture", [MLP, CONVOLUTIONAL], ids=["mlp", "convolutional"])
@pytest.mark.parametrize("solver", ["exact", "lanczos"])
def test_it_is_the_dense_matrix_functions_for_adamw(architecture: dict, solver: str) -> None:
    run = recorded(architecture, 8, weight_decay=0.3, epochs=6)
    behaviours = behaviours_for(run.problem)
    assert run.trajectory is not None
    segments = segments_of(run.trajectory.steps, 3)
    scores, known = Unrolled(solver=solver).scores_of_run(run, behaviours)
    expected = by_dense_matrices(run, behaviours, segments)
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert [one["by"] for one in known["solver"]] == [solver] * 3


def test_ekfac_is_exact_where_the_curvature_is_a_kronecker_product() -> None:
    run = recorded(RIDGE, optimizer="sgd", momentum=0.5, learning_rate=0.02, epochs=10)
    behaviours = behaviours_for(run.problem)
    exact, _ = Unrolled(solver="exact").scores_of_run(run, behaviours)
    found, known = Unrolled(solver="ekfac").scores_of_run(run, behaviours)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-9)
    assert known["solver"][0]["coverage"]["share"] == 1.0


def test_large_networks_take_ekfac_and_lanczos_where_it_does_not_cover(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unrolled, "LARGEST_BY_LANCZOS", 10)
    monkeypatch.setattr("workers.influence.gauss_newton.LARGEST_EXACT", 0)
    run = recorded(TRANSFORMER, 6)
    behaviours = behaviours_for(run.problem)
    method = build_method("unrolled")
    assert method.scores_of_run(run, behaviours)[1]["solver"][0]["by"] == "ekfac"
    monkeypatch.setattr("workers.influence.kronecker_uses._HANDLERS", {})
    assert method.scores_of_run(run, behaviours)[1]["solver"][0]["by"] == "lanczos"


def test_behaviours_are_scored_alike_alone_and_together() -> None:
    run = recorded()
    behaviours = behaviours_for(run.problem)
    together = Unrolled().scores([run], behaviours).per_seed[0]
    for place, behaviour in enumerate(behaviours):
        alone = Unrolled().scores([run], [behaviour]).per_seed[0, :, 0]
        np.testing.assert_allclose(alone, together[:, place], rtol=1e-5, atol=1e-9)


def test_segments_share_out_all_steps_between_recorded_states() -> None:
    assert segments_of(range(10), 3) == [Segment(0, 3, 1), Segment(3, 6, 4), Segment(6, 9, 7)]
    assert segments_of([0, 7, 14, 20], 2) == [Segment(0, 7, 0), Segment(7, 20, 14)]
    assert segments_of([0, 5], 6) == [Segment(0, 5, 0)]


def test_the_response_is_smooth_through_zero() -> None:
    values = torch.tensor([0.0, 1e-14, 1e-9, 1e-3, 2.0, 1e6], dtype=torch.float64)
    expected = [1, 1, 1 - 0.5e-9, (1 - np.exp(-1e-3)) / 1e-3, (1 - np.exp(-2)) / 2, 1e-6]
    torch.testing.assert_close(response_of(values), torch.tensor(expected, dtype=torch.float64))


def test_lanczos_equals_the_eigendecomposition_also_of_a_singular_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(7, 30, generator=generator, dtype=torch.float64)
    matrix = factor.T @ factor
    rows = torch.randn(4, 30, generator=generator, dtype=torch.float64)
    rows[1] = 0
    rows[2] = factor[0]
    values, vectors = torch.linalg.eigh(matrix)

    def smooth(h: Tensor) -> Tensor:
        return torch.exp(-h / 10)

    found, iterations = lanczos(lambda v: v @ matrix, rows, [smooth, response_of], tolerance=1e-9)
    for one, function in zip(found, (smooth, response_of), strict=True):
        expected = (rows @ vectors * function(values.clamp_min(0))) @ vectors.T
        torch.testing.assert_close(one, expected, rtol=1e-7, atol=1e-9)
    assert iterations <= 10


def test_wrong_options_and_runs_without_a_trajectory_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 segment"):
        Unrolled(most_segments=0)
    with pytest.raises(ValueError, match="auto, exact, lanczos, ekfac"):
        Unrolled(solver="newton")
    run = train(problem_of(), 3)
    with pytest.raises(ValueError, match="no complete trajectory"):
        Unrolled().scores([run], behaviours_for(run.problem))
