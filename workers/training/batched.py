"""Many training runs at once: one batched program over seeds and example weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workers.training.problem import TrainingProblem
from workers.training.trainer import Progress, train


def train_many(
    problem: TrainingProblem,
    seeds: Sequence[int],
    weights: Tensor,
    *,
    progress: Progress | None = None,
    memory_budget: int = 1 << 30,
) -> Tensor:
    """(R, P) final parameters of R runs; run r has seed seeds[r] and example weights[r] (R, N)."""
    results = []
    for done, (seed, row) in enumerate(zip(seeds, weights, strict=True)):
        results.append(train(problem, seed, row).parameters)
        if progress is not None:
            progress(done + 1, len(weights))
    return torch.stack(results)
