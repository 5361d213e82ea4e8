"""How smooth training is in the example weights: whether first-order scores can be trusted.

Replay differentiates training; where training is not smooth, the derivative is exact and says
little about an edit. Small real re-weightings show it (cf. "metasmoothness", Engstrom et al. 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.influence.behaviours import Behaviour, behaviour_values
from workers.training.batched import train_many
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.trainer import Progress

Array = NDArray[np.float64]
ROUGH = 0.5


@dataclass(frozen=True)
class Smoothness:
    """Retrains along D random re-weightings, for K behaviours. All of them with one seed."""

    slopes: Array
    """(D, K) (f(+h) - f(-h)) / 2h: the effect of the re-weighting, per unit."""
    half_slopes: Array
    """(D, K) the same over half the distance; equal where training is smooth."""
    predicted: Array | None
    """(D, K) what the scores predict for the same re-weightings."""

    @property
    def roughness(self) -> Array:
        """(K,) change of the slope relative to the slope: 0 smooth, about 1 or more rough."""
        return _relative(self.half_slopes - self.slopes, self.half_slopes)

    @property
    def first_order_error(self) -> Array | None:
        """(K,) error of the predicted slopes relative to the real ones; None without scores."""
        if self.predicted is None:
            return None
        return _relative(self.predicted - self.half_slopes, self.half_slopes)

    @property
    def warning(self) -> str | None:
        """A sentence for the user, or None when nothing speaks against first-order scores."""
        rough = int((~(self.roughness < ROUGH)).sum())
        error = self.first_order_error
        wrong = 0 if error is None else int((~(error < ROUGH)).sum())
        if not rough and not wrong:
            return None
        parts = []
        if rough:
            parts.append(
                f"{rough} of {self.slopes.shape[1]} behaviours respond unevenly to small "
                "changes of the example weights"
            )
        if wrong:
            parts.append(
                f"for {wrong} the scores miss the effect of small real re-weightings by "
                "more than half"
            )
        return (
            "Training is not smooth here: "
            + "; ".join(parts)
            + ". Predictions from scores may be far off."
        )

    def to_json(self) -> dict[str, Any]:
        error = self.first_order_error
        return {
            "roughness": self.roughness.tolist(),
            "warning": self.warning,
            "first_order_error": None if error is None else error.tolist(),
        }


def measure_smoothness(
    problem: TrainingProblem,
    seed: int,
    behaviours: Sequence[Behaviour],
    *,
    scores: NDArray[np.floating] | None = None,
    number_of_directions: int = 3,
    size: float = 0.1,
    progress: Progress | None = None,
) -> Smoothness:
    """Retrains `4 · number_of_directions` times with weights 1 ± `size` and 1 ± `size`/2 at random.

    Each direction re-weights every training example by a random sign. `scores` (N, K) are those of
    the same `seed`; without them only the roughness is measured, which needs no replay.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (number_of_directions, len(problem.train))
    signs = torch.randint(0, 2, shape, generator=generator).to(problem.dtype) * 2 - 1
    distances = (size, -size, size / 2, -size / 2)
    weights = torch.cat([1 + distance * signs for distance in distances])
    parameters = train_many(problem, [seed] * len(weights), weights, progress=progress)
    values = _values(problem, seed, behaviours, parameters)
    up, down, half_up, half_down = np.split(values, 4)
    predicted = None if scores is None else signs.numpy() @ np.asarray(scores, np.float64)
    return Smoothness((up - down) / (2 * size), (half_up - half_down) / size, predicted)


def _values(
    problem: TrainingProblem, seed: int, behaviours: Sequence[Behaviour], parameters: Tensor
) -> Array:
    network = problem.build_network(seed)
    layout = ParameterLayout.of(network)
    rows = [behaviour_values(behaviours, network, layout, theta) for theta in parameters]
    return np.asarray(torch.stack(rows).numpy(), dtype=np.float64)


def _relative(difference: Array, reference: Array) -> Array:
    norm = np.linalg.norm(reference, axis=0)
    result: Array = np.linalg.norm(difference, axis=0) / np.maximum(norm, 1e-300)
    return result
