"""How well predictions did so far: slope, rank, sign, coverage and counts over all registered
tests, abandoned and invalidated ones included. Which tests belong to a record is the caller's
choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from workers.evidence.intervals import check_level, t_quantile
from workers.evidence.records import BoolArray, FloatArray, IntArray, Record


@dataclass(frozen=True)
class Rate(Record):
    """A share or statistic with its interval; NaN with an empty interval where nothing is known."""

    value: float
    low: float
    high: float
    count: int  # pairs that it rests on


@dataclass(frozen=True)
class TrackRecord(Record):
    number_of_pairs: int
    number_of_tests: int
    slope: Rate
    rank_correlation: Rate
    sign_rate: Rate
    coverage: Rate
    nominal_coverage: float
    mean_absolute_error: float  # in units of the scale
    noise_band: float  # median standard error of the actual effects, in units of the scale
    verdict_counts: dict[str, int]
    level: float


def summarise(
    predicted: ArrayLike,
    actual: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    nominal_coverage: float = 0.9,
    scale: ArrayLike = 1.0,
    standard_error: ArrayLike | None = None,
    tests: ArrayLike | None = None,
    verdicts: Sequence[str] = (),
    level: float = 0.9,
) -> TrackRecord:
    """The record of n predicted-versus-actual pairs, all (n,); pairs with a NaN are left out.

    ``scale`` (n,) divides predicted and actual, so that behaviours of different units can share a
    record. ``tests`` (n,) says which registered test a pair is from: pairs of one test share their
    retrains, so the intervals count tests, not pairs, as independent. ``verdicts`` holds one
    verdict a behaviour of every registered test, also of those without a pair: abandoned and
    invalidated tests are counted, since leaving them out would flatter the record.

    * slope: of actual on predicted through the origin, Σxy/Σx² (an edit of nothing does nothing,
    and
      the slope does not depend on the sign conventions of behaviours), with a t interval by leaving
      out one test at a time, which stays honest with few tests (Bell & McCaffrey 2002);
    * rank correlation: Spearman's, Fisher's z with variance (1 + ρ²/2)/(n − 3) (Bonett & Wright
    2000); * sign rate and coverage: Wilson's interval (1927) at the effective number of independent
    pairs
      (Korn & Graubard 1998). A prediction of exactly 0 has no sign.
    """
    check_level(level)
    factor = np.asarray(scale, np.float64)
    x, y, lower, upper = (
        np.atleast_1d(np.asarray(part, np.float64) / factor)
        for part in (predicted, actual, low, high)
    )
    known = np.isfinite(x) & np.isfinite(y)
    groups = np.arange(x.size) if tests is None else np.unique(tests, return_inverse=True)[1]
    x, y, lower, upper, groups = x[known], y[known], lower[known], upper[known], groups[known]
    directed = x != 0
    band = float("nan")
    if standard_error is not None:
        errors = np.broadcast_to(np.asarray(standard_error, np.float64) / factor, known.shape)
        band = float(np.median(errors[known])) if known.any() else band
    return TrackRecord(
        number_of_pairs=int(x.size),
        number_of_tests=int(np.unique(groups).size),
        slope=slope_through_origin(x, y, groups, level),
        rank_correlation=rank_correlation(x, y, level),
        sign_rate=share(np.sign(x) == np.sign(y), groups, level, directed),
        coverage=share((lower <= y) & (y <= upper), groups, level),
        nominal_coverage=nominal_coverage,
        mean_absolute_error=float(np.mean(np.abs(x - y))) if x.size else float("nan"),
        noise_band=band,
        verdict_counts=dict(sorted(Counter(verdicts).items())),
        level=level,
    )


def slope_through_origin(
    x: FloatArray, y: FloatArray, groups: IntArray, level: float = 0.9
) -> Rate:
    """Σxy/Σx² with a t interval from the delete-one-group jackknife, (G−1)/G Σ (slope₋g − slope)²;
    unbounded where a group holds everything."""
    products = np.bincount(groups, weights=x * y)
    squares = np.bincount(groups, weights=x**2)
    products, squares = products[np.unique(groups)], squares[np.unique(groups)]
    square = float(squares.sum())
    if square == 0:
        return Rate(float("nan"), -np.inf, np.inf, int(x.size))
    slope = float(products.sum() / square)
    number = squares.size
    rest = square - squares
    if number < 2 or rest.min() <= 1e-12 * square:
        return Rate(slope, -np.inf, np.inf, int(x.size))
    without = (products.sum() - products) / rest
    error = np.sqrt((number - 1) / number * np.sum((without - slope) ** 2))
    half = float(t_quantile(level, number - 1) * error)
    return Rate(slope, slope - half, slope + half, int(x.size))


def rank_correlation(x: FloatArray, y: FloatArray, level: float = 0.9) -> Rate:
    """Spearman's ρ with its interval; NaN for fewer than three pairs or constant values."""
    count = int(x.size)
    if count < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Rate(float("nan"), -1.0, 1.0, count)
    value = float(stats.spearmanr(x, y).statistic)
    if count < 4 or abs(value) >= 1:
        return Rate(value, -1.0 if count < 4 else value, 1.0 if count < 4 else value, count)
    half = special.ndtri((1 + level) / 2) * np.sqrt((1 + value**2 / 2) / (count - 3))
    centre = np.arctanh(value)
    return Rate(value, float(np.tanh(centre - half)), float(np.tanh(centre + half)), count)


def share(
    hits: BoolArray, groups: IntArray, level: float = 0.9, counted: BoolArray | None = None
) -> Rate:
    """Share of hits among the counted pairs, Wilson's interval at the effective sample size."""
    chosen = np.ones(hits.shape, np.bool_) if counted is None else counted
    hits, groups = hits[chosen].astype(np.float64), groups[chosen]
    count = int(hits.size)
    if count == 0:
        return Rate(float("nan"), 0.0, 1.0, 0)
    value = float(hits.mean())
    clusters = int(np.unique(groups).size)
    effective = float(clusters)
    if 0 < value < 1 and clusters > 1:
        sums = np.bincount(groups, weights=hits - value)
        clustered = np.sum(sums**2) / count**2 * clusters / (clusters - 1)
        simple = value * (1 - value) / count
        effective = (
            float(np.clip(count * simple / clustered, clusters, count)) if clustered else count
        )
    low, high = wilson_interval(value, effective, level)
    return Rate(value, low, high, count)


def wilson_interval(value: float, count: float, level: float) -> tuple[float, float]:
    """Wilson's (1927) score interval of a share; ``count`` need not be whole."""
    z = special.ndtri((1 + level) / 2)
    centre = (value + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(value * (1 - value) / count + z**2 / (4 * count**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
