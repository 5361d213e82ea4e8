"""What the influence functions that need a damping share: which one is taken, and its choice by
held-out evidence among several (`workers.influence.damping`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.checkpoint_method import CheckpointMethod
from workers.influence.damping import (
    damping_by_evidence,
    distance_of_run,
    training_time_damping,
)
from workers.influence.ensembles import robust_mean
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun

STRENGTHS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)


class DampedMethod(CheckpointMethod):
    """Solves with H + λ I, H the curvature of the objective; `damping` is λ, and None takes
    `training_time_damping` of each run."""

    def __init__(self, *, damping: float | None = None) -> None:
        if damping is not None and damping <= 0:
            raise ValueError("the damping must be above 0")
        self.damping = damping

    @abstractmethod
    def path(
        self, run: TrainingRun, behaviours: Sequence[Behaviour], dampings: Sequence[float]
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """(D, K, N) scores at each of D dampings λ, for the price of little more than one."""


class StepDampedMethod(DampedMethod):
    """Solves with H + λ D⁻¹.

    By default λ is `strength` and D the distance that the recorded run of AdamW moved each
    parameter under a constant gradient (`distance_of_run`): the ridge of having stopped there, in
    each parameter's own units. Without a recorded run, and for SGD, whose steps are alike for all
    parameters, D is 1 and λ is `strength` times `training_time_damping`. A given `damping` is λ
    itself, with D = 1.
    """

    def __init__(self, *, damping: float | None = None, strength: float = 1.0) -> None:
        super().__init__(damping=damping)
        if strength <= 0:
            raise ValueError("the strength of the damping must be above 0")
        self.strength = strength

    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        if self.damping is not None:
            damping, metric = self.damping, None
        else:
            unit, metric = damping_unit(run)
            damping = unit * self.strength
        scores, known = self.path(run, behaviours, [damping], metric=metric)
        by_step = {} if metric is None else {"in": "1 / each parameter's distance in the run"}
        return scores[0], {"damping": damping, **by_step, **known[0]}

    @abstractmethod
    def path(
        self,
        run: TrainingRun,
        behaviours: Sequence[Behaviour],
        dampings: Sequence[float],
        *,
        metric: Tensor | None = None,
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """As `DampedMethod.path`, with `metric` (P,) above 0 as D; 1 when None."""

    def choose_strength(
        self,
        runs: Sequence[TrainingRun],
        behaviours: Sequence[Behaviour],
        edits: NDArray[Any] | csr_array,
        measured: NDArray[Any],
        strengths: Sequence[float] = STRENGTHS,
    ) -> float:
        """The strength whose scores, aggregated over `runs`, rank measured effects best.

        `edits` (E, N) new weight - 1; `measured` (E, K) changes of the behaviours, both held out
        from every figure that is reported. Raises ValueError for fewer than 3 edits.
        """
        paths = []
        for run in runs:
            unit, metric = damping_unit(run)
            dampings = [unit * strength for strength in strengths]
            paths.append(self.path(run, behaviours, dampings, metric=metric)[0].mT.numpy())
        by_run = np.stack(paths).astype(np.float32)
        aggregated = np.stack([robust_mean(by_run[:, place]) for place in range(len(strengths))])
        return damping_by_evidence(strengths, aggregated, edits, measured)


def damping_unit(run: TrainingRun) -> tuple[float, Tensor | None]:
    """λ at strength 1, and D (P,) or None for 1."""
    is_recorded = run.trajectory is not None and run.trajectory.is_complete
    if is_recorded and run.problem.recipe.optimizer == "adamw":
        return 1.0, distance_of_run(run)
    return training_time_damping(run), None


def penalty(problem: TrainingProblem) -> float:
    """The factor of |θ|² / 2 in the objective: SGD's weight decay; AdamW's is no such term."""
    return problem.recipe.weight_decay if problem.recipe.optimizer == "sgd" else 0.0
