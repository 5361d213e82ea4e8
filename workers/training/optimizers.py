"""SGD and AdamW on flat vectors, each with the hand-written pullback of one step, and schedules.

A training state is one tensor `rows` (1 + slots, ..., P): row 0 is θ, the others the optimizer's
own vectors. All arithmetic is elementwise, so leading dimensions (runs, seeds) broadcast.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from workers.training.recipe import Recipe


def learning_rates(recipe: Recipe, number_of_steps: int) -> list[float]:
    """The learning rate of each of the T steps: linear warm-up, then the schedule down to zero."""
    warmup = min(recipe.warmup_steps, number_of_steps)
    remaining = max(1, number_of_steps - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / remaining
        if recipe.schedule == "linear":
            return 1 - done
        if recipe.schedule == "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        return 1.0

    return [recipe.learning_rate * factor(step) for step in range(number_of_steps)]


class Optimizer(ABC):
    """One rule for a step and for pulling cotangents back through it."""

    slots: tuple[str, ...]
    """Names of the rows after θ."""

    def __init__(self, recipe: Recipe, number_of_steps: int) -> None:
        self.recipe = recipe
        self.learning_rates = learning_rates(recipe, number_of_steps)

    @property
    def number_of_rows(self) -> int:
        return 1 + len(self.slots)

    def initial_rows(self, parameters: Tensor) -> Tensor:
        """(1 + slots, ..., P): `parameters` (..., P) with zero optimizer state."""
        rows = parameters.new_zeros((self.number_of_rows, *parameters.shape))
        rows[0] = parameters
        return rows

    @abstractmethod
    def step(self, rows: Tensor, gradient: Tensor, step: int) -> None:
        """Moves `rows` (1 + slots, ..., P) in place by step number `step` (from 0)."""

    @abstractmethod
    def pullback(self, rows: Tensor, gradient: Tensor, cotangents: Tensor, step: int) -> Tensor:
        """Pulls `cotangents` (1 + slots, K, P) of the rows after the step to those before it.

        `rows` (1 + slots, P) and `gradient` (P,) are those the step started from. `cotangents`
        change in place, but for the path through the gradient, whose cotangent u (K, P) is
        returned: the caller adds (∂gradient/∂θ)ᵀ u to row 0.
        """


class Sgd(Optimizer):
    """b' = momentum·b + g + weight_decay·θ;  θ' = θ - η b'  (as torch.optim.SGD)."""

    slots = ("momentum",)

    def step(self, rows: Tensor, gradient: Tensor, step: int) -> None:
        theta, momentum = rows[0], rows[1]
        momentum.mul_(self.recipe.momentum).add_(gradient)
        if self.recipe.weight_decay:
            momentum.add_(theta, alpha=self.recipe.weight_decay)
        theta.add_(momentum, alpha=-self.learning_rates[step])

    def pullback(self, rows: Tensor, gradient: Tensor, cotangents: Tensor, step: int) -> Tensor:
        theta, momentum = cotangents[0], cotangents[1]
        pulled = momentum.add(theta, alpha=-self.learning_rates[step])
        if self.recipe.weight_decay:
            theta.add_(pulled, alpha=self.recipe.weight_decay)
        torch.mul(pulled, self.recipe.momentum, out=momentum)
        return pulled


class AdamW(Optimizer):
    """AdamW with decoupled decay (Loshchilov & Hutter 2019) and epsilon inside the root.

    m' = β1 m + (1-β1) g;  v' = β2 v + (1-β2) g²;
    θ' = (1 - η·decay) θ - η (m'/c1) / sqrt(v'/c2 + epsilon),  c_j = 1 - β_j^(t+1).
    Inside the root, epsilon keeps the derivative of the step bounded where v is near zero.
    """

    slots = ("first moment", "second moment")

    def step(self, rows: Tensor, gradient: Tensor, step: int) -> None:
        recipe, rate = self.recipe, self.learning_rates[step]
        theta, first, second = rows[0], rows[1], rows[2]
        first.lerp_(gradient, 1 - recipe.beta1)
        second.mul_(recipe.beta2).addcmul_(gradient, gradient, value=1 - recipe.beta2)
        first_correction, second_correction = self._corrections(step)
        # sqrt(v/c2 + e) = sqrt(v + e·c2) / sqrt(c2): one pass over v less.
        root = second.add(recipe.epsilon * second_correction).sqrt_()
        if recipe.weight_decay:
            theta.mul_(1 - rate * recipe.weight_decay)
        theta.addcdiv_(first, root, value=-rate * math.sqrt(second_correction) / first_correction)

    def pullback(self, rows: Tensor, gradient: Tensor, cotangents: Tensor, step: int) -> Tensor:
        recipe, rate = self.recipe, self.learning_rates[step]
        theta, first, second = cotangents[0], cotangents[1], cotangents[2]
        first_correction, second_correction = self._corrections(step)
        new_first = rows[1].lerp(gradient, 1 - recipe.beta1)
        new_second = (rows[2] * recipe.beta2).addcmul_(gradient, gradient, value=1 - recipe.beta2)
        # With s = sqrt(v + e·c2): ∂θ'/∂m' = -a / s and ∂θ'/∂v' = a m' / (2 s³).
        scale = rate * math.sqrt(second_correction) / first_correction
        reciprocal = new_second.add_(recipe.epsilon * second_correction).rsqrt_()
        by_first = reciprocal * -scale
        by_second = new_first.mul_(by_first).mul_(reciprocal).mul_(reciprocal).mul_(-0.5)
        first.addcmul_(theta, by_first)
        second.addcmul_(theta, by_second)
        pulled = second * (gradient * (2 * (1 - recipe.beta2)))
        pulled.add_(first, alpha=1 - recipe.beta1)
        first.mul_(recipe.beta1)
        second.mul_(recipe.beta2)
        if recipe.weight_decay:
            theta.mul_(1 - rate * recipe.weight_decay)
        return pulled

    def _corrections(self, step: int) -> tuple[float, float]:
        return 1 - self.recipe.beta1 ** (step + 1), 1 - self.recipe.beta2 ** (step + 1)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": Sgd, "adamw": AdamW}


def build_optimizer(recipe: Recipe, number_of_steps: int) -> Optimizer:
    """The optimizer that `recipe` names, for a run of T steps."""
    return OPTIMIZERS[recipe.optimizer](recipe, number_of_steps)
