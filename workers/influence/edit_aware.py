"""Edit-aware prediction: how large the effect of *this* edit is, where first-order scores only know
the effect of an infinitesimal one. No retrain is run.

First-order scores rank edits well and miss their size: removing examples changes the curvature
that held the others back, and the third copy of an example teaches less than the first. Both are
in the network linearised at its trained weights, y(δ) = y⁰ + Jδ, trained to the end of

    F_w(δ) = Σ wᵢ ℓᵢ(y⁰ᵢ + Jᵢδ) / n - s g₀·δ + |δ|²_sM / 2,        g₀ = Σ ∇ℓᵢ / n,

a convex problem whose minimum for unedited weights (s = 1) is δ = 0. The metric of the proximal
term is that of the training run itself: M = diag(1/c), with c how far the run moves each parameter
for a constant gradient of 1. Training that long is, to first order in its length, the proximal step
with that metric (early stopping as ridge: Ali, Kolter & Tibshirani 2019), so there is no damping to
choose. With AdamW the edit changes the metric itself, by s = c(1) / c(w) (`step_metric`): the term
-s g₀ is what the unedited run's own distance from its start, M⁻¹g₀, weighs in the new metric. For
each behaviour b, with δ¹ the first Newton step and δ* the minimum,

    prediction = replay + κ · slope · (∇b·δ* - ∇b·δ¹),   κ = replay / (slope · ∇b·δ¹) within [½, 2],

with slope the least-squares scale of replay's scores on the linearised network's own: replay times
the ratio of optimum to first step, and a bounded correction where the first step is near zero. It
is worth as much as the linearised network resembles the trained one, which `agreement` tells: the
correlation of both scores. Groups of edits: Koh et al. 2019; Basu et al. 2020.

Cost: prepared once a seed for about C training epochs (C outputs), 8 more for AdamW; then each edit
takes a few matrix products of size N·C × r, with the features J√c projected to r dimensions by a
sparse sign projection (Johnson–Lindenstrauss; exact where the network has at most r parameters).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jacrev, vmap

from workers.influence.behaviours import Behaviour
from workers.influence.interface import InfluenceScores, Progress, shared_problem
from workers.influence.linearised import Linearised
from workers.influence.step_metric import MetricChange, metric_change, step_metric
from workers.training.trainer import TrainingRun

Array = NDArray[np.float64]

FEATURES = 1024
LARGEST_STATE = 1 << 30
"""Bytes of the projected features of one seed."""
NEWTON_STEPS, CONJUGATE_STEPS = 15, 40
TOLERANCE = 1e-3
SMALLEST_SLOPE, LARGEST_SLOPE = 0.2, 5.0
SMALLEST_SHARE, LARGEST_SHARE = 0.5, 2.0


class NotEditAware(ValueError):
    """The edit-aware estimate does not fit this problem; the message says why."""


@dataclass(frozen=True)
class LinearisedRetrain:
    """One seed's network linearised at its trained weights, in r projected coordinates."""

    features: Tensor
    """(N·C, r) rows of J√c."""
    outputs: Tensor
    """(N, C) y⁰."""
    targets: Tensor
    """(N,)."""
    behaviours: Tensor
    """(K, r) gradients of the behaviours in the same coordinates."""
    denominator: float
    eigenvalues: Tensor
    """(r,) of the Gauss–Newton matrix H at unedited weights."""
    eigenvectors: Tensor
    """(r, r)."""
    loss: str
    change: MetricChange | None = None
    """What an edit does to the metric; None where it does nothing."""

    def scores(self) -> Tensor:
        """(N, K) the linearised network's own: -∇b·(H + I)⁻¹(∇ℓᵢ / n - g₀ ∂s/∂wᵢ)."""
        inner = self._precondition(self.behaviours)
        scores = -(self._example_gradients() @ inner.T) / self.denominator
        if self.change is not None:
            scores += self.change.slopes @ (inner * self._start()).T
        return scores

    def responses(self, train_indices: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(K,) changes of the behaviours by the first Newton step and at the optimum.

        Raises NotEditAware when the iteration does not converge.
        """
        all_weights = self.outputs.new_ones(len(self.outputs))
        all_weights[train_indices] = weights.to(all_weights.dtype)
        residuals, start = self._residuals(self.outputs), self._start()
        metric = torch.ones_like(start)
        moved = self._pull(residuals * (all_weights - 1)[:, None]) / self.denominator
        if self.change is not None:
            new = weights.to(start.dtype)
            metric = self.change.factor(train_indices, new)
            moved = moved - start * ((new - 1) @ self.change.slopes[train_indices])
        first = -self._precondition(moved[None])[0]
        problem = _EditedProblem(self, all_weights, metric, start)
        optimum = problem.minimise(float(moved.norm()))
        return self.behaviours @ first, self.behaviours @ optimum

    def _start(self) -> Tensor:
        """(r,) g₀."""
        return self._pull(self._residuals(self.outputs)) / self.denominator

    def _outputs(self, delta: Tensor) -> Tensor:
        return self.outputs + (self.features @ delta).view_as(self.outputs)

    def _pull(self, cotangents: Tensor) -> Tensor:
        """Jᵀ of (N, C) cotangents of the outputs, (r,)."""
        return self.features.T @ cotangents.reshape(-1)

    def _precondition(self, rows: Tensor) -> Tensor:
        """(H + I)⁻¹ of each row (K, r), at unedited weights."""
        return (rows @ self.eigenvectors) / (self.eigenvalues + 1) @ self.eigenvectors.T

    def _example_gradients(self) -> Tensor:
        """(N, r) ∇ℓᵢ."""
        cubes = self.features.view(*self.outputs.shape, -1)
        return torch.einsum("nc,ncr->nr", self._residuals(self.outputs), cubes)

    def _residuals(self, outputs: Tensor) -> Tensor:
        """(N, C) ∂ℓᵢ/∂outputs."""
        if self.loss == "squared_error":
            return 2 * (outputs - self.targets[:, None])
        residuals = outputs.softmax(1)
        residuals[torch.arange(len(residuals)), self.targets] -= 1
        return residuals


@dataclass(frozen=True)
class _EditedProblem:
    """F_w of the module for one edit."""

    at: LinearisedRetrain
    weights: Tensor
    """(N,) w."""
    metric: Tensor
    """(r,) s."""
    start: Tensor
    """(r,) g₀."""

    def minimise(self, scale: float) -> Tensor:
        """Newton steps with backtracking, each by preconditioned conjugate gradients."""
        delta = torch.zeros_like(self.start)
        value = self._objective(delta)
        for _ in range(NEWTON_STEPS):
            outputs = self.at._outputs(delta)
            gradient = self._gradient(outputs, delta)
            if float(gradient.norm()) <= TOLERANCE * scale:
                return delta
            step = self._newton_step(outputs, gradient)
            length = 1.0
            while True:
                candidate = delta + length * step
                new_value = self._objective(candidate)
                if new_value <= value or length < 1e-3:
                    break
                length /= 2
            delta, value = candidate, new_value
        return delta

    def _newton_step(self, outputs: Tensor, gradient: Tensor) -> Tensor:
        step = torch.zeros_like(gradient)
        rest = -gradient
        direction = conditioned = self.at._precondition(rest[None])[0]
        energy = rest @ conditioned
        target = 1e-2 * float(gradient.norm())
        for _ in range(CONJUGATE_STEPS):
            product = self._curvature(outputs, direction)
            length = energy / (direction @ product)
            step = step + length * direction
            rest = rest - length * product
            if float(rest.norm()) <= target:
                break
            conditioned = self.at._precondition(rest[None])[0]
            energy, last = rest @ conditioned, energy
            direction = conditioned + energy / last * direction
        return step

    def _gradient(self, outputs: Tensor, delta: Tensor) -> Tensor:
        pulled = self.at._pull(self.at._residuals(outputs) * self.weights[:, None])
        return pulled / self.at.denominator + self.metric * (delta - self.start)

    def _curvature(self, outputs: Tensor, direction: Tensor) -> Tensor:
        moved = (self.at.features @ direction).view_as(outputs)
        if self.at.loss == "squared_error":
            curved = 2 * moved
        else:
            weighted = outputs.softmax(1) * moved
            curved = weighted - outputs.softmax(1) * weighted.sum(1, keepdim=True)
        pulled = self.at._pull(curved * self.weights[:, None])
        return pulled / self.at.denominator + self.metric * direction

    def _objective(self, delta: Tensor) -> float:
        outputs = self.at._outputs(delta)
        if self.at.loss == "squared_error":
            losses = (outputs[:, 0] - self.at.targets) ** 2
        else:
            chosen = outputs.gather(1, self.at.targets[:, None])[:, 0]
            losses = outputs.logsumexp(1) - chosen
        total = (self.weights * losses).double().sum() / self.at.denominator
        return float(total + (self.metric * delta) @ (delta / 2 - self.start))


def linearise(
    run: TrainingRun, behaviours: Sequence[Behaviour], features: int = FEATURES
) -> LinearisedRetrain:
    """The linearised network of one recorded run.

    Raises NotEditAware for next-token losses, runs without a trajectory, and problems whose
    projected features would exceed LARGEST_STATE.
    """
    problem = run.problem
    if problem.loss == "next_token":
        raise NotEditAware("language models have too many outputs for the linearised retrain")
    at = Linearised.of(run)
    number, outputs = len(at.train), at.outputs(at.train.select(torch.arange(1)).inputs).shape[1]
    size = min(features, at.parameters.numel())
    if number * (outputs + 2) * size * at.parameters.element_size() > LARGEST_STATE:
        raise NotEditAware(
            f"{number:,} examples of {outputs} outputs are more than the linearised retrain holds"
        )
    if run.trajectory is None:
        raise NotEditAware("the run has no recorded trajectory")
    projection = _Projection(step_metric(run), size)
    rows = at.parameters.new_empty(number, outputs, size)
    values = at.parameters.new_empty(number, outputs)

    def single(flat: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return at.outputs({name: tensor[None] for name, tensor in inputs.items()}, flat)[0]

    jacobians = vmap(jacrev(single), in_dims=(None, 0))
    for indices in at.chunks(outputs):
        batch = at.train.select(indices)
        rows[indices] = projection(jacobians(at.parameters, batch.inputs).detach())
        values[indices] = at.outputs(batch.inputs).detach()
    flat = rows.view(number * outputs, size)
    unsolved = LinearisedRetrain(
        flat,
        values,
        at.train.targets,
        projection(at.behaviour_gradients(behaviours)),
        at.denominator,
        flat.new_zeros(size),
        torch.eye(size, dtype=flat.dtype),
        problem.loss,
    )
    eigenvalues, eigenvectors = torch.linalg.eigh(_gauss_newton(unsolved))
    return LinearisedRetrain(
        flat,
        values,
        unsolved.targets,
        unsolved.behaviours,
        unsolved.denominator,
        eigenvalues.clamp_min(0),
        eigenvectors,
        problem.loss,
        metric_change(run, projection),
    )


def _gauss_newton(at: LinearisedRetrain) -> Tensor:
    """(r, r) H = Σ Jᵢᵀ Lᵢ Jᵢ / n at unedited weights."""
    cubes = at.features.view(*at.outputs.shape, -1)
    if at.loss == "squared_error":
        return 2 * at.features.T @ at.features / at.denominator
    probabilities = at.outputs.softmax(1)
    scaled = at.features * probabilities.reshape(-1, 1)
    means = torch.einsum("nc,ncr->nr", probabilities, cubes)
    return (at.features.T @ scaled - means.T @ means) / at.denominator


class _Projection:
    """Vectors of P parameters, scaled by √c, to r coordinates: each parameter goes to one
    coordinate with a random sign; to itself where P ≤ r."""

    def __init__(self, metric: Tensor, size: int) -> None:
        self.scale = metric.sqrt()
        self.size = size
        self.places: Tensor | None = None
        if metric.numel() > size:
            generator = torch.Generator().manual_seed(0)
            self.places = torch.randint(0, size, (metric.numel(),), generator=generator)
            signs = torch.randint(0, 2, (metric.numel(),), generator=generator) * 2 - 1
            self.scale = self.scale * signs.to(metric.dtype)

    def __call__(self, vectors: Tensor) -> Tensor:
        """(..., P) to (..., r)."""
        scaled = vectors * self.scale
        if self.places is None:
            return scaled
        return self._sum(scaled, self.places)

    def average(self, values: Tensor, importance: Tensor) -> Tensor:
        """(..., P) to (..., r): means of the parameters of each coordinate, weighted by
        `importance` (P,)."""
        if self.places is None:
            return values
        total = self._sum(importance, self.places).clamp_min(1e-30)
        return self._sum(values * importance, self.places) / total

    def _sum(self, values: Tensor, places: Tensor) -> Tensor:
        result = values.new_zeros(*values.shape[:-1], self.size)
        return result.index_add_(-1, places, values)


@dataclass(frozen=True)
class EditAware:
    """What answers for any edit of one baseline: see the module."""

    seeds: tuple[int, ...]
    networks: tuple[LinearisedRetrain, ...]
    scores: NDArray[np.float32]
    """(S, N, K) the first-order scores that are corrected."""
    slopes: Array
    """(S, K)."""
    agreement: Array
    """(S, K) correlation over examples of the first-order scores with the linearised network's."""

    def predict(self, train_indices: NDArray[np.int64], weights: Array) -> Array:
        """(S, K) predicted change of each behaviour by each seed, in the behaviour's unit."""
        indices = torch.from_numpy(np.asarray(train_indices, np.int64))
        values = torch.from_numpy(np.asarray(weights, np.float64))
        change = np.asarray(weights, np.float64) - 1
        first_order = np.einsum("n,snk->sk", change, self.scores[:, train_indices].astype(float))
        pairs = [network.responses(indices, values) for network in self.networks]
        first = self.slopes * np.stack([one.double().numpy() for one, _ in pairs])
        optimum = self.slopes * np.stack([best.double().numpy() for _, best in pairs])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.nan_to_num(first_order / first, nan=1.0)
        share = np.clip(share, SMALLEST_SHARE, LARGEST_SHARE)
        return np.asarray(first_order + share * (optimum - first), np.float64)


def prepare(
    runs: Sequence[TrainingRun],
    behaviours: Sequence[Behaviour],
    scores: InfluenceScores,
    features: int = FEATURES,
    progress: Progress | None = None,
) -> EditAware:
    """Linearise every run whose seed has `scores` (replay's, for the same behaviours).

    Raises NotEditAware where the problem does not fit.
    """
    shared_problem(runs)
    by_seed = {run.seed: run for run in runs}
    networks, slopes, agreement = [], [], []
    for position, seed in enumerate(scores.seeds):
        network = linearise(by_seed[seed], behaviours, features)
        networks.append(network)
        own, replayed = network.scores().double().numpy(), scores.per_seed[position].astype(float)
        slopes.append(_slopes(replayed, own))
        agreement.append(_correlations(replayed, own))
        if progress is not None:
            progress(position + 1, len(scores.seeds))
    return EditAware(
        scores.seeds, tuple(networks), scores.per_seed, np.stack(slopes), np.stack(agreement)
    )


def _slopes(replayed: Array, own: Array) -> Array:
    """(K,) least-squares scale of replay's scores on the linearised network's, within bounds."""
    power = (own**2).sum(0)
    slopes = (replayed * own).sum(0) / np.where(power > 0, power, 1.0)
    return np.asarray(np.clip(slopes, SMALLEST_SLOPE, LARGEST_SLOPE), np.float64)


def _correlations(first: Array, second: Array) -> Array:
    """(K,) Pearson correlations of the columns; 0 for a constant one."""
    one, two = first - first.mean(0), second - second.mean(0)
    norm = np.sqrt((one**2).sum(0) * (two**2).sum(0))
    return np.asarray((one * two).sum(0) / np.where(norm > 0, norm, np.inf), np.float64)
