"""Influence functions with the Gauss–Newton matrix in its Kronecker-factored eigenbasis, EK-FAC
(George et al. 2018; Grosse et al. 2023, equations 16 to 20).

score_i = -∇b · D^½ (Ĥ + λI)⁻¹ D^½ ∇ℓᵢ / n, with Ĥ = Q Λ Qᵀ the matrix of
`workers.influence.kronecker` for D^½ H D^½: for each trained matrix Q = U ⊗ V from the factors of
its inputs and of its output gradients, Λ corrected to the exact second moments along Q; its bias is
one more input of 1. Curvature between two matrices, which that leaves out, is put back along the
solutions (`workers.influence.kronecker_scales`). λ and D are the damping of
`workers.influence.damped_method`, with the weight decay of SGD; D is taken as the nearest product
of a row and a column for each matrix, so that factors stay factors (cf. Shazeer & Stern 2018). A
parameter outside matrices keeps its own diagonal curvature, and the coverage report names it.

Cost for each seed: about C training epochs for C classes up to 16, else three, whatever the number
of behaviours and dampings; no iterations and no trajectory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.damped_method import StepDampedMethod, penalty
from workers.influence.kronecker import fit_kronecker
from workers.influence.kronecker_scales import SCALES, solve_over_scales
from workers.influence.linearised import Linearised
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun


class Ekfac(StepDampedMethod):
    """See the module, and `StepDampedMethod` for `damping` and `strength`. `seed` draws the labels
    where there are more than 16 classes; without `scales` the solution is that of the blocks alone,
    as published. Raises CoverageError on a network whose parameters lie
    mostly outside linear, convolutional and embedding layers."""

    name: ClassVar[str] = "ekfac"
    title: ClassVar[str] = "EK-FAC"
    question: ClassVar[str] = (
        "How would the behaviour change if the finished model moved to where its training "
        "objective, nearly quadratic layer by layer, has its new minimum?"
    )
    paper: ClassVar[str] = (
        "Grosse et al. 2023, Studying large language model generalization with influence "
        "functions; George et al. 2018"
    )

    def __init__(
        self,
        *,
        damping: float | None = None,
        strength: float = 1.0,
        seed: int = 0,
        scales: Sequence[float] = SCALES,
    ) -> None:
        super().__init__(damping=damping, strength=strength)
        self.seed = seed
        self.scales = tuple(scales)

    def path(
        self,
        run: TrainingRun,
        behaviours: Sequence[Behaviour],
        dampings: Sequence[float],
        *,
        metric: Tensor | None = None,
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        at = Linearised.of(run)
        matrix = fit_kronecker(at, seed=self.seed, metric=metric)
        gradients = at.behaviour_gradients(behaviours)
        full = [damping + penalty(run.problem) for damping in dampings]
        if self.scales:
            solutions = solve_over_scales(matrix, gradients, full, self.scales).flatten(0, 1)
        else:
            solutions = torch.cat([matrix.solve_in_parameters(gradients, one) for one in full])
        products = at.loss_products(solutions)
        scores = products.reshape(len(dampings), len(behaviours), -1) / -at.denominator
        return scores, [{"coverage": matrix.coverage.to_json()} for _ in dampings]

    def peak_bytes(self, problem: TrainingProblem, vector: int, behaviours: int) -> int:
        return (1 << 30) + 6 * vector + 4 * behaviours * vector
