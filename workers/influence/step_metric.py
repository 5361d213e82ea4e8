"""How far the optimizer moves each parameter in a run, and what an edit of the weights does to it.

Under a constant gradient of 1 a run moves parameter p by c_p = Σₜ ηₜ / √(v̂ₜₚ + ε) with AdamW and
by Σₜ ηₜ / (1 - μ) with SGD (Loshchilov & Hutter 2019). AdamW's v̂ averages squared batch gradients,
so that it depends on the example weights itself:

    E g² = (1 - 1/B) (Σ wᵢ ∇ℓᵢ / n)² + Σ wᵢ² (∇ℓᵢ)² / (n B).

Tripling examples with large gradients shortens every later step, removing them lengthens it, which
a metric held fixed leaves out. SGD has no such effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from workers.influence.linearised import Linearised
from workers.training.optimizers import learning_rates
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun

CHECKPOINTS = 4
SMALLEST_RATIO = 0.05
"""Of v̂ after an edit to v̂ before: the linearised square can turn negative, v̂ cannot."""


class Average(Protocol):
    """Reduces (..., P) to (..., r): the mean over the parameters that share a coordinate."""

    def average(self, values: Tensor, importance: Tensor) -> Tensor: ...


def step_metric(run: TrainingRun) -> Tensor:
    """(P,) c: see the module. Raises ValueError when the run has no recorded trajectory."""
    if run.trajectory is None:
        raise ValueError("the run has no recorded trajectory")
    recipe, steps = run.problem.recipe, run.problem.number_of_steps
    rates = learning_rates(recipe, steps)
    if recipe.optimizer == "sgd":
        return torch.full_like(run.parameters, sum(rates) / (1 - recipe.momentum))
    total = torch.zeros_like(run.parameters)
    recorded = [step for step in run.trajectory.steps if step > 0]
    before = 0
    for step in recorded:
        second = run.trajectory.rows(step)[2] / (1 - recipe.beta2**step)
        total += sum(rates[before : min(step, steps)]) / torch.sqrt(second + recipe.epsilon)
        before = step
    return total


@dataclass(frozen=True)
class MetricChange:
    """How the second moments answer the example weights, in r coordinates.

    v̂(w) / v̂(1) = 1 + Σ (wᵢ² - 1) squares_i + Σ (wᵢ - 1) means_i, with the square of the mean
    gradient to first order in w; the ratio is a mean over the steps of the run, each weighted by
    its share of c.
    """

    squares: Tensor
    """(N, r)."""
    means: Tensor
    """(N, r)."""

    def factor(self, train_indices: Tensor, weights: Tensor) -> Tensor:
        """(r,) √(v̂(w) / v̂(1)) ≈ c(1) / c(w), for the new `weights` of these examples."""
        change = weights - 1
        ratio = 1 + (weights.square() - 1) @ self.squares[train_indices]
        ratio += change @ self.means[train_indices]
        return ratio.clamp_min(SMALLEST_RATIO).sqrt()

    @property
    def slopes(self) -> Tensor:
        """(N, r) derivatives of `factor` in each weight at 1."""
        return self.squares + self.means / 2


def metric_change(run: TrainingRun, reducer: Average) -> MetricChange | None:
    """What edits do to AdamW's second moments in `run`; None for SGD.

    The expected squares are taken at a few recorded states, denser where training begins, and
    averaged as AdamW averages them. Cost: 2 · CHECKPOINTS epochs of per-example gradients.
    """
    recipe = run.problem.recipe
    if recipe.optimizer == "sgd":
        return None
    assert run.trajectory is not None
    borders, steps = _segments(run.problem.number_of_steps, run.trajectory.steps)
    states = [Linearised(run.problem, run.seed, run.trajectory.rows(step)[0]) for step in steps]
    batch = min(recipe.batch_size, len(run.problem.train))
    moments = [_moments(at) for at in states]
    expected = torch.stack(
        [mean.square() * (1 - 1 / batch) + square / batch for mean, square in moments]
    )
    shares = _shares_of_moments(recipe, borders, steps, expected)
    importance = step_metric(run) * expected.mean(0)
    number = len(run.problem.train)
    squares, means = [], []
    for at, (mean, _), share in zip(states, moments, shares, strict=True):
        own_squares, own_means = [], []
        for indices in at.chunks():
            gradients = at.loss_gradients(at.train.select(indices))
            linear = gradients * (share * mean * (2 * (1 - 1 / batch) / number))
            own_means.append(reducer.average(linear, importance))
            own_squares.append(
                reducer.average(gradients.square_() * (share / (number * batch)), importance)
            )
        squares.append(torch.cat(own_squares))
        means.append(torch.cat(own_means))
    return MetricChange(torch.stack(squares).sum(0), torch.stack(means).sum(0))


def _segments(number_of_steps: int, recorded: list[int]) -> tuple[list[int], list[int]]:
    """Borders of segments that grow along the run, and the recorded step nearest each middle."""
    positions = np.arange(CHECKPOINTS + 1) / CHECKPOINTS
    borders = np.unique(np.round(number_of_steps * positions**2).astype(int))
    middles = (borders[:-1] + borders[1:]) // 2
    known = np.array(recorded)
    nearest = known[np.abs(known[None, :] - middles[:, None]).argmin(1)]
    return borders.tolist(), nearest.tolist()


def _moments(at: Linearised) -> tuple[Tensor, Tensor]:
    """(P,) means of ∇ℓᵢ and of its square over the training examples."""
    mean, square = torch.zeros_like(at.parameters), torch.zeros_like(at.parameters)
    for indices in at.chunks():
        gradients = at.loss_gradients(at.train.select(indices))
        mean += gradients.sum(0)
        square += gradients.square_().sum(0)
    return mean / len(at.train), square / len(at.train)


def _shares_of_moments(
    recipe: Recipe, borders: list[int], steps: list[int], expected: Tensor
) -> Tensor:
    """(J, P) the derivative of log c's denominator, -2 ∂ log c / ∂ E g², by segment j's moments
    `expected` (J, P): through every later v̂, which remembers by powers of beta2."""
    rates = learning_rates(recipe, borders[-1])
    spans = list(pairwise(borders))
    memory = expected.new_zeros(len(spans), len(spans))
    for row, now in enumerate(steps):
        for column, (start, stop) in enumerate(spans[: row + 1]):
            seen = range(start, stop if column < row else max(now, start + 1))
            memory[row, column] = sum(recipe.beta2 ** abs(now - step) for step in seen)
    memory /= memory.sum(1, keepdim=True)
    second = memory @ expected
    travelled = torch.stack(
        [
            sum(rates[start:stop]) / torch.sqrt(own + recipe.epsilon)
            for (start, stop), own in zip(spans, second, strict=True)
        ]
    )
    travelled /= travelled.sum(0)
    return memory.T @ (travelled / (second + recipe.epsilon))
