"""The backward walk over the recorded runs of several seeds at once, for small networks and few
behaviours, where the overhead of a step outweighs its arithmetic. `replay_walk` does the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour, behaviour_gradients
from workers.influence.replay_walk import GUARD_STEPS, blow_up_words
from workers.training.optimizers import build_optimizer
from workers.training.program import TrainingProgram, deterministic
from workers.training.trainer import TrainingRun

MOST_BEHAVIOURS = 3
"""Beyond them a step's arithmetic outweighs the overhead that seeds can share."""
LARGEST_TRAINED_PART = 20_000


class SeedsWalk:
    """Walks R runs of one chain network backwards for K behaviours.

    After `finish`, `scores` (R, K, N) and `largest_growth` (R, K) are what `BackwardWalk` finds
    for each run alone, within float tolerance; `blown_up` says of the runs (by place) whose
    cotangents exploded why their scores mean nothing.
    """

    def __init__(
        self, runs: Sequence[TrainingRun], behaviours: Sequence[Behaviour], growth_limit: float
    ) -> None:
        problem = runs[0].problem
        self.problem, self.runs, self.growth_limit = problem, runs, growth_limit
        self.program = TrainingProgram(problem, runs[0].seed)
        self.optimizer = build_optimizer(problem.recipe, problem.number_of_steps)
        gradients = torch.stack(
            [
                behaviour_gradients(
                    behaviours, self.program.network, self.program.layout, run.parameters
                )
                for run in runs
            ]
        )
        self.cotangents = self.optimizer.initial_rows(gradients)
        self.first_norms = gradients.norm(dim=2)
        self.largest_growth = torch.ones_like(self.first_norms)
        self.scores = gradients.new_zeros(len(runs), len(behaviours), len(problem.train))
        self.blown_up: dict[int, str] = {}

    def finish(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Walks to the first step; `progress(done, total)` counts the steps of all runs."""
        total = self.problem.number_of_steps
        orders = torch.stack([self.problem.batch_order(run.seed) for run in self.runs], 1)
        weights = torch.stack([run.example_weights for run in self.runs])
        with deterministic():
            for step in reversed(range(total)):
                indices = orders[step, :, : self.problem.batch_length(step)]
                self._walk_step(step, indices, weights.gather(1, indices))
                if step % GUARD_STEPS == 0:
                    self._guard(step)
                    if progress is not None:
                        progress((total - step) * len(self.runs), total * len(self.runs))

    def _walk_step(self, step: int, indices: Tensor, weights: Tensor) -> None:
        assert self.program.chain is not None
        rows = torch.stack([_rows(run, step) for run in self.runs], 1)
        gradient, pull = self.program.chain.differentiate_runs(
            rows[0], self.problem.examples.select(indices), weights
        )
        pulled = self.optimizer.pullback(rows[:, :, None], gradient[:, None], self.cotangents, step)
        by_parameters, by_weights = pull(pulled)
        self.cotangents[0] += by_parameters
        self.scores.scatter_add_(2, indices[:, None].expand_as(by_weights), by_weights)

    def _guard(self, step: int) -> None:
        growth = self.cotangents[0].norm(dim=2) / self.first_norms.clamp_min(1e-30)
        bad = ~(growth <= self.growth_limit)
        for place, behaviour in bad.nonzero().tolist():
            words = blow_up_words(
                behaviour, float(growth[place, behaviour]), step, self.growth_limit
            )
            self.blown_up.setdefault(place, words)
            # Nothing that is not finite may meet the other runs' guards again.
            self.cotangents[:, place] = 0
            growth[place] = 0
        self.largest_growth = torch.maximum(self.largest_growth, growth)


def can_walk_together(runs: Sequence[TrainingRun], number_of_behaviours: int) -> bool:
    """Whether `SeedsWalk` fits these runs and is faster than walking them one by one."""
    if len(runs) < 2 or number_of_behaviours > MOST_BEHAVIOURS:
        return False
    problem = runs[0].problem
    if runs[0].parameters.numel() > LARGEST_TRAINED_PART:
        return False
    dense = problem.number_of_steps + 1
    if any(run.trajectory is None or len(run.trajectory.steps) != dense for run in runs):
        return False
    return TrainingProgram(problem, runs[0].seed).chain is not None


def _rows(run: TrainingRun, step: int) -> Tensor:
    assert run.trajectory is not None
    return run.trajectory.rows(step)
