"""TracIn: gradient products summed over checkpoints of the run (Pruthi et al. 2020, section 3.3).

A step of learning rate η moves the parameters by -η Σ wᵢ ∇ℓᵢ / B, and each of the epoch's n / B
steps visits other examples. With the steps t shared out among checkpoints c,
score_i = -Σ_c (Σ_{t near c} η_t) · ∇b(θ_c) · P_c ∇ℓᵢ(θ_c) / n. P_c is 1 / (1 - momentum) for SGD
and AdamW's own scaling 1 / √(v / correction + epsilon) at the checkpoint (Xia et al. 2024, LESS,
without the first moment). What later steps make of an earlier one is left out, weight decay too.

Cost for each seed: one epoch of per-example gradients for each checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.checkpoint_method import CheckpointMethod
from workers.influence.linearised import Linearised
from workers.training.optimizers import learning_rates
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun

MOST_CHECKPOINTS = 12


class Checkpoints(CheckpointMethod):
    """See the module. At most `most_checkpoints` recorded states, evenly spaced, are used."""

    name: ClassVar[str] = "checkpoints"
    title: ClassVar[str] = "Checkpoints (TracIn)"
    question: ClassVar[str] = (
        "How far did the steps on this example move the behaviour while the model was trained?"
    )
    paper: ClassVar[str] = (
        "Pruthi et al. 2020, Estimating training data influence by tracing gradient descent"
    )
    needs_trajectory: ClassVar[bool] = True

    def __init__(self, *, most_checkpoints: int = MOST_CHECKPOINTS) -> None:
        if most_checkpoints < 1:
            raise ValueError("at least 1 checkpoint is needed")
        self.most_checkpoints = most_checkpoints

    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        assert run.trajectory is not None
        shares = checkpoint_learning_rates(
            run.trajectory.steps, run.problem.recipe, self.most_checkpoints
        )
        total = torch.zeros(len(behaviours), len(run.problem.train), dtype=run.problem.dtype)
        for step, learning_rate in shares.items():
            rows = run.trajectory.rows(step)
            at = Linearised(run.problem, run.seed, rows[0], run.weights)
            gradients = at.behaviour_gradients(behaviours)
            gradients *= step_scale(run.problem.recipe, rows, step)
            total.sub_(at.loss_products(gradients), alpha=learning_rate / at.denominator)
        return total, {"checkpoints": list(shares)}


def checkpoint_learning_rates(
    recorded: Sequence[int], recipe: Recipe, most_checkpoints: int
) -> dict[int, float]:
    """For each chosen step of `recorded` (ascending, from 0 to T) the sum of the learning rates
    of the training steps nearest to it; over all choices they add up to the whole run's.

    AdamW's state before step 0 holds no second moment yet and is passed over, and the state after
    the last step stands in only where no other is left.
    """
    number_of_steps = recorded[-1]
    first = 1 if recipe.optimizer == "adamw" else 0
    candidates = [step for step in recorded if first <= step < number_of_steps]
    candidates = candidates or [number_of_steps]
    groups = np.array_split(candidates, min(most_checkpoints, len(candidates)))
    chosen = np.array([group[(len(group) - 1) // 2] for group in groups])
    borders = (chosen[:-1] + chosen[1:]) / 2
    owners = np.searchsorted(borders, np.arange(number_of_steps))
    sums = np.bincount(owners, learning_rates(recipe, number_of_steps), minlength=len(chosen))
    return dict(zip(chosen.tolist(), sums.tolist(), strict=True))


def step_scale(recipe: Recipe, rows: Tensor, step: int) -> Tensor | float:
    """What the optimizer multiplies a gradient by, besides the learning rate: a number for SGD,
    (P,) for AdamW, from the recorded `rows` (1 + slots, P) before step number `step`."""
    if recipe.optimizer == "sgd":
        return 1 / (1 - recipe.momentum)
    correction: float = 1 - recipe.beta2**step
    return (rows[2] / correction + recipe.epsilon).rsqrt()
