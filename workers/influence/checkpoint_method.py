"""What methods that look at a run's parameters share: the loop over seeds, progress, a cost
estimate from a timed sample. Each method's own arithmetic lives in its own file."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.interface import (
    Cost,
    InfluenceMethod,
    InfluenceScores,
    LeftOutSeed,
    NoUsableSeed,
    Progress,
    shared_problem,
)
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

SAMPLE = 128
"""Examples of the timed sample of a cost estimate."""
ARBITRARY_UNIT = "arbitrary: only the order of the scores means something"


class CheckpointMethod(InfluenceMethod):
    """Scores each seed's run by `scores_of_run`, one after the other."""

    needs_trajectory: ClassVar[bool] = False
    unit: ClassVar[str] = "behaviour's unit per unit of weight"

    @abstractmethod
    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        """(K, N) scores of one run, and what is worth knowing about them."""

    def scores(
        self,
        runs: Sequence[TrainingRun],
        behaviours: Sequence[Behaviour],
        progress: Progress | None = None,
    ) -> InfluenceScores:
        """Scores of every seed; `progress` counts seeds. A seed whose scores are not finite is
        left out. Raises ValueError for a run without the trajectory that the method needs."""
        shared_problem(runs)
        for run in runs:
            if self.needs_trajectory and (run.trajectory is None or not run.trajectory.is_complete):
                raise ValueError(f"the run of seed {run.seed} has no complete trajectory")
        kept, seeds, left_out, diagnostics = [], [], [], []
        for number, run in enumerate(runs):
            found, known = self.scores_of_run(run, behaviours)
            if torch.isfinite(found).all():
                kept.append(found.T.to(torch.float32).numpy())
                seeds.append(run.seed)
                diagnostics.append(known)
            else:
                left_out.append(LeftOutSeed(run.seed, "the scores are not finite"))
            if progress is not None:
                progress(number + 1, len(runs))
        if not kept:
            raise NoUsableSeed(left_out)
        return InfluenceScores(
            np.stack(kept),
            tuple(seeds),
            tuple(left_out),
            {"unit": self.unit, "seeds": diagnostics},
        )

    def estimate_cost(
        self, problem: TrainingProblem, number_of_seeds: int, behaviours: Sequence[Behaviour]
    ) -> Cost:
        """Times the method on a sample of the examples and scales it by their number."""
        number = min(SAMPLE, len(problem.train))
        sample = replace(
            problem,
            train=problem.train.select(torch.arange(number)),
            recipe=replace(problem.recipe, epochs=min(2, problem.recipe.epochs)),
        )
        run = train(sample, 0, trajectory=Trajectory() if self.needs_trajectory else None)
        few = list(behaviours)[:4]
        began = time.perf_counter()
        self.scores_of_run(run, few)
        share = len(problem.train) / number * len(behaviours) / max(1, len(few))
        seconds = (time.perf_counter() - began) * share * number_of_seeds
        return Cost(seconds, self.peak_bytes(problem, run.parameters.nbytes, len(behaviours)))

    def peak_bytes(self, problem: TrainingProblem, vector: int, behaviours: int) -> int:
        """Beyond data and network, for trained parameters of `vector` bytes."""
        return 4 * behaviours * vector + 4 * behaviours * len(problem.train) + (256 << 20)
