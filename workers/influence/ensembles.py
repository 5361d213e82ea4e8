"""Robust aggregation of influence scores over seeds, and how far the seeds disagree."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]

FULL_TRUST = 2.0
"""Seeds up to this many times the median distance from the centre count in full."""

OVERSIZED = 10.0
"""A seed whose scores are this many times as large as the median seed's has blown up."""


def robust_mean(per_seed: NDArray[np.floating]) -> Array:
    """(N, K) mean over seeds of `per_seed` (S, N, K) that one bad seed cannot ruin.

    A one-step M-estimator of the whole score vector of each behaviour (Huber 1964; Maronna 1976):
    with d_s the distance of seed s from the coordinatewise median over seeds and r_s = d_s /
    median(d), seed s has weight min(1, (2 / r_s)²). Distances of ordinary seeds over many
    examples hardly differ, so all keep weight 1 and the result is their mean, with its
    efficiency; a seed r times too far off moves the result by 1/r of what is typical. Values that
    are not finite never count. Up to two seeds it is the plain mean.
    """
    scores = np.asarray(per_seed, dtype=np.float64)
    weights = seed_weights(scores)[:, None, :]
    total = weights.sum(0)
    usable = np.where(np.isfinite(scores), scores, 0.0)
    result: Array = (usable * weights).sum(0) / np.where(total > 0, total, np.nan)
    return result


def seed_weights(per_seed: NDArray[np.floating]) -> Array:
    """(S, K) the weight of each seed in `robust_mean`: 1 in full, 0 when not finite."""
    scores = np.asarray(per_seed, dtype=np.float64)
    finite = np.asarray(np.isfinite(scores).all(axis=1))
    if len(scores) <= 2:
        return finite.astype(np.float64)
    masked = np.where(finite[:, None, :], scores, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a behaviour no seed has: NaN, weight 0
        distances = np.sqrt(np.square(masked - np.nanmedian(masked, 0)).mean(1))
        typical = np.nanmedian(distances, 0)
    ratio = np.divide(distances, typical, out=np.zeros_like(distances), where=typical > 0)
    weights: Array = np.minimum(1.0, np.square(FULL_TRUST / np.maximum(ratio, 1e-12)))
    return np.where(finite, weights, 0.0)


def oversized_seeds(per_seed: NDArray[np.floating]) -> dict[int, tuple[int, float]]:
    """Seeds whose scores are more than `OVERSIZED` times as large as is usual among these seeds.

    For each such place in `per_seed` (S, N, K), the behaviour where it is worst and how many times
    the median norm over seeds it has. With fewer than three seeds there is no telling: empty.
    """
    scores = np.asarray(per_seed, dtype=np.float64)
    if len(scores) < 3:
        return {}
    norms = np.linalg.norm(scores, axis=1)
    typical = np.median(norms, axis=0)
    ratio = np.divide(norms, typical, out=np.zeros_like(norms), where=typical > 0)
    worst = ratio.argmax(1)
    return {
        seed: (int(behaviour), float(ratio[seed, behaviour]))
        for seed, behaviour in enumerate(worst)
        if ratio[seed, behaviour] > OVERSIZED
    }


@dataclass(frozen=True)
class SeedDisagreement:
    """How far the seeds' scores agree, for each of K behaviours."""

    rank_correlation: Array
    """(K,) mean Spearman correlation between the scores of two seeds; NaN with one seed."""
    reliability: Array
    """(K,) expected squared correlation of the mean over these seeds with the mean over
    infinitely many (Spearman 1910, Brown 1910, from the mean Pearson correlation)."""
    downweighted: tuple[tuple[int, int], ...]
    """(seed place, behaviour) pairs that `robust_mean` does not count in full."""

    @property
    def warning(self) -> str | None:
        """A sentence for the user when the seeds share less than half of what they say."""
        poor = int((self.reliability < 0.5).sum())
        if not poor:
            return None
        return (
            f"For {poor} of {len(self.reliability)} behaviours the seeds disagree so much that "
            "most of the scores is seed noise; train more seeds."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "rank_correlation": [_number(value) for value in self.rank_correlation],
            "reliability": [_number(value) for value in self.reliability],
            "downweighted": [list(pair) for pair in self.downweighted],
        }


def disagreement(per_seed: NDArray[np.floating]) -> SeedDisagreement:
    """How far the seeds of `per_seed` (S, N, K) agree."""
    scores = np.asarray(per_seed, dtype=np.float64)
    number = len(scores)
    ranks = rankdata(scores, axis=1) if number else scores
    pearson = _mean_correlation(scores)
    kept = np.clip(pearson, 0, 1)
    reliability = number * kept / (1 + (number - 1) * kept)
    weights = seed_weights(scores)
    places = np.argwhere(weights < 1)
    pairs = tuple((int(seed), int(behaviour)) for seed, behaviour in places)
    return SeedDisagreement(_mean_correlation(ranks), reliability, pairs)


def _mean_correlation(values: Array) -> Array:
    """(K,) mean Pearson correlation over all pairs of seeds of `values` (S, N, K)."""
    number = len(values)
    if number < 2:
        return np.full(values.shape[2], np.nan)
    centred = values - values.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    # Σ over pairs of u_s · u_t, from |Σ u|² = Σ |u|² + 2 Σ over pairs.
    total = np.square(unit.sum(0)).sum(0) - np.square(unit).sum((0, 1))
    result: Array = total / (number * (number - 1))
    return result


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
