"""Exact influence by differentiating the whole training run (Ilyas & Engstrom 2025, "MAGIC").

A run is s_{t+1} = step_t(s_t, g_t), with s = (θ, optimizer state) and g_t = Σ wᵢ ∇ℓᵢ(θ_t) / B.
Walking back from ∂behaviour/∂θ_T, each step pulls the cotangent of s through the optimizer in
closed form, which gives u, the cotangent of g_t; then ∂behaviour/∂θ gains (∂g_t/∂θ)ᵀ u, and each
example of the batch gains u · ∇ℓᵢ / B. The sum over steps is d behaviour / d wᵢ, the score.

Cost for each seed: about 2 to 3.5 training steps per step, plus 1 where states are recomputed
between checkpoints. Behaviours share the step's first derivative and its overhead: further ones
are nearly free for small networks and cost 1 to 2.5 training steps each for large ones. Seeds of
small networks with few behaviours share their steps too (`replay_seeds`). Memory:
one state per checkpoint, the states of one segment, and (1 + slots) · K · P for the cotangents.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.ensembles import oversized_seeds
from workers.influence.interface import (
    Cost,
    InfluenceMethod,
    InfluenceScores,
    LeftOutSeed,
    NoUsableSeed,
    Progress,
    shared_problem,
)
from workers.influence.replay_seeds import SeedsWalk, can_walk_together
from workers.influence.replay_walk import BackwardWalk, BlowUp
from workers.training.optimizers import build_optimizer
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory


class NotReplayable(ValueError):
    """The recipe or the run cannot be replayed exactly; the message says why."""


class Replay(InfluenceMethod):
    """See the module. `work_folder` keeps what a killed computation had reached; running it again
    with the same runs and behaviours goes on from there."""

    name: ClassVar[str] = "replay"
    title: ClassVar[str] = "Replay"
    question: ClassVar[str] = (
        "How would the behaviour change if the model were trained again, with the same seed for "
        "one seed's scores and with a fresh seed for their mean?"
    )
    paper: ClassVar[str] = "Ilyas & Engstrom 2025, MAGIC: near-optimal data attribution"

    def __init__(
        self,
        *,
        work_folder: Path | None = None,
        memory_budget: int = 1 << 30,
        growth_limit: float = 1e4,
    ) -> None:
        self.work_folder = work_folder
        self.memory_budget = memory_budget
        self.growth_limit = growth_limit
        """How many times its first norm the cotangent of θ may reach before a seed is left out."""

    def estimate_cost(
        self, problem: TrainingProblem, number_of_seeds: int, behaviours: Sequence[Behaviour]
    ) -> Cost:
        """Times a short real run and its replay. Raises NotReplayable."""
        check_replayable(problem)
        steps = min(TIMED_STEPS, problem.number_of_steps)
        sample = _shortened(problem, steps)
        run = train(sample, 0, trajectory=Trajectory(spacing=1))
        groups = self._groups(run, len(behaviours))
        first = list(behaviours)[: len(groups[0])]
        BackwardWalk(run, first, self.growth_limit).finish()  # the first call warms up
        began = time.perf_counter()
        walk = BackwardWalk(run, first, self.growth_limit)
        started = time.perf_counter() - began
        walk.finish()
        per_step = (time.perf_counter() - began - started) / sample.number_of_steps
        state_bytes = run.trajectory.rows(0).nbytes if run.trajectory else 0
        if (problem.number_of_steps + 1) * state_bytes > self.memory_budget:
            per_step += run.seconds / sample.number_of_steps
        seconds = number_of_seeds * len(groups) * (started + per_step * problem.number_of_steps)
        stored = (problem.number_of_steps + 1) * state_bytes
        return Cost(seconds, min(stored, self.memory_budget) + walk.cotangents.nbytes * 2)

    def scores(
        self,
        runs: Sequence[TrainingRun],
        behaviours: Sequence[Behaviour],
        progress: Progress | None = None,
    ) -> InfluenceScores:
        """Scores of every seed; a seed that blows up is left out with the reason.

        Raises NotReplayable for a recipe with dropout or mixed precision or a run without a
        recorded trajectory, and NoUsableSeed when every seed blew up.
        """
        problem = shared_problem(runs)
        check_replayable(problem)
        for run in runs:
            if run.trajectory is None or not run.trajectory.is_complete:
                raise NotReplayable(f"the run of seed {run.seed} has no complete trajectory")
        report = _SharedProgress(progress, len(runs), problem.number_of_steps)
        kept: list[np.ndarray[Any, np.dtype[np.float32]]] = []
        seeds, growths, left_out = [], [], []
        for run, found in self._walked(runs, behaviours, report):
            if isinstance(found, str):
                left_out.append(LeftOutSeed(run.seed, found))
                continue
            scores, growth = found
            kept.append(scores.T.to(torch.float32).numpy())
            seeds.append(run.seed)
            growths.append(growth.tolist())
        if not kept:
            raise NoUsableSeed(left_out)
        oversized = oversized_seeds(np.stack(kept))
        for place, (behaviour, ratio) in oversized.items():
            left_out.append(
                LeftOutSeed(
                    seeds[place],
                    f"its scores for behaviour {behaviour + 1} are {ratio:.3g} times as "
                    "large as the median seed's: this run's training is too sensitive",
                )
            )
        places = [place for place in range(len(kept)) if place not in oversized]
        return InfluenceScores(
            np.stack([kept[place] for place in places]),
            tuple(seeds[place] for place in places),
            tuple(left_out),
            {"cotangent_growth": [growths[place] for place in places]},
        )

    def _walked(
        self, runs: Sequence[TrainingRun], behaviours: Sequence[Behaviour], report: _SharedProgress
    ) -> Iterator[tuple[TrainingRun, tuple[Tensor, Tensor] | str]]:
        """Each run with its (K, N) scores and (K,) largest growth, or why it blew up."""
        has_to_resume = (
            self.work_folder is not None and runs[0].problem.number_of_steps > LONGEST_UNSAVED
        )
        if not has_to_resume and can_walk_together(runs, len(behaviours)):
            walk = SeedsWalk(runs, behaviours, self.growth_limit)
            walk.finish(report.progress)
            for place, run in enumerate(runs):
                found = walk.scores[place], walk.largest_growth[place]
                yield run, walk.blown_up.get(place, found)
            return
        for run in runs:
            try:
                yield run, self._scores_of_run(run, behaviours, report)
            except BlowUp as blow_up:
                report.skip_to_next_run()
                yield run, str(blow_up)

    def _scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour], report: _SharedProgress
    ) -> tuple[Tensor, Tensor]:
        """(K, N) scores and (K,) largest growth of the cotangents."""
        scores, growths = [], []
        groups = self._groups(run, len(behaviours))
        for number, group in enumerate(groups):
            report.begin_group(number, len(groups))
            walk = BackwardWalk(
                run,
                [behaviours[place] for place in group],
                self.growth_limit,
                work_folder=self.work_folder,
                memory_budget=self.memory_budget,
            )
            walk.finish(report)
            scores.append(walk.scores)
            growths.append(walk.largest_growth)
        report.end_run()
        return torch.cat(scores), torch.cat(growths)

    def _groups(self, run: TrainingRun, number_of_behaviours: int) -> list[range]:
        """Which behaviours share a walk: as many as the memory budget holds cotangents for."""
        vectors = 2 * (1 + len(build_optimizer(run.problem.recipe, 0).slots))
        bytes_each = vectors * run.parameters.nbytes
        size = max(1, self.memory_budget // bytes_each)
        return [
            range(start, min(start + size, number_of_behaviours))
            for start in range(0, number_of_behaviours, size)
        ]


TIMED_STEPS = 5
LONGEST_UNSAVED = 5_000
"""Steps of a small network that are walked again after a kill: some seconds."""


def check_replayable(problem: TrainingProblem) -> None:
    """Raises NotReplayable, with the reason, for a recipe whose steps cannot be repeated exactly
    or differentiated."""
    if problem.recipe.dropout > 0:
        raise NotReplayable(
            "the recipe uses dropout: its random masks make a step's derivative differ from the "
            "effect of an edit; train with dropout 0"
        )
    if problem.recipe.precision.startswith("mixed"):
        raise NotReplayable(
            "the recipe uses mixed precision, whose rounding has no derivative; use float32"
        )


SMOOTH_EPSILON = 1e-5
"""Of AdamW on adapters; below it their first steps, from gradients of nearly zero, hardly depend on
the size of the gradient, and the derivative of the run says little about real edits."""


def replay_cautions(problem: TrainingProblem) -> list[str]:
    """Sentences on what makes replay of this recipe possible but poor."""
    recipe = problem.recipe
    part = problem.architecture.get("trained_part", recipe.trained_part)
    if part == "lora" and recipe.optimizer == "adamw" and recipe.epsilon < SMOOTH_EPSILON:
        return [
            "low-rank adapters start with gradients of nearly zero, where AdamW with so small an "
            "epsilon is not smooth: replay predicts edits poorly there; an epsilon of 0.0001 to "
            "0.001 with a larger learning rate, and warm-up steps, make its predictions useful"
        ]
    return []


def _shortened(problem: TrainingProblem, steps: int) -> TrainingProblem:
    """The same problem on its first examples, so that one epoch has `steps` full batches."""
    number = min(len(problem.train), steps * problem.recipe.batch_size)
    return replace(
        problem,
        train=problem.train.select(torch.arange(number)),
        recipe=replace(problem.recipe, epochs=1),
    )


class _SharedProgress:
    """Counts the steps of all walks of all runs as one job."""

    def __init__(self, progress: Progress | None, runs: int, steps: int) -> None:
        self.progress = progress
        self.steps = steps
        self.total = runs * steps
        self.before = 0
        self.group, self.groups = 0, 1

    def begin_group(self, group: int, groups: int) -> None:
        self.group, self.groups = group, groups

    def __call__(self, done: int, total: int) -> None:
        if self.progress is not None:
            within = (self.group * total + done) // self.groups
            self.progress(self.before + within, self.total)

    def end_run(self) -> None:
        self.before += self.steps

    skip_to_next_run = end_run
