"""How far a run trained on edited weights departs from the recorded one: its deviation, followed
along the recorded run without training. One seed; the equations are in `edit_aware`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from workers.influence.behaviours import Behaviour
from workers.influence.deviation_basis import (
    Basis,
    LinearOutputs,
    Stage,
    basis_of,
    stage_of,
    transposed_product,
)
from workers.influence.deviation_basis import residuals as residuals_of
from workers.influence.linearised import Linearised
from workers.training.optimizers import learning_rates
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun

STAGES, STRIDES = 3, 15
DENSER_EARLY = 1.5
"""Power of the positions of stages and strides along the run: training changes most early on."""
SMALLEST_RATIO = 0.2
"""Of v̂ after an edit to v̂ before. A parameter that loses its examples loses its gradient too, which
the few directions followed do not show: unbounded, its steps would grow without a cause."""


@dataclass(frozen=True)
class Edit:
    """New weights of some training examples."""

    train_indices: Tensor
    """(M,) int64."""
    weights: Tensor
    """(M,)."""


@dataclass(frozen=True)
class Stride:
    """Consecutive training steps taken at once."""

    stage: int
    rate: float
    """Sum of their learning rates."""
    memory: float
    """What is left of the second moments after them."""
    solve: tuple[Tensor, Tensor]
    """LU factors of I + rate · (curvature + decay)."""


@dataclass(frozen=True)
class Reading:
    """A behaviour at the end of the run, as a function of the deviation."""

    behaviour: Behaviour
    network: LinearOutputs

    def change(self, deviations: Tensor) -> Tensor:
        """(E,) of deviations (r, E)."""
        with torch.no_grad():
            before = self._value(torch.zeros_like(deviations[:, 0]))
            return vmap(self._value, in_dims=1)(deviations) - before

    def slope(self) -> Tensor:
        """(r,) the derivative at no deviation."""
        leaf = torch.zeros_like(self.network.deviation).requires_grad_()
        return torch.autograd.grad(self._value(leaf), leaf)[0].detach()

    def _value(self, deviation: Tensor) -> Tensor:
        return self.behaviour.values(self.network, {"deviation": deviation})


@dataclass(frozen=True)
class Deviation:
    """The equations of `edit_aware` for one recorded run, in r coordinates."""

    recipe: Recipe
    loss: str
    targets: Tensor
    """(N,)."""
    denominator: float
    batch_size: int
    basis: Basis
    stages: tuple[Stage, ...]
    strides: tuple[Stride, ...]
    readings: tuple[Reading, ...]

    def responses(self, edits: Sequence[Edit]) -> Tensor:
        """(E, K) changes of the behaviours by these edits."""
        weights = self.stages[0].outputs.new_ones(len(self.targets), len(edits))
        for column, edit in enumerate(edits):
            weights[edit.train_indices, column] = edit.weights.to(weights.dtype)
        z = weights.new_zeros(self.basis.size, len(edits))
        moments = _Moments(self, len(edits))
        for stride in self.strides:
            stage = self.stages[stride.stage]
            outputs = stage.outputs[..., None] + stage.read(z)
            found = residuals_of(self.loss, outputs, self.targets)
            departed = found * weights[:, None] - stage.residuals[..., None]
            force = stage.push(departed) / self.denominator
            if self.recipe.optimizer == "adamw":
                gradient = self.basis.spread(stage.pull(departed) / self.denominator)
                squares = _changes_of_squares(stage, found, edits)
                ratio = moments.after(stride, stage, gradient, squares)
                shrunk = (1 + stage.above_epsilon[:, None] * (ratio - 1)).rsqrt() - 1
                force = force + self.basis.turned(stage, shrunk, gradient)
            z = self._moved(z, stride, force)
        return torch.stack([reading.change(z) for reading in self.readings], 1)

    def first_order(self, changes: Tensor) -> Tensor:
        """(E, K) the same to first order in the weights, for changes of weight (N, E)."""
        changes = changes.to(self.stages[0].outputs.dtype)
        terms = [self._linear_terms(stage, changes) for stage in self.stages]
        z = changes.new_zeros(self.basis.size, changes.shape[1])
        moments = _Moments(self, changes.shape[1])
        for stride in self.strides:
            stage = self.stages[stride.stage]
            push, pull, squares = terms[stride.stage]
            force = push + stage.curvature @ z
            if self.recipe.optimizer == "adamw":
                gradient = self.basis.spread(pull + stage.plain_curvature @ z)
                ratio = moments.slope_after(stride, stage, gradient, squares)
                force = force - stage.turn @ (stage.above_epsilon[:, None] * ratio / 2)
            z = self._moved(z, stride, force)
        return z.T @ torch.stack([reading.slope() for reading in self.readings], 1)

    def _linear_terms(self, stage: Stage, changes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(r, E) derivatives of the force and of the gradient, (G, E) of Σ wᵢ² (∇ℓᵢ)²."""
        weighted = stage.residuals[..., None] * changes[:, None]
        push = stage.push(weighted) / self.denominator
        return (
            push,
            stage.pull(weighted) / self.denominator,
            2 * transposed_product(stage.squares, changes),
        )

    def _moved(self, z: Tensor, stride: Stride, force: Tensor) -> Tensor:
        """One linearly implicit Euler step (Rosenbrock 1963): stable however long the stride."""
        force = force + _decay(self.recipe) * z
        step: Tensor = torch.linalg.lu_solve(*stride.solve, stride.rate * force)
        return z - step


class _Moments:
    """AdamW's second moments along the run with and without the edits, by groups of parameters.

    v̂ averages E g² = (1 - 1/B) (Σ wᵢ ∇ℓᵢ / n)² + Σ wᵢ² (∇ℓᵢ)² / (n B), of batches of B.
    """

    def __init__(self, at: Deviation, edits: int) -> None:
        self.at = at
        zeros = at.stages[0].squares.new_zeros(at.stages[0].squares.shape[1], edits)
        self.unedited, self.changed = zeros[:, :1], zeros

    def after(self, stride: Stride, stage: Stage, gradient: Tensor, squares: Tensor) -> Tensor:
        """(G, E) v̂(w) / v̂(1) after `stride`, for changes of the gradient (P, E) and of the
        examples' squares (G, E)."""
        change = 2 * stage.gradient[:, None] * gradient + gradient.square()
        return self._advance(stride, stage, change, squares).add(1).clamp_min(SMALLEST_RATIO)

    def slope_after(
        self, stride: Stride, stage: Stage, gradient: Tensor, squares: Tensor
    ) -> Tensor:
        """(G, E) the derivative of `after` in the size of the edits."""
        return self._advance(stride, stage, 2 * stage.gradient[:, None] * gradient, squares)

    def _advance(self, stride: Stride, stage: Stage, change: Tensor, squares: Tensor) -> Tensor:
        batch, pool = self.at.batch_size, self.at.basis.pool
        noise = self.at.denominator * batch
        known = (1 - 1 / batch) * pool(stage.gradient.square()[:, None])
        known = known + stage.total_squares[:, None] / noise
        moved = (1 - 1 / batch) * pool(change) + squares / noise
        self.unedited = torch.lerp(known, self.unedited, stride.memory)
        self.changed = torch.lerp(moved, self.changed, stride.memory)
        return self.changed / self.unedited.clamp_min(torch.finfo(known.dtype).tiny)


def _changes_of_squares(stage: Stage, found: Tensor, edits: Sequence[Edit]) -> Tensor:
    """(G, E) Σ (wᵢ² - 1) (∇ℓᵢ)², the squares of an example grown as its residuals (N, C, E) are."""
    columns = []
    for column, edit in enumerate(edits):
        chosen = edit.train_indices
        before = stage.residuals[chosen].square().sum(1)
        grown = found[chosen, :, column].square().sum(1) / before.clamp_min(1e-12)
        weights = edit.weights.to(grown.dtype).square() * grown - 1
        columns.append(weights @ stage.squares[chosen])
    return torch.stack(columns, 1)


def _decay(recipe: Recipe) -> float:
    """Of the deviation, per unit of learning rate."""
    if recipe.optimizer == "sgd":
        return recipe.weight_decay / (1 - recipe.momentum)
    return recipe.weight_decay


def follow(run: TrainingRun, behaviours: Sequence[Behaviour]) -> Deviation:
    """The equations of one recorded run.

    Raises ValueError when the run has no recorded trajectory.
    """
    if run.trajectory is None:
        raise ValueError("the run has no recorded trajectory")
    problem, recipe = run.problem, run.problem.recipe
    number = problem.number_of_steps
    borders = np.unique(np.round(number * _positions(np.arange(STRIDES + 1), STRIDES)).astype(int))
    recorded = np.array([step for step in run.trajectory.steps if step > 0])
    wanted = number * _positions(np.arange(STAGES) + 0.5, STAGES)
    centres = np.unique(recorded[np.abs(recorded - wanted[:, None]).argmin(1)])
    middles = (borders[:-1] + borders[1:])[:, None] / 2
    nearest = np.abs(middles - centres).argmin(1).tolist()
    spans = list(pairwise(borders.tolist()))
    rates = [sum(learning_rates(recipe, number)[start:stop]) for start, stop in spans]
    states = [run.trajectory.rows(int(step)) for step in centres]
    metrics = [_metric(recipe, rows, int(step)) for rows, step in zip(states, centres, strict=True)]
    total = torch.stack([rate * metrics[place] for rate, place in zip(rates, nearest, strict=True)])
    points = [Linearised(problem, run.seed, rows[0]) for rows in states]
    final = Linearised.of(run)
    basis = basis_of(points, total.sum(0), final.behaviour_gradients(behaviours))
    stages = tuple(
        stage_of(at, basis, metric, recipe) for at, metric in zip(points, metrics, strict=True)
    )
    strides = tuple(
        Stride(
            place,
            rate,
            recipe.beta2 ** (stop - start),
            _factors(stages[place].curvature, rate, _decay(recipe)),
        )
        for place, rate, (start, stop) in zip(nearest, rates, spans, strict=True)
    )
    readings = tuple(
        Reading(one, LinearOutputs(*basis.read(final, one.examples))) for one in behaviours
    )
    batch = min(recipe.batch_size, len(problem.train))
    return Deviation(
        recipe,
        problem.loss,
        final.train.targets,
        final.denominator,
        batch,
        basis,
        stages,
        strides,
        readings,
    )


def _positions(values: np.ndarray, of: int) -> np.ndarray:
    return np.asarray((values / of) ** DENSER_EARLY)


def _metric(recipe: Recipe, rows: Tensor, step: int) -> Tensor:
    """(P,) the step per unit of gradient and of learning rate."""
    if recipe.optimizer == "sgd":
        return torch.full_like(rows[0], 1 / (1 - recipe.momentum))
    return torch.rsqrt(rows[2] / (1 - recipe.beta2**step) + recipe.epsilon)


def _factors(curvature: Tensor, rate: float, decay: float) -> tuple[Tensor, Tensor]:
    matrix = rate * curvature
    matrix.diagonal().add_(1 + rate * decay)
    factors, pivots = torch.linalg.lu_factor(matrix)
    return factors, pivots
