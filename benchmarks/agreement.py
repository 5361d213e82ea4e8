"""How well predictions agree with retrains: statistics over E edits and K behaviours, with
bootstrap intervals over the edits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], float]
"""Of the edits at these places."""

DRAWS = 200
MOST_EQUIVALENTS = 1_000.0


def bootstrap(statistic: Statistic, number_of_edits: int, draws: int = DRAWS) -> tuple[float, ...]:
    """(value, low, high): the statistic of all edits and its 90% percentile interval."""
    generator = np.random.default_rng(0)
    found = [
        statistic(generator.integers(0, number_of_edits, number_of_edits)) for _ in range(draws)
    ]
    low, high = np.nanquantile(found, [0.05, 0.95])
    return statistic(np.arange(number_of_edits)), float(low), float(high)


def datamodeling_score(predicted: Array, actual: Array) -> float:
    """Mean over behaviours of Spearman's correlation of (E, K) with (E, K) (LDS; Park 2023, eq. 8).
    A prediction without variance counts as 0."""
    return float(correlations(rankdata(predicted, axis=0), rankdata(actual, axis=0)).mean())


def pearson(predicted: Array, actual: Array) -> float:
    """Mean over behaviours of the correlation over edits."""
    return float(correlations(predicted, actual).mean())


def correlations(left: Array, right: Array) -> Array:
    """(K,) over the edits; 0 where one side does not vary."""
    left, right = left - left.mean(0), right - right.mean(0)
    scale = np.sqrt((left**2).sum(0) * (right**2).sum(0))
    found: Array = np.divide(
        (left * right).sum(0), scale, out=np.zeros_like(scale), where=scale > 0
    )
    return found


def slope(predicted: Array, actual: Array) -> float:
    """Median over behaviours of the least-squares slope through 0 of actual on predicted; above 1
    the predictions are too small."""
    power = (predicted**2).sum(0)
    return float(np.median((predicted * actual).sum(0) / np.where(power > 0, power, np.inf)))


def sign_rate(predicted: Array, actual: Array, error: Array) -> float:
    """The share of (edit, behaviour) pairs with the predicted sign, among those whose actual
    effect is at least 2 standard `error`s (E, K) from 0; NaN when there are none."""
    clear = np.abs(actual) > 2 * error
    if not clear.any():
        return float("nan")
    return float((np.sign(predicted) == np.sign(actual))[clear].mean())


def retrain_equivalents(predicted: Array, effects: Array) -> float:
    """How many retrains of an edit, with seeds of their own, one would have to average to
    correlate as well with the effect's mean over seeds as the prediction does.

    `effects` (E, S, K) are paired by seed. With signal variance s² over edits and noise variance
    n² of one retrain, m retrains correlate with the true mean at √(s² / (s² + n²/m)); the
    prediction at ρ, its correlation with the mean of the S, corrected for that mean's own noise
    (Spearman 1904). Equal at m = (n²/s²) ρ² / (1 - ρ²). The median over behaviours, at most
    1,000, without behaviours that no edit moves.
    """
    edits, seeds, _ = effects.shape
    mean = effects.mean(1)
    centred = effects - mean[:, None] - effects.mean(0, keepdims=True) + mean.mean(0)
    noise = (centred**2).sum((0, 1)) / ((edits - 1) * (seeds - 1))
    signal = mean.var(0, ddof=1) - noise / seeds
    moved = signal > 0
    if not moved.any():
        return float("nan")
    noise, signal = noise[moved], signal[moved]
    reliability = signal / (signal + noise / seeds)
    plain = np.clip(correlations(predicted, mean)[moved], 0, None)
    square = np.clip(plain**2 / reliability, 0, 1)
    unbounded = np.full_like(square, MOST_EQUIVALENTS)
    found = np.divide(noise / signal * square, 1 - square, out=unbounded, where=square < 1)
    return float(np.median(np.minimum(found, MOST_EQUIVALENTS)))


def paired(values: Array, unedited: Array) -> Array:
    """(E, S, K) effects from behaviours after edits (E, S, K) and without an edit (S, K)."""
    return values - unedited[None]


def standard_error(effects: Array) -> Any:
    """(E, K) of the mean over seeds of `effects` (E, S, K)."""
    return effects.std(1, ddof=1) / np.sqrt(effects.shape[1])
