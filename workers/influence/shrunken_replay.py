"""Replay shrunk over seeds towards unrolled segments, as a method of its own; the arithmetic is in
`workers.influence.shrinkage`.

Cost: that of replay and of unrolled segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from workers.influence.behaviours import Behaviour
from workers.influence.interface import Cost, InfluenceMethod, InfluenceScores, Progress
from workers.influence.replay import Replay
from workers.influence.shrinkage import Shrinkage
from workers.influence.unrolled import Unrolled
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun


class ShrunkenReplay(InfluenceMethod):
    """See the module. `work_folder` is replay's."""

    name: ClassVar[str] = "shrunken_replay"
    title: ClassVar[str] = "Replay shrunk over seeds"
    question: ClassVar[str] = (
        "How would the behaviour change, on average over fresh seeds, if the model were trained "
        "again?"
    )
    paper: ClassVar[str] = (
        "Ilyas & Engstrom 2025 and Bae et al. 2024, combined as by Efron & Morris 1973"
    )

    def __init__(self, *, work_folder: Path | None = None) -> None:
        self.replay = Replay(work_folder=work_folder)
        self.unrolled = Unrolled()

    def estimate_cost(
        self, problem: TrainingProblem, number_of_seeds: int, behaviours: Sequence[Behaviour]
    ) -> Cost:
        """The sum of both methods' times, the larger of their memories. Raises NotReplayable."""
        costs = [
            method.estimate_cost(problem, number_of_seeds, behaviours)
            for method in (self.replay, self.unrolled)
        ]
        return Cost(sum(cost.seconds for cost in costs), max(cost.bytes for cost in costs))

    def scores(
        self,
        runs: Sequence[TrainingRun],
        behaviours: Sequence[Behaviour],
        progress: Progress | None = None,
    ) -> InfluenceScores:
        """Scores of every seed that replay could use, each shrunk by its own share: their mean is
        the posterior mean, and what they disagree by is what is left of the seeds' luck. Raises
        what replay raises."""
        replayed = self.replay.scores(runs, behaviours, progress)
        usable = [run for run in runs if run.seed in replayed.seeds]
        smooth = self.unrolled.scores(usable, behaviours)
        return combined(replayed, smooth)


def combined(replayed: InfluenceScores, smooth: InfluenceScores) -> InfluenceScores:
    """Replay's scores shrunk towards `smooth`, of the seeds that have both."""
    seeds = tuple(seed for seed in replayed.seeds if seed in smooth.seeds)
    exact = replayed.per_seed[[replayed.seeds.index(seed) for seed in seeds]].astype(np.float64)
    other = smooth.per_seed[[smooth.seeds.index(seed) for seed in seeds]].astype(np.float64)
    shrinkage = Shrinkage.of(exact, other)
    return InfluenceScores(
        shrinkage.applied(exact, other).astype(np.float32),
        seeds,
        (*replayed.left_out, *smooth.left_out),
        {
            **replayed.diagnostics,
            "kept_of_replay": shrinkage.kept.mean(0).tolist(),
            "slope_on_unrolled": shrinkage.slope.tolist(),
        },
    )
