"""How much of an edit's predicted effect fresh seeds repeat: examples are *chosen* by mean scores
of a few seeds, and the luck of these seeds is not repeated. Scores alone tell; no retrain is run.

Replay's scores are first shrunk over seeds towards those of unrolled segments (`shrinkage`). Each
seed is then held out in turn and its scores regressed on what the others gave so, x, without
assuming more than monotony: f(x) = E[score of another seed | x] (centred isotonic regression:
Oron & Flournoy 2017; regression to the mean by held-out replication: cf. Efron 2011, "Tweedie's
formula and selection bias"). To first order fresh seeds answer an edit by Σ (w - 1) f(xᵢ); its
share of what these seeds answer, Σ (w - 1) f(xᵢ) / Σ (w - 1) r̄ᵢ, goes for all that is not of first
order. It is shrunk towards that of all examples where the sums are no larger than a random edit's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from workers.influence.shrinkage import shrunken

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
    """(N, K) of replay over the seeds."""
    repeated: Array
    """(N, K) what another seed is expected to score."""
    overall: Array
    """(K,) the share of the mean scores of all examples that is repeated."""
    seeds: int

    @classmethod
    def of(cls, exact: ScoresOfSeeds, smooth: ScoresOfSeeds) -> Reliability:
        """From replay's scores (S, N, K) and those that they are shrunk to, of the same seeds. A
        single seed cannot tell: it is taken at its word."""
        scores, other = np.asarray(exact, np.float64), np.asarray(smooth, np.float64)
        seeds, mean = len(scores), scores.mean(0)
        if seeds == 1:
            return cls(mean, mean, np.ones(mean.shape[1]), 1)
        without = [np.delete(np.arange(seeds), held_out) for held_out in range(seeds)]
        foretold = np.stack([shrunken(scores[rest], other[rest]).mean(0) for rest in without])
        at = shrunken(scores, other).mean(0)
        repeated = np.stack(
            [_regressed(foretold[..., k], scores[..., k], at[:, k]) for k in range(mean.shape[1])],
            axis=1,
        )
        squares = np.maximum((mean**2).sum(0), np.finfo(np.float64).tiny)
        overall = np.clip((repeated * mean).sum(0) / squares, 0.0, 1.0)
        return cls(mean, repeated, overall, seeds)

    def first_order(self, edits: Sequence[tuple[Indices, Array]]) -> Array:
        """(E, K) what fresh seeds are expected to answer to first order."""
        return first_order_effects(self.repeated, edits)

    def of_edits(self, edits: Sequence[tuple[Indices, Array]]) -> Array:
        """(E, K) the share of each edit's effect that fresh seeds repeat, within
        [SMALLEST_SHARE, 1]."""
        if self.seeds == 1:
            return np.ones((len(edits), self.mean.shape[1]))
        mismatch = np.sqrt(np.square(self.repeated - self.overall * self.mean).mean(0))
        found = shrunk_ratio(
            first_order_effects(self.repeated, edits),
            first_order_effects(self.mean, edits),
            lengths(edits)[:, None],
            self.overall,
            mismatch,
            SPREAD_OF_SHARE,
        )
        return np.clip(found, SMALLEST_SHARE, 1.0)


def first_order_effects(scores: ScoresOfSeeds, edits: Sequence[tuple[Indices, Array]]) -> Array:
    """(E, ..., K) Σ (w - 1) · score of each edit's examples, from scores (..., N, K); an edit is
    its train indices (M,) and new weights (M,)."""
    return np.stack(
        [
            np.einsum(
                "n,...nk->...k",
                np.asarray(weights, np.float64) - 1,
                scores[..., indices, :].astype(np.float64),
            )
            for indices, weights in edits
        ]
    )


def lengths(edits: Sequence[tuple[Indices, Array]]) -> Array:
    """(E,) ‖w - 1‖."""
    return np.array([np.linalg.norm(np.asarray(weights) - 1) for _, weights in edits])


def _regressed(foretold: Array, held_out: Array, at: Array) -> Array:
    """(N,) f at the points `at` (N,), from pairs of `foretold` and `held_out` (S, N): straight
    between the centres of the constant pieces, so that examples of one piece keep their order, and
    beyond the outermost in proportion."""
    order = np.argsort(foretold, axis=None, kind="stable")
    x, fitted = foretold.ravel()[order], isotonic_regression(held_out.ravel()[order])
    starts = fitted.blocks[:-1]
    centres = np.add.reduceat(x, starts) / np.diff(fitted.blocks)
    values = fitted.x[starts]
    result = np.interp(at, centres, values)
    for outermost, is_beyond in (
        (0, (at < centres[0]) & (centres[0] < 0)),
        (-1, (at > centres[-1]) & (centres[-1] > 0)),
    ):
        result[is_beyond] = at[is_beyond] * (values[outermost] / centres[outermost])
    return result
