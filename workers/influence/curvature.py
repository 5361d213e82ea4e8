"""Influence functions from the final parameters alone (Koh & Liang 2017), with the generalised
Gauss–Newton matrix in place of the Hessian (Martens 2020; Bae et al. 2022).

At the minimum of F(θ) = Σ wᵢ ℓᵢ(θ) / n + (weight decay / 2) |θ|² the parameters answer a weight by
dθ/dwᵢ = -(H + λD⁻¹)⁻¹ ∇ℓᵢ / n, so that score_i = -∇b · (H + λD⁻¹)⁻¹ ∇ℓᵢ / n, with λD⁻¹ the damping
of `workers.influence.damped_method` (plus the weight decay of SGD; AdamW's decoupled decay
minimises no such objective and is left to the damping). It stands for what the finished run had
not yet learned; it decides the result.

Cost for each seed: up to an order min(P, N(C-1)) of 2,000 one factor of H, about C training epochs
for C classes, and a decomposition; above that about 3 training epochs for each iteration of
conjugate gradients, shared by all behaviours. The iterations run in units of D, where the damping
is the identity and few are needed; `preconditioner="ekfac"` puts EK-FAC before each, which saved a
quarter of them on a perceptron with small damping and cost more on a language model with tied
embeddings, so that it is off unless asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.damped_method import StepDampedMethod, penalty
from workers.influence.gauss_newton import GaussNewton, Preconditioner, conjugate_gradients
from workers.influence.kronecker import Kronecker, fit_kronecker
from workers.influence.linearised import Linearised
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun

PRECONDITIONERS = ("none", "ekfac")


class Curvature(StepDampedMethod):
    """See the module, and `StepDampedMethod` for `damping` and `strength`."""

    name: ClassVar[str] = "curvature"
    title: ClassVar[str] = "Curvature"
    question: ClassVar[str] = (
        "How would the behaviour change if the finished model moved to where its training "
        "objective, nearly quadratic around it, has its new minimum?"
    )
    paper: ClassVar[str] = "Koh & Liang 2017; Bae et al. 2022"

    def __init__(
        self,
        *,
        damping: float | None = None,
        strength: float = 1.0,
        tolerance: float = 1e-2,
        most_iterations: int = 200,
        preconditioner: str = "none",
    ) -> None:
        super().__init__(damping=damping, strength=strength)
        if preconditioner not in PRECONDITIONERS:
            raise ValueError(f"the preconditioner must be one of {', '.join(PRECONDITIONERS)}")
        self.tolerance = tolerance
        self.most_iterations = most_iterations
        self.preconditioner = preconditioner

    def path(
        self,
        run: TrainingRun,
        behaviours: Sequence[Behaviour],
        dampings: Sequence[float],
        *,
        metric: Tensor | None = None,
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        at = Linearised.of(run)
        root = torch.ones(()) if metric is None else metric.sqrt()
        root = root.to(at.parameters.dtype)
        gradients = at.behaviour_gradients(behaviours) * root
        matrix = GaussNewton(at)
        decomposed = matrix.eigendecomposition(root)
        approximate: Kronecker | None = None
        if decomposed is None and self.preconditioner == "ekfac":
            approximate = fit_kronecker(at, metric=metric)
        solutions, known = [], []
        for damping in dampings:
            full = damping + penalty(run.problem)
            if decomposed is not None:
                solutions.append(decomposed.solve(gradients, full))
                known.append({"solver": "exact"})
                continue
            solution = conjugate_gradients(
                lambda rows: matrix.product(rows * root) * root,
                gradients,
                full,
                precondition=_precondition(approximate, full),
                tolerance=self.tolerance,
                most_iterations=self.most_iterations,
            )
            solutions.append(solution.rows)
            known.append({"solver": "conjugate gradients", **solution.to_json()})
        products = at.loss_products(torch.cat(solutions) * root)
        scores = products.reshape(len(dampings), len(behaviours), -1) / -at.denominator
        return scores, known

    def peak_bytes(self, problem: TrainingProblem, vector: int, behaviours: int) -> int:
        return (1 << 30) + 6 * behaviours * vector


def _precondition(approximate: Kronecker | None, damping: float) -> Preconditioner | None:
    if approximate is None:
        return None
    return lambda rows: approximate.solve(rows, damping)
