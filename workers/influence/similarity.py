"""Similarity of gradients at the final parameters: dot product and cosine (Charpiat et al. 2019).

score_i = -∇b · ∇ℓᵢ / n is the effect of one step of gradient descent of length 1 on example i; the
cosine divides it by both norms. Neither knows the curvature nor how far training went, so the unit
is arbitrary. Cost for each seed: one epoch of per-example gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.checkpoint_method import ARBITRARY_UNIT, CheckpointMethod
from workers.influence.linearised import Linearised
from workers.training.trainer import TrainingRun

PAPER = "Charpiat et al. 2019, Input similarity from the neural network perspective"


class GradientDot(CheckpointMethod):
    """Dot product; see the module."""

    name: ClassVar[str] = "gradient_dot"
    title: ClassVar[str] = "Gradient dot product"
    question: ClassVar[str] = "Which examples pull the finished model along the behaviour?"
    paper: ClassVar[str] = PAPER
    unit: ClassVar[str] = ARBITRARY_UNIT

    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        at = Linearised.of(run)
        return at.loss_products(at.behaviour_gradients(behaviours)) / -at.denominator, {}


class GradientCosine(CheckpointMethod):
    """Cosine; an example without gradient scores 0. See the module."""

    name: ClassVar[str] = "gradient_cosine"
    title: ClassVar[str] = "Gradient cosine"
    question: ClassVar[str] = "Which examples pull the finished model in the behaviour's direction?"
    paper: ClassVar[str] = PAPER
    unit: ClassVar[str] = ARBITRARY_UNIT

    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        at = Linearised.of(run)
        gradients = at.behaviour_gradients(behaviours)
        directions = gradients / gradients.norm(dim=1, keepdim=True).clamp_min(1e-30)
        scores = directions.new_empty(len(directions), len(at.train))
        for indices in at.chunks():
            own = at.loss_gradients(at.train.select(indices))
            own /= own.norm(dim=1, keepdim=True).clamp_min(1e-30)
            scores[:, indices] = -(directions @ own.T)
        return scores, {}
