"""Self-influence: how far the training steps on an example moved the model on that example itself
(TracIn, Pruthi et al. 2020, sections 3.3 and 5.1).

selfᵢ = Σ_c (Σ_{t near c} η_t) · ∇ℓᵢ(θ_c) · P_c ∇ℓᵢ(θ_c) / n, summed over checkpoints c of the run,
with the optimizer's own scaling P_c and the n of `workers.influence.checkpoints`: minus the
influence by that method of the example on its own loss. It is the drop of the example's loss by one
unit more of its weight, to first order; examples that nothing else teaches, rare or mislabelled
ones, have much of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workers.influence.checkpoints import checkpoint_learning_rates, step_scale
from workers.influence.interface import Progress
from workers.influence.linearised import Linearised
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun
from workers.training.trajectory import Trajectory

MOST_CHECKPOINTS = 5


def sparse_trajectory(problem: TrainingProblem) -> Trajectory:
    """A record of no more states than `self_influence` looks at, and both ends."""
    return Trajectory(spacing=max(1, -(-problem.number_of_steps // (MOST_CHECKPOINTS + 1))))


def self_influence(run: TrainingRun, progress: Progress | None = None) -> Tensor:
    """(N,) of every training example, at least 0, in the loss's unit per unit of weight.

    Cost: one epoch of per-example gradients for each of at most five checkpoints, which `progress`
    counts by example. Raises ValueError for a run without a complete trajectory.
    """
    if run.trajectory is None or not run.trajectory.is_complete:
        raise ValueError(f"the run of seed {run.seed} has no complete trajectory")
    recipe, count = run.problem.recipe, len(run.problem.train)
    rates = checkpoint_learning_rates(run.trajectory.steps, recipe, MOST_CHECKPOINTS)
    total = torch.zeros(count, dtype=torch.float64)
    done = 0
    for step, learning_rate in rates.items():
        rows = run.trajectory.rows(step)
        at = Linearised(run.problem, run.seed, rows[0], run.weights)
        scale = step_scale(recipe, rows, step)
        for indices in at.chunks():
            gradients = at.loss_gradients(at.train.select(indices))
            products = (gradients.square() * scale).sum(1).double()
            total[indices] += products * (learning_rate / at.denominator)
            done += len(indices)
            if progress is not None:
                progress(done, count * len(rates))
    return total
