"""Replay's scores shrunk over seeds: what each example's would be on average over fresh seeds.

Replay is exact for each seed, and much of what it finds is that seed's luck. Unrolled segments take
training as nearly quadratic between a few states; they miss what is particular to a seed, and so
repeat from seed to seed. With r̄ᵢ and cᵢ the means over S seeds of example i's scores by replay and
by unrolled segments, for one behaviour, the fresh-seed mean is estimated as

    β cᵢ + B_g (r̄ᵢ - β cᵢ),     B_g = 1 - mean(σᵢ² / S) / mean((r̄ᵢ - β cᵢ)²), not below 0,

with σᵢ² the variance of replay's scores over seeds, the means over the examples of a group g, and β
the least-squares slope of r̄ on c, each example weighted by 1 / its group's mean (r̄ᵢ - β cᵢ)². It is
the estimate of James and Stein (1961; Efron & Morris 1973) within groups of examples whose scores
are alike in size, since large scores err by more (group-linear empirical Bayes: Weinstein et al.
2018). Nothing is chosen by retrains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST_GROUPS = 10
SMALLEST_GROUP = 30
ROUNDS = 3
"""β is weighted by what it leaves over."""
ROUNDING = 1e-12
"""Of the mean square score: seeds that agree exactly still have some noise."""


def shrunken(exact: Array, smooth: Array) -> Array:
    """(S, N, K) scores whose mean over seeds is the estimate, and whose disagreement is what is
    left of the seeds' luck, from those of both methods (S, N, K)."""
    return Shrinkage.of(exact, smooth).applied(exact, smooth)


@dataclass(frozen=True)
class Shrinkage:
    """β (K,) and each example's B (N, K)."""

    slope: Array
    kept: Array

    @classmethod
    def of(cls, exact: Array, smooth: Array) -> Shrinkage:
        """From scores (S, N, K) of both methods; nothing is shrunk for a single seed."""
        seeds, number, behaviours = exact.shape
        if seeds == 1:
            return cls(np.zeros(behaviours), np.ones((number, behaviours)))
        columns = [_of_behaviour(exact[..., k], smooth[..., k]) for k in range(behaviours)]
        return cls(np.array([slope for slope, _ in columns]), np.stack([b for _, b in columns], 1))

    def applied(self, exact: Array, smooth: Array) -> Array:
        """(S, N, K), see `shrunken`."""
        towards = self.slope * smooth
        return np.asarray(towards + self.kept * (exact - towards), np.float64)


def _of_behaviour(exact: Array, smooth: Array) -> tuple[float, Array]:
    """β and B (N,) from (S, N) scores of both methods."""
    mean, towards = exact.mean(0), smooth.mean(0)
    scale = float((exact**2).mean())
    if scale == 0:
        return 0.0, np.ones_like(mean)
    luck = exact.var(0, ddof=1) / len(exact) / scale + ROUNDING
    group = _groups_of_alike(_relative_squares(exact) + _relative_squares(smooth))
    noise = left_over = _means(luck, group)
    slope = 0.0
    for _ in range(ROUNDS):
        weighted = towards / left_over[group]
        fitted = float(weighted @ towards)
        slope = float(weighted @ mean) / fitted if fitted > 0 else 0.0
        left_over = np.maximum(_means((mean - slope * towards) ** 2 / scale, group), noise)
    return slope, (1 - noise / left_over)[group]


def _relative_squares(scores: Array) -> Array:
    """(N,) the mean square over seeds of (S, N) scores, relative to that of all examples."""
    squares = (scores**2).mean(0)
    return np.asarray(squares / max(squares.mean(), np.finfo(np.float64).tiny), np.float64)


def _groups_of_alike(size: Array) -> NDArray[np.int64]:
    """(N,) the group of each example: equally many, by size."""
    number = len(size)
    groups = max(1, min(MOST_GROUPS, number // SMALLEST_GROUP))
    rank = np.empty(number, np.int64)
    rank[np.argsort(size, kind="stable")] = np.arange(number)
    return rank * groups // number


def _means(values: Array, group: NDArray[np.int64]) -> Array:
    """(G,) means of `values` (N,) over the examples of each group."""
    return np.asarray(np.bincount(group, values) / np.bincount(group), np.float64)
