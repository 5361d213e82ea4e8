"""SOURCE: influence by approximate unrolled differentiation, segment by segment of the run
(Bae et al. 2024, equations 9 to 14).

Within a segment the curvature H and each example's gradient are taken as those at one recorded
state. For SGD with time t = Σ η / (1 - momentum) a displacement of the parameters decays by
S = exp(-t (H + decay)), and an example's weight adds -f(H) ∇ℓᵢ / n with f(h) = (1 - exp(-t h)) / h,
which is an influence function where t h is large and t where it is small: no damping is chosen.
With all segments, last to first,

    score_i = -Σ_s ∇b(θ_T)ᵀ S_last ⋯ S_{s+1} f_s(H_s) ∇ℓᵢ(θ_s) / n.

For AdamW the same holds in units of D^½, with D (P,) the distance Σ η / √(v̂ + ε) of the segment:
H becomes D^½ H D^½ and t becomes 1, and the decoupled decay multiplies by exp(-decay · Σ η). What
an example's weight does to v̂ is left out.

On networks of up to 100,000 parameters functions of H are exact where one side of the factor of H
is at most 2,000, and by Lanczos' iteration elsewhere: on small networks EK-FAC, the paper's
choice, ranks worse. Beyond that, EK-FAC.

Cost for each seed and segment: one factor of H or one EK-FAC, about C training epochs for C
classes, and one epoch of per-example gradients; for Lanczos some tens of products with H, about 3
epochs each, shared by all behaviours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.checkpoint_method import CheckpointMethod
from workers.influence.coverage import CoverageError
from workers.influence.damped_method import penalty
from workers.influence.damping import distance_of_run
from workers.influence.gauss_newton import GaussNewton
from workers.influence.kronecker import fit_kronecker
from workers.influence.linearised import Linearised
from workers.influence.unrolled_functions import Function, lanczos
from workers.training.optimizers import learning_rates
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun

MOST_SEGMENTS = 3
"""As in the paper's experiments."""
LARGEST_BY_LANCZOS = 100_000
"""Parameters; beyond, EK-FAC."""
SOLVERS = ("auto", "exact", "lanczos", "ekfac")


@dataclass(frozen=True)
class Segment:
    """Steps start ≤ t < stop, and the recorded state that stands for them."""

    start: int
    stop: int
    state: int


class Unrolled(CheckpointMethod):
    """See the module. `most_segments` of about equal length; `solver` for the functions of H."""

    name: ClassVar[str] = "unrolled"
    title: ClassVar[str] = "Unrolled segments (SOURCE)"
    question: ClassVar[str] = (
        "How would the behaviour change had the example's weight been different throughout the "
        "training, taken as nearly quadratic between a few states?"
    )
    paper: ClassVar[str] = (
        "Bae et al. 2024, Training data attribution via approximate unrolled differentiation"
    )
    needs_trajectory: ClassVar[bool] = True

    def __init__(
        self, *, most_segments: int = MOST_SEGMENTS, solver: str = "auto", seed: int = 0
    ) -> None:
        if most_segments < 1:
            raise ValueError("at least 1 segment is needed")
        if solver not in SOLVERS:
            raise ValueError(f"the solver must be one of {', '.join(SOLVERS)}")
        self.most_segments = most_segments
        self.solver = solver
        self.seed = seed

    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        assert run.trajectory is not None
        cotangents = Linearised.of(run).behaviour_gradients(behaviours)
        total = torch.zeros(len(behaviours), len(run.problem.train), dtype=run.problem.dtype)
        segments = segments_of(run.trajectory.steps, self.most_segments)
        known = []
        for segment in reversed(segments):
            rows = run.trajectory.rows(segment.state)
            at = Linearised(run.problem, run.seed, rows[0], run.weights)
            distance = distance_of_run(run, segment.start, segment.stop)
            decay = decay_of(run, segment)
            matrix = self._functions(at, distance)
            (response, cotangents), solver = matrix(cotangents, _functions_with(decay))
            total -= at.loss_products(response) / at.denominator
            known.append(solver)
        return total, {
            "segments": [[one.start, one.stop] for one in segments],
            "solver": known[::-1],
        }

    def _functions(self, at: Linearised, distance: Tensor) -> _MatrixFunctions:
        """Of D^½ H D^½, in parameters: see `_MatrixFunctions`."""
        if self.solver == "ekfac":
            return self._by_ekfac(at, distance)
        if self.solver == "auto" and len(at.parameters) > LARGEST_BY_LANCZOS:
            with suppress(CoverageError):
                return self._by_ekfac(at, distance)
        root = distance.sqrt()
        matrix = GaussNewton(at)
        decomposed = None if self.solver == "lanczos" else matrix.eigendecomposition(root)
        if decomposed is not None:
            exact = decomposed
            return _MatrixFunctions(
                root,
                lambda rows, functions: [
                    exact.apply(rows, one(exact.values), float(one(torch.zeros(())).double()))
                    for one in functions
                ],
                {"by": "exact"},
            )
        if self.solver == "exact":
            raise ValueError("this network is too large for an exact decomposition")
        return _MatrixFunctions(
            root,
            lambda rows, functions: _by_lanczos(matrix, root, rows, functions),
            {"by": "lanczos"},
        )

    def _by_ekfac(self, at: Linearised, distance: Tensor) -> _MatrixFunctions:
        matrix = fit_kronecker(at, seed=self.seed, metric=distance)
        assert matrix.root_metric is not None
        return _MatrixFunctions(
            matrix.root_metric,
            lambda rows, functions: [matrix.apply(rows, one) for one in functions],
            {"by": "ekfac", "coverage": matrix.coverage.to_json()},
        )

    def peak_bytes(self, problem: TrainingProblem, vector: int, behaviours: int) -> int:
        return (1 << 30) + 100 * behaviours * vector


@dataclass(frozen=True)
class _MatrixFunctions:
    """For cotangents u (K, P) of the parameters: the response D^½ f(M) D^½ u and the cotangent
    D^-½ exp(-M) D^½ u before the segment, with M = D^½ H D^½."""

    root: Tensor
    apply: Callable[[Tensor, Sequence[Function]], list[Tensor]]
    known: dict[str, Any]

    def __call__(
        self, cotangents: Tensor, functions: Sequence[Function]
    ) -> tuple[tuple[Tensor, Tensor], dict[str, Any]]:
        response, decayed = self.apply(cotangents * self.root, functions)
        return (response * self.root, decayed / self.root), self.known


def _by_lanczos(
    matrix: GaussNewton, root: Tensor, rows: Tensor, functions: Sequence[Function]
) -> list[Tensor]:
    return lanczos(lambda vectors: matrix.product(vectors * root) * root, rows, functions)[0]


def segments_of(recorded: Sequence[int], most_segments: int) -> list[Segment]:
    """Between states of `recorded` (ascending, from 0 to T), of nearly equal length; each with
    the recorded state nearest its middle."""
    steps = np.array(recorded)
    number = min(most_segments, len(steps) - 1)
    wanted = np.linspace(0, steps[-1], number + 1)
    borders = np.unique(steps[np.abs(steps[None, :] - wanted[:, None]).argmin(1)])
    result = []
    for start, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        inside = steps[(steps >= start) & (steps <= stop)]
        state = int(inside[np.abs(inside - (start + stop) / 2).argmin()])
        result.append(Segment(start, stop, state))
    return result


def decay_of(run: TrainingRun, segment: Segment) -> float:
    """What the weight decay adds to the exponent of the segment, the same for all parameters."""
    recipe = run.problem.recipe
    rates = learning_rates(recipe, run.problem.number_of_steps)[segment.start : segment.stop]
    if recipe.optimizer == "sgd":
        return penalty(run.problem) * sum(rates) / (1 - recipe.momentum)
    return recipe.weight_decay * sum(rates)


def _functions_with(decay: float) -> list[Function]:
    """f and S on eigenvalues of M."""
    return [lambda h: response_of(h + decay), lambda h: torch.exp(-(h + decay))]


def response_of(values: Tensor) -> Tensor:
    """(1 - exp(-h)) / h, 1 at 0."""
    safe = values.clamp_min(1e-12)
    return torch.where(values < 1e-12, torch.ones_like(values), -torch.expm1(-safe) / safe)
