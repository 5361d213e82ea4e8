"""Leave-one-out in closed form for linear models: exact for ridge, a Newton step for softmax.

With A the Hessian of the regularised objective F(θ) = Σ wᵢ ℓᵢ / n + (penalty / 2) |θ|² at its
minimum and gᵢ = ∇ℓᵢ / n: the first-order influence is dθ/dwᵢ = -A⁻¹ gᵢ (Cook & Weisberg 1982;
Koh & Liang 2017), and leaving i out moves θ by (A - Hᵢ / n)⁻¹ gᵢ: exactly for ridge, after one
Newton step for softmax regression (Rad & Maleki 2020). The rank of Hᵢ is the number of outputs,
so that Woodbury's identity needs one factorisation of A for all examples.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour, behaviour_gradients
from workers.influence.interface import (
    Cost,
    InfluenceMethod,
    InfluenceScores,
    Progress,
    shared_problem,
)
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun

LARGEST_SYSTEM = 6_000


class NoClosedForm(ValueError):
    """The problem is not a linear model with a known regularised optimum; says why."""


@dataclass(frozen=True)
class LinearOptimum:
    """A linear model at the minimum of its regularised objective, in float64."""

    parameters: Tensor
    """(C, D + 1), the bias in the last column."""
    inverse: Tensor
    """(C (D+1), C (D+1)) A⁻¹."""
    design: Tensor
    """(N, D + 1), ones in the last column."""
    residuals: Tensor
    """(N, C) ∂ℓᵢ / ∂ outputs."""
    curvature: Tensor
    """(N, C, C) ∂²ℓᵢ / ∂ outputs²."""
    denominator: float
    """n."""

    def first_order(self) -> Tensor:
        """(N, C, D + 1) dθ/dwᵢ."""
        outer = self.residuals[:, :, None] * self.design[:, None, :]
        moved = outer.flatten(1) @ self.inverse / -self.denominator
        return moved.reshape(outer.shape)

    def removal(self) -> Tensor:
        """(N, C, D + 1) the move of θ when example i alone is left out."""
        number, outputs = self.residuals.shape
        blocks = self.inverse.reshape(outputs, self.design.shape[1], outputs, -1)
        # Mᵢ = (I ⊗ xᵢ)ᵀ A⁻¹ (I ⊗ xᵢ), one output pair at a time to bound the memory.
        projected = torch.empty(number, outputs, outputs, dtype=torch.float64)
        for one in range(outputs):
            for other in range(outputs):
                half = self.design @ blocks[one, :, other]
                projected[:, one, other] = (half * self.design).sum(1)
        identity = torch.eye(outputs, dtype=torch.float64)
        system = identity - self.curvature @ projected / self.denominator
        scaled: Tensor = torch.linalg.solve(system, self.residuals)
        outer = scaled[:, :, None] * self.design[:, None, :]
        moved: Tensor = outer.flatten(1) @ self.inverse / self.denominator
        return moved.reshape(outer.shape)


def linear_optimum(
    design: Tensor, targets: Tensor, outputs: int, penalty: float, denominator: float
) -> LinearOptimum:
    """The minimum of Σ ℓᵢ / n + (penalty / 2)|θ|² over θ (C, D + 1), by Newton's method.

    `design` (N, D + 1) float64; float `targets` (N,) mean squared error with C = 1, int64 ones
    cross-entropy over C classes. `denominator` is n. Raises NoClosedForm when Newton's method does
    not converge (a penalty too small for separable classes).
    """
    width = design.shape[1]
    theta = torch.zeros(outputs, width, dtype=torch.float64)
    for _ in range(100):
        residuals, curvature, value = _derivatives(design @ theta.T, targets)
        gradient = residuals.T @ design / denominator + penalty * theta
        hessian = _hessian(design, curvature, denominator)
        hessian.diagonal().add_(penalty)
        try:
            inverse = torch.linalg.inv(hessian)
        except RuntimeError:
            break
        if gradient.abs().max() < 1e-11:
            return LinearOptimum(theta, inverse, design, residuals, curvature, denominator)
        step = (inverse @ gradient.flatten()).reshape(theta.shape)
        loss = value / denominator + penalty / 2 * float(theta.square().sum())
        scale = 1.0
        while (
            scale > 1e-6
            and _objective(design, targets, theta - scale * step, penalty, denominator)
            > loss + 1e-12
        ):
            scale /= 2
        theta = theta - scale * step
    raise NoClosedForm("the regularised optimum was not reached; use a larger weight decay")


class LeaveOneOut(InfluenceMethod):
    """Closed-form leave-one-out of linear and softmax regression at their regularised optimum.

    `removal=True` scores the whole step of leaving an example out; `False` its first order.
    The cost is one factorisation of A and C² products with it, whatever the number of seeds.
    """

    name: ClassVar[str] = "leave_one_out"
    title: ClassVar[str] = "Leave-one-out"
    question: ClassVar[str] = (
        "How would the behaviour change if the fully converged linear model lost this example?"
    )
    paper: ClassVar[str] = "Rad & Maleki 2020; Cook & Weisberg 1982"

    def __init__(self, *, penalty: float | None = None, removal: bool = True) -> None:
        self.penalty = penalty
        """Instead of the recipe's weight decay (needed for AdamW, whose decay is no penalty)."""
        self.removal = removal

    def estimate_cost(
        self, problem: TrainingProblem, number_of_seeds: int, behaviours: Sequence[Behaviour]
    ) -> Cost:
        outputs, width = self._sizes(problem)
        size = outputs * width
        sample = torch.rand(256, 256, dtype=torch.float64)
        began = time.perf_counter()
        torch.linalg.inv(sample + 256 * torch.eye(256, dtype=torch.float64))
        per_operation = (time.perf_counter() - began) / (2 * 256**3)
        operations = 10 * (2 * size**3 + len(problem.train) * size**2)
        return Cost(operations * per_operation, 8 * (3 * size**2 + 3 * len(problem.train) * size))

    def scores(
        self,
        runs: Sequence[TrainingRun],
        behaviours: Sequence[Behaviour],
        progress: Progress | None = None,
    ) -> InfluenceScores:
        """Raises NoClosedForm for any other model, and for AdamW with decay but no `penalty`."""
        problem = shared_problem(runs)
        outputs, _ = self._sizes(problem)
        optimum = linear_optimum(
            _design(problem),
            _targets(problem),
            outputs,
            self._penalty(problem),
            problem.recipe.batch_size * problem.steps_per_epoch,
        )
        network = problem.build_network(runs[0].seed).to(torch.float64)
        layout = ParameterLayout.of(network)
        names = dict(zip(layout.names, layout.shapes, strict=True))
        flat = layout.flatten(_named(names, optimum.parameters))
        gradients = layout.unflatten(behaviour_gradients(behaviours, network, layout, flat))
        columns = [
            gradients[name].reshape(len(behaviours), outputs, -1)
            for name in sorted(names, key=lambda name: -len(names[name]))
        ]
        by_parameters = torch.cat(columns, 2).flatten(1)
        moves = -optimum.removal() if self.removal else optimum.first_order()
        scores = (moves.flatten(1) @ by_parameters.T).to(torch.float32).numpy()
        if progress is not None:
            progress(1, 1)
        seeds = tuple(run.seed for run in runs)
        return InfluenceScores(np.repeat(scores[None], len(seeds), 0), seeds)

    def _sizes(self, problem: TrainingProblem) -> tuple[int, int]:
        name = problem.architecture.get("name")
        if name not in ("linear_regression", "softmax_regression"):
            raise NoClosedForm("leave-one-out has a closed form for linear models only")
        outputs = int(problem.architecture.get("number_of_outputs", 1))
        width = problem.train.inputs["features"].shape[1] + 1
        if outputs * width > LARGEST_SYSTEM:
            raise NoClosedForm(
                f"{outputs * width} parameters are too many to factorise (limit {LARGEST_SYSTEM})"
            )
        self._penalty(problem)
        return outputs, width

    def _penalty(self, problem: TrainingProblem) -> float:
        if self.penalty is not None:
            return self.penalty
        if problem.recipe.optimizer == "adamw" and problem.recipe.weight_decay:
            raise NoClosedForm(
                "AdamW's decoupled weight decay minimises no regularised objective; "
                "name the penalty or train with SGD"
            )
        return problem.recipe.weight_decay


def _derivatives(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, float]:
    """Σℓ and its first (N, C) and second (N, C, C) derivatives with respect to outputs (N, C)."""
    if targets.is_floating_point():
        difference = outputs - targets[:, None]
        curvature = torch.full((len(targets), 1, 1), 2.0, dtype=torch.float64)
        return 2 * difference, curvature, float(difference.square().sum())
    log_probabilities = outputs.log_softmax(1)
    probabilities = log_probabilities.exp()
    residuals = probabilities.clone()
    residuals[torch.arange(len(targets)), targets] -= 1
    curvature = torch.diag_embed(probabilities) - (
        probabilities[:, :, None] * probabilities[:, None, :]
    )
    return residuals, curvature, -float(log_probabilities.gather(1, targets[:, None]).sum())


def _objective(
    design: Tensor, targets: Tensor, theta: Tensor, penalty: float, denominator: float
) -> float:
    value = _derivatives(design @ theta.T, targets)[2]
    return value / denominator + penalty / 2 * float(theta.square().sum())


def _hessian(design: Tensor, curvature: Tensor, denominator: float) -> Tensor:
    outputs, width = curvature.shape[1], design.shape[1]
    hessian = torch.empty(outputs, width, outputs, width, dtype=torch.float64)
    for one in range(outputs):
        for other in range(outputs):
            weighted = design * curvature[:, one, other, None]
            hessian[one, :, other] = weighted.T @ design / denominator
    return hessian.reshape(outputs * width, outputs * width)


def _design(problem: TrainingProblem) -> Tensor:
    features = problem.train.inputs["features"].to(torch.float64)
    return torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], 1)


def _targets(problem: TrainingProblem) -> Tensor:
    targets = problem.train.targets
    return targets.to(torch.float64) if targets.is_floating_point() else targets


def _named(shapes: dict[str, tuple[int, ...]], theta: Tensor) -> dict[str, Tensor]:
    """The weight (C, D) and bias (C,) of the only layer, under the network's own names."""
    return {
        name: theta[:, -1] if len(shape) == 1 else theta[:, :-1] for name, shape in shapes.items()
    }
