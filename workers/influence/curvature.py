"""Influence functions from the final parameters alone (Koh & Liang 2017), with the generalised
Gauss–Newton matrix in place of the Hessian (Martens 2020; Bae et al. 2022).

At the minimum of F(θ) = Σ wᵢ ℓᵢ(θ) / n + (weight decay / 2) |θ|² the parameters answer a weight by
dθ/dwᵢ = -(H + λI)⁻¹ ∇ℓᵢ / n, so that score_i = -∇b · (H + λI)⁻¹ ∇ℓᵢ / n, with λ the damping (plus
the weight decay of SGD; AdamW's decoupled decay minimises no such objective and is left to the
damping). The damping stands for what the finished run had not yet learned; it decides the result.

Cost for each seed: one factor of H, about C training epochs for C classes, and a decomposition of
order min(P, N(C-1)) up to 2,000; above that about 3 training epochs or two matrix products for
each iteration of conjugate gradients, shared by all behaviours. No trajectory is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.checkpoint_method import CheckpointMethod
from workers.influence.damping import training_time_damping
from workers.influence.gauss_newton import GaussNewton, conjugate_gradients
from workers.influence.linearised import Linearised
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun


class Curvature(CheckpointMethod):
    """See the module. `damping` is λ; None takes `training_time_damping` of each run."""

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
        tolerance: float = 1e-3,
        most_iterations: int = 200,
    ) -> None:
        if damping is not None and damping <= 0:
            raise ValueError("the damping must be above 0")
        self.damping = damping
        self.tolerance = tolerance
        self.most_iterations = most_iterations

    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        damping = self.damping or training_time_damping(run)
        scores, known = self.path(run, behaviours, [damping])
        return scores[0], {"damping": damping, **known[0]}

    def path(
        self, run: TrainingRun, behaviours: Sequence[Behaviour], dampings: Sequence[float]
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """(D, K, N) scores at each of D dampings, for the price of little more than one."""
        at = Linearised.of(run)
        gradients = at.behaviour_gradients(behaviours)
        matrix = GaussNewton(at)
        decomposed = matrix.eigendecomposition()
        solutions, known = [], []
        for damping in dampings:
            full = damping + penalty(run.problem)
            if decomposed is not None:
                solutions.append(decomposed.solve(gradients, full))
                known.append({"solver": "exact"})
                continue
            solution = conjugate_gradients(
                matrix.product,
                gradients,
                full,
                tolerance=self.tolerance,
                most_iterations=self.most_iterations,
            )
            solutions.append(solution.rows)
            known.append({"solver": "conjugate gradients", **solution.to_json()})
        products = at.loss_products(torch.cat(solutions))
        scores = products.reshape(len(dampings), len(behaviours), -1) / -at.denominator
        return scores, known

    def peak_bytes(self, problem: TrainingProblem, vector: int, behaviours: int) -> int:
        return (1 << 30) + 6 * behaviours * vector


def penalty(problem: TrainingProblem) -> float:
    """The factor of |θ|² / 2 in the objective: SGD's weight decay; AdamW's is no such term."""
    return problem.recipe.weight_decay if problem.recipe.optimizer == "sgd" else 0.0
