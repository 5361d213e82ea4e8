"""How much of an edit's predicted effect fresh seeds repeat: examples are *chosen* by mean scores
of a few seeds, and the luck of these seeds is not repeated. Scores alone tell; no retrain is run.

A mean of S seeds' scores that holds a share r of signal has, by the formula of Spearman and Brown
(1910), the share S r / (1 + (S - 1) r) when r is that of a single seed. The share of the examples
with the largest scores differs from that of all: noise that comes in large pieces stands out at the
ends. So each seed is held out in turn and its scores regressed on the mean x of the others without
assuming more than monotony, f(x) = E[score of another seed | x] (isotonic regression: Barlow et al.
1972; regression to the mean by held-out replication: cf. Efron 2011, "Tweedie's formula and
selection bias"). An edit's share is Σ (w - 1) f(x) / Σ (w - 1) x over its examples, shrunk towards
that of all examples where the sums of its examples are no larger than a random edit's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
ScoresOfSeeds = NDArray[np.floating]

SMALLEST_SHARE = 0.05
SPREAD_OF_SHARE = 0.05
"""Standard deviation, over edits, of an edit's own share about that of all examples. Larger ones
scatter random edits and gain targeted ones nothing."""


def shrunk_ratio(
    numerator: Array,
    denominator: Array,
    length: Array,
    usual: Array,
    mismatch: Array,
    spread: float,
) -> Array:
    """Posterior mean of κ where numerator = κ · denominator + mismatch · length · noise, for κ of
    mean `usual` and standard deviation `spread` (shrinkage: Efron & Morris 1973).

    All broadcast together; `length` is ‖w - 1‖ of an edit. An edit whose denominator is large
    beside the noise keeps its own ratio; one whose denominator is near 0 takes the usual ratio.
    """
    unknown = np.square(length * mismatch / spread)
    known = numerator * denominator + unknown * usual
    return np.asarray(known / np.maximum(np.square(denominator) + unknown, 1e-300), np.float64)


@dataclass(frozen=True)
class Reliability:
    """What S seeds' scores of N examples and K behaviours tell of fresh seeds."""

    mean: Array
    """(N, K) over the seeds."""
    overall: Array
    """(K,) the share of the mean scores of all examples, within [0, 1]."""
    repeated: Array
    """(N, K) f at `mean`: what another seed is expected to score."""
    seeds: int

    @classmethod
    def of(cls, per_seed: ScoresOfSeeds) -> Reliability:
        """From scores (S, N, K). A single seed cannot tell: it is taken at its word."""
        scores = np.asarray(per_seed, np.float64)
        seeds, mean = len(scores), scores.mean(0)
        if seeds == 1:
            return cls(mean, np.ones(mean.shape[1]), mean, 1)
        others = (seeds * mean - scores) / (seeds - 1)
        repeated = np.stack(
            [_regressed(others[..., k], scores[..., k], mean[:, k]) for k in range(mean.shape[1])],
            axis=1,
        )
        return cls(mean, spearman_brown(_single(scores), seeds), repeated, seeds)

    def of_edits(self, edits: Sequence[tuple[Indices, Array]]) -> Array:
        """(E, K) the share of each edit's effect that fresh seeds repeat, within
        [SMALLEST_SHARE, 1]; an edit is its train indices (M,) and new weights (M,)."""
        if self.seeds == 1:
            return np.ones((len(edits), self.mean.shape[1]))
        changes = [(indices, np.asarray(weights, np.float64) - 1) for indices, weights in edits]
        numerator = np.stack([change @ self.repeated[indices] for indices, change in changes])
        denominator = np.stack([change @ self.mean[indices] for indices, change in changes])
        length = np.array([np.linalg.norm(change) for _, change in changes])[:, None]
        # f is what the mean of S - 1 seeds foretells: shares are taken there, then carried to S.
        usual = resized(self.overall, self.seeds, self.seeds - 1)
        mismatch = np.sqrt(np.square(self.repeated - usual * self.mean).mean(0))
        found = shrunk_ratio(numerator, denominator, length, usual, mismatch, SPREAD_OF_SHARE)
        return resized(np.clip(found, SMALLEST_SHARE, 1.0), self.seeds - 1, self.seeds)


def spearman_brown(single: Array, seeds: int) -> Array:
    """The share of signal in a mean of `seeds` when a single one has the share `single`."""
    return np.asarray(seeds * single / (1 + (seeds - 1) * single), np.float64)


def resized(share: Array, seeds: int, wanted: int) -> Array:
    """The share of signal in a mean of `wanted` seeds when a mean of `seeds` has `share`."""
    single = share / (seeds - (seeds - 1) * share)
    return spearman_brown(single, wanted)


def _single(scores: Array) -> Array:
    """(K,) the share of signal in one seed's scores (S, N, K)."""
    seeds = len(scores)
    products = np.einsum("snk,tnk->kst", scores, scores, optimize=True)
    own = np.einsum("kss->k", products)
    between = (products.sum((1, 2)) - own) / (seeds * (seeds - 1))
    return np.asarray(np.clip(between / np.maximum(own / seeds, 1e-300), 0.0, 1.0), np.float64)


def _regressed(others: Array, held_out: Array, at: Array) -> Array:
    """(N,) f at the points `at` (N,), from pairs of `others` and `held_out` (S, N)."""
    order = np.argsort(others, axis=None, kind="stable")
    fitted = isotonic_regression(held_out.ravel()[order]).x
    return np.interp(at, others.ravel()[order], fitted)
