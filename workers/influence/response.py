"""Where the parameters go when an objective around a trained network is minimised to the end: the
proximal Bregman response of an edit, and the edited training objective continued to convergence.

With θˢ the trained parameters, n the objective's denominator and w the edited weights:

    proximal (Bae et al. 2022, eq. 12):  Σ Dᵢ(θ) / n + Σ (wᵢ - 1) ℓᵢ(θ) / n + (λ + ρ)/2 · |θ - θˢ|²
    continued:                           Σ wᵢ ℓᵢ(θ) / n + ρ/2 · |θ|²

Dᵢ(θ) = ℓᵢ(y) - ℓᵢ(yˢ) - ∇ℓᵢ(yˢ)·(y - yˢ) is the Bregman divergence of the loss between the outputs
y at θ and yˢ at θˢ, λ the damping and ρ SGD's weight decay. The first one's linearisation at θˢ is
the generalised Gauss–Newton influence function with damping λ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.influence.linearised import Linearised
from workers.training.losses import LOSSES

EXAMPLES_AT_ONCE = 512
MOST_ITERATIONS = 200
HISTORY = 20
SMALL_SHARE, SMALL_GRADIENT = 1e-4, 1e-7
"""A minimum counts as reached where the largest entry of the gradient is below this share of its
first value, or below this value; differences of nearly equal losses resolve no more."""

Objective = Callable[[Tensor], Tensor]
"""From θ (P,) to the value (), having added the gradient to θ.grad."""


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended."""

    parameters: Tensor
    """(P,)"""
    iterations: int
    converged: bool


def proximal_response(
    at: Linearised, weights: Tensor, strength: float, tick: Callable[[], None]
) -> Minimum:
    """The minimum of the first objective of the module, from θˢ; `weights` (N,) are the edited
    ones and `strength` is λ + ρ. `tick` is called at each evaluation and may raise."""
    loss, shift = LOSSES[at.problem.loss], weights - 1
    start = at.parameters

    def objective(theta: Tensor) -> Tensor:
        proximity = strength / 2 * (theta - start).square().sum()
        proximity.backward()
        total = proximity.detach()
        for indices in torch.arange(len(at.train)).split(EXAMPLES_AT_ONCE):
            batch = at.train.select(indices)
            with torch.no_grad():
                reference = at.outputs(batch.inputs)
            slope = _output_gradient(loss, reference, batch.targets)
            outputs = at.outputs(batch.inputs, theta)
            losses = loss(outputs, batch.targets)
            straight = (slope * (outputs - reference)).flatten(1).sum(1)
            divergence = losses - loss(reference, batch.targets) - straight
            part = (divergence.sum() + torch.dot(shift[indices], losses)) / at.denominator
            part.backward()
            total += part.detach()
        return total

    return minimise(objective, start, tick)


def continued(at: Linearised, weights: Tensor, decay: float, tick: Callable[[], None]) -> Minimum:
    """The minimum of the second objective of the module that is reached from θˢ; `decay` is ρ."""
    loss = LOSSES[at.problem.loss]

    def objective(theta: Tensor) -> Tensor:
        penalty = decay / 2 * theta.square().sum()
        penalty.backward()
        total = penalty.detach()
        for indices in torch.arange(len(at.train)).split(EXAMPLES_AT_ONCE):
            batch = at.train.select(indices)
            losses = loss(at.outputs(batch.inputs, theta), batch.targets)
            part = torch.dot(weights[indices], losses) / at.denominator
            part.backward()
            total += part.detach()
        return total

    return minimise(objective, at.parameters, tick)


def minimise(objective: Objective, start: Tensor, tick: Callable[[], None]) -> Minimum:
    """L-BFGS with a strong Wolfe line search (Nocedal & Wright 2006, section 7.2) from `start`."""
    theta = start.detach().clone().requires_grad_()
    first = _gradient_size(objective, theta)
    optimizer = torch.optim.LBFGS(
        [theta],
        max_iter=MOST_ITERATIONS,
        max_eval=2 * MOST_ITERATIONS,
        history_size=HISTORY,
        tolerance_grad=max(0.01 * SMALL_SHARE * first, 0.01 * SMALL_GRADIENT),
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        tick()
        optimizer.zero_grad()
        return objective(theta)

    if first > 0:
        optimizer.step(closure)
    iterations = optimizer.state[theta].get("n_iter", 0)
    last = _gradient_size(objective, theta)
    return Minimum(theta.detach(), iterations, last <= max(SMALL_SHARE * first, SMALL_GRADIENT))


def _gradient_size(objective: Objective, theta: Tensor) -> float:
    theta.grad = None
    objective(theta)
    assert theta.grad is not None
    return float(theta.grad.abs().max())


def _output_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor
) -> Tensor:
    leaf = outputs.detach().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf, targets).sum(), leaf)
    return found
