"""How far one paired effect scatters over seeds: more the larger the edit and its prediction. What
a bank's retrains showed otherwise lives in ``bank_evidence``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from workers.evidence.effect_model import REFERENCE_SIZE
from workers.evidence.records import FloatArray, IntArray, Record

# Retrains of breast cancer, Friedman's first function and made-up classes gave γ from 1.01 to 1.07
# and δ from 0.32 to 0.38.
PRIOR_SIZE_EXPONENT, PRIOR_SIZE_EXPONENT_DEVIATION = 1.05, 0.15
PRIOR_TARGETING_EXPONENT, PRIOR_TARGETING_EXPONENT_DEVIATION = 0.35, 0.1


@dataclass(frozen=True)
class NoiseGrowth(Record):
    """Variance over seeds of one paired effect, relative to that of an edit of size z₀ predicted to
    do nothing: (z/z₀)^γ (1 + P²/z)^δ, with P in units of the behaviour's score scale.

    Both arms start from the same seed, so that small edits part them little: γ = 1 and δ = 0 where
    examples scatter on their own, γ = δ = 1 where a seed enlarges all effects alike, and γ = δ = 0
    where the arms share nothing.
    """

    size_exponent: float = 0.0  # γ
    targeting_exponent: float = 0.0  # δ

    def relative_variance(self, standard: FloatArray, sizes: FloatArray) -> FloatArray:
        """Of edits with predictions P; the arguments broadcast."""
        targeting = np.log1p(standard**2 / sizes)
        exponent = self.size_exponent * np.log(sizes / REFERENCE_SIZE)
        return np.asarray(np.exp(exponent + self.targeting_exponent * targeting), np.float64)


EVEN_NOISE = NoiseGrowth()
"""The same for all edits."""


def fit_noise_growth(
    square: FloatArray, degrees: IntArray, standard: FloatArray, sizes: FloatArray
) -> NoiseGrowth:
    """Both exponents by the profile likelihood of squared residuals over seeds (E, K) with their
    degrees of freedom (E, K), each behaviour with a variance of its own, and normal priors.

    ``standard`` (E, K) are the predictions P, ``sizes`` (E,). Without any residual, the prior."""
    usable = (degrees > 0).any(axis=1) & (square > 0).any(axis=1)
    square, degrees = square[usable], degrees[usable]
    total = degrees.sum(axis=0)
    size = np.log(sizes[usable] / REFERENCE_SIZE)[:, None]
    targeting = np.log1p(standard[usable] ** 2 / sizes[usable][:, None])
    told = (total > 0) & (square.sum(axis=0) > 0)

    def objective(exponents: FloatArray) -> float:
        growth = exponents[0] * size + exponents[1] * targeting
        variance = (square * np.exp(-growth)).sum(axis=0)[told] / total[told]
        deviance = total[told] @ np.log(variance) + (degrees * growth)[:, told].sum()
        first = (exponents[0] - PRIOR_SIZE_EXPONENT) / PRIOR_SIZE_EXPONENT_DEVIATION
        second = (exponents[1] - PRIOR_TARGETING_EXPONENT) / PRIOR_TARGETING_EXPONENT_DEVIATION
        # Behaviours of one edit scatter together: all of them are worth one.
        return float(0.5 * (deviance / max(told.sum(), 1) + first**2 + second**2))

    start = np.array([PRIOR_SIZE_EXPONENT, PRIOR_TARGETING_EXPONENT])
    found = optimize.minimize(objective, start, method="L-BFGS-B", bounds=[(0.0, 3.0), (0.0, 1.5)])
    return NoiseGrowth(float(found.x[0]), float(found.x[1]))
