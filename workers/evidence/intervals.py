"""Intervals that need no calibration: paired-by-seed t intervals for what retrains did, and the
first honest interval of a prediction. Calibrated intervals live in ``calibration``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from workers.evidence.records import FloatArray, IntArray, Record


@dataclass(frozen=True)
class EffectEstimate(Record):
    """The mean paired effect of each of K behaviours, in the behaviours' units."""

    mean: FloatArray  # (K,)
    standard_error: FloatArray  # (K,)
    low: FloatArray  # (K,)
    high: FloatArray  # (K,)
    number_of_seeds: IntArray  # (K,) pairs in which both arms are there
    level: float

    @property
    def degrees_of_freedom(self) -> FloatArray:
        return np.asarray(np.maximum(self.number_of_seeds - 1.0, 0.0), np.float64)

    @property
    def seed_noise(self) -> FloatArray:
        """(K,) standard deviation of the effect of one seed around the fresh-seed mean."""
        return np.asarray(self.standard_error * np.sqrt(self.number_of_seeds), np.float64)


@dataclass(frozen=True)
class PredictionInterval(Record):
    """A predicted fresh-seed mean effect with its interval, for K behaviours, in their units."""

    value: FloatArray  # (K,)
    low: FloatArray  # (K,)
    high: FloatArray  # (K,)
    level: float
    calibrated: bool  # False: the interval does not know the error of the method itself


def paired_effect(
    first: ArrayLike, second: ArrayLike, level: float = 0.9, resolution: ArrayLike = 0.0
) -> EffectEstimate:
    """Mean of ``first − second`` over seeds with a two-sided paired t interval.

    ``first`` and ``second`` are (S,) or (S, K): row s of both was trained with the same seed, so
    the seed's own noise cancels as far as the arms share it. For the actual effect pass edited and
    unedited values; for the placebo difference, edited and placebo. A pair with a NaN is left out.
    mean ± t_{n−1,(1+level)/2} · s/√n (Student 1908). With fewer than two pairs the interval is
    unbounded. ``resolution``, (K,) or scalar, is a floor of the standard error: differences below
    the resolution of the arithmetic are no effects, even where all seeds agree on them. Raises
    ValueError when shapes differ or the level is outside (0, 1).
    """
    check_level(level)
    first_values, second_values = as_seed_rows(first), as_seed_rows(second)
    if first_values.shape != second_values.shape:
        raise ValueError(f"arms differ in shape: {first_values.shape} and {second_values.shape}")
    return mean_effect(first_values - second_values, level, resolution)


def mean_effect(
    effects: ArrayLike, level: float = 0.9, resolution: ArrayLike = 0.0
) -> EffectEstimate:
    """As :func:`paired_effect`, from the (S,) or (S, K) differences themselves."""
    check_level(level)
    differences = as_seed_rows(effects)
    present = ~np.isnan(differences)
    count = present.sum(axis=0)
    filled = np.where(present, differences, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = filled.sum(axis=0) / count
        deviations = np.where(present, differences - mean, 0.0)
        standard_error = np.sqrt((deviations**2).sum(axis=0) / (count - 1) / count)
    standard_error = np.where(count >= 2, standard_error, np.inf)
    standard_error = np.maximum(standard_error, np.asarray(resolution, dtype=np.float64))
    half_width = t_quantile(level, count - 1) * standard_error
    centre = np.where(count > 0, mean, 0.0)
    return EffectEstimate(
        mean=mean,
        standard_error=standard_error,
        low=centre - half_width,
        high=centre + half_width,
        number_of_seeds=count.astype(np.int64),
        level=level,
    )


def first_prediction_interval(
    per_seed_predictions: ArrayLike,
    level: float = 0.9,
    *,
    value: ArrayLike | None = None,
    retrain_noise: ArrayLike | None = None,
    number_of_retrain_seeds: int | None = None,
) -> PredictionInterval:
    """The interval of a prediction before any calibration retrain exists.

    ``per_seed_predictions`` p, (S,) or (S, K): Σ (new weight − 1) · score with the scores of each
    of S baseline seeds. The target is the mean effect over fresh seeds. Their spread s over seeds
    makes the mean uncertain by s/√S; the mean of m retrains scatters by σ/√m around the fresh-seed
    mean:

        p̄ ± t_{d,(1+level)/2} · √(s²/S + σ²/m),
        d = (s²/S + σ²/m)² / ((s²/S)²/(S−1) + (σ²/m)²/(S−1))       (Welch–Satterthwaite)

    ``number_of_retrain_seeds`` is m; None means the fresh-seed mean itself (σ²/m = 0).
    ``retrain_noise`` σ, (K,) or scalar, is the standard deviation over seeds of one paired effect
    (see :func:`retrain_noise_from_baseline`); where None, s stands in, since the effect of an edit
    varies over seeds at least as much as its exact derivative does. ``value`` replaces p̄ as the
    centre where scores were aggregated robustly. The error of the method itself (linearisation) is
    *not* in this interval, hence ``calibrated`` is False. One seed: the interval is unbounded.
    """
    check_level(level)
    estimate = mean_effect(per_seed_predictions, level)
    spread_part = estimate.standard_error**2
    noise_part = np.zeros_like(spread_part)
    if number_of_retrain_seeds is not None:
        if number_of_retrain_seeds < 1:
            raise ValueError("number_of_retrain_seeds must be at least 1")
        noise = estimate.seed_noise if retrain_noise is None else np.asarray(retrain_noise, float)
        noise_part = np.broadcast_to(noise**2 / number_of_retrain_seeds, spread_part.shape)
    degrees = np.maximum(estimate.degrees_of_freedom, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = spread_part + noise_part
        effective = degrees * total**2 / (spread_part**2 + noise_part**2)
    effective = np.where(np.isfinite(effective), effective, degrees)
    half_width = t_quantile(level, effective) * np.sqrt(total)
    centre = estimate.mean if value is None else np.atleast_1d(np.asarray(value, np.float64))
    return PredictionInterval(
        value=centre,
        low=centre - half_width,
        high=centre + half_width,
        level=level,
        calibrated=False,
    )


def retrain_noise_from_baseline(values: ArrayLike) -> FloatArray:
    """(K,) upper bound of the seed noise of one paired effect, from the (S, K) behaviour values of
    the baseline's seeds: √2 times their standard deviation, as if the arms shared nothing. Pairing
    by seed makes the real noise smaller; measured paired effects should replace it once they
    exist."""
    rows = as_seed_rows(values)
    if rows.shape[0] < 2:
        return np.full(rows.shape[1], np.inf)
    return np.asarray(np.sqrt(2.0) * np.std(rows, axis=0, ddof=1), np.float64)


def t_quantile(level: float, degrees_of_freedom: ArrayLike) -> FloatArray:
    """Two-sided Student quantile t_{d,(1+level)/2}; infinite for d ≤ 0."""
    degrees = np.asarray(degrees_of_freedom, dtype=np.float64)
    quantile = special.stdtrit(np.where(degrees > 0, degrees, 1.0), (1.0 + level) / 2.0)
    return np.asarray(np.where(degrees > 0, quantile, np.inf), dtype=np.float64)


def as_seed_rows(values: ArrayLike) -> FloatArray:
    """(S,) or (S, K) values as a float64 (S, K) array. Raises ValueError for other shapes."""
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim == 1:
        rows = rows[:, None]
    if rows.ndim != 2:
        raise ValueError(f"expected (seeds,) or (seeds, behaviours), got shape {rows.shape}")
    return rows


def check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"a level lies between 0 and 1, not at {level}")
