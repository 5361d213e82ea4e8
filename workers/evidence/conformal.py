"""Checking a calibration on held-out edits, and correcting its intervals by what they miss. The
model that is checked lives in ``calibration`` and ``calibration_fit``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from workers.evidence.bank_evidence import BankEvidence
from workers.evidence.calibration import Calibration
from workers.evidence.calibration_fit import fit_coefficients
from workers.evidence.records import FloatArray, Record

FOLDS = 5
FEWEST_EDITS_FOR_CONFORMAL = 20
HALF_TRUST = 15.0  # edits at which the held-out factor counts half
FACTOR_LIMITS = (0.6, 2.5)
LEVELS = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95])


@dataclass(frozen=True)
class HeldOut(Record):
    """Calibrated predictions of edits by calibrations that have not seen them, (E, K) each."""

    value: FloatArray
    squared_scale: FloatArray  # of the t distribution around the value
    tail_degrees: FloatArray  # (E,)


def calibrate(evidence: BankEvidence, held_out: HeldOut | None = None) -> Calibration:
    """The calibration of one method from a bank:
    :func:`~workers.evidence.calibration_fit.fit_coefficients` with a conformal factor on the
    interval once 20 edits are there; an empty bank gives the prior.

    The factor at a level is the held-out quantile of |error| over half-width, with the noise of the
    finite retrains taken out of the error. Pooling behaviours of edits and asking for the level
    (1 + 1/E) times is the pooled rule for two-layer data of Dunn, Wasserman & Ramdas (2023); edits
    are assumed exchangeable. Cross-fitting over edits replaces a split (Barber et al. 2021 give its
    guarantee for CV+). The factor is shrunk towards 1 while edits are few or noise hides the error,
    and each kind's factor towards that of all kinds.
    """
    fitted = fit_coefficients(evidence)
    if len(evidence.kinds) < FEWEST_EDITS_FOR_CONFORMAL:
        return fitted
    checked = cross_fit(evidence) if held_out is None else held_out
    names = [*fitted.kinds, None]
    overall = _factors(evidence, checked, None)
    rows = []
    for name in names:
        number = sum(kind == name for kind in evidence.kinds)
        if name is None or number < FEWEST_EDITS_FOR_CONFORMAL:
            rows.append(overall)
            continue
        trust = number / (number + HALF_TRUST)
        own = _factors(evidence, checked, name)
        rows.append(np.exp(trust * np.log(own) + (1 - trust) * np.log(overall)))
    return replace(fitted, conformal_levels=LEVELS, conformal_factors=np.array(rows))


def cross_fit(evidence: BankEvidence, folds: int = FOLDS, seed: int = 0) -> HeldOut:
    """Predictions of every edit of the bank by the calibration of the other folds' edits.

    Folds are of whole edits, since the behaviours of one edit err together. Raises ValueError for
    fewer than two edits."""
    edits = len(evidence.kinds)
    if edits < 2:
        raise ValueError("holding out needs at least two edits")
    fold = np.random.default_rng(seed).permutation(edits) % min(folds, edits)
    value = np.empty(evidence.predicted.shape)
    squared_scale = np.empty(evidence.predicted.shape)
    tail_degrees = np.empty(edits)
    columns = np.arange(len(evidence.behaviours))
    for part in range(fold.max() + 1):
        inside = fold == part
        fitted = fit_coefficients(evidence.subset(~inside))
        kinds = [evidence.kinds[e] for e in np.flatnonzero(inside)]
        value[inside], squared_scale[inside] = fitted.moments(
            evidence.predicted[inside],
            fitted.rows_of(kinds)[:, None],
            evidence.sizes[inside][:, None],
            columns,
        )
        tail_degrees[inside] = fitted.tail_degrees
    return HeldOut(value, squared_scale, tail_degrees)


def _factors(evidence: BankEvidence, held_out: HeldOut, kind: str | None) -> FloatArray:
    """(L,) factors on the half-width of one kind of edit, or of all."""
    chosen = np.array([kind in (None, one) for one in evidence.kinds])
    present = np.isfinite(evidence.retrains.actual) & chosen[:, None]
    noise = evidence.retrains.total_noise_variance[present]
    error = np.where(present, evidence.retrains.actual - held_out.value, 0.0)[present]
    scale = held_out.squared_scale[present]
    degrees = np.broadcast_to(held_out.tail_degrees[:, None], present.shape)[present]
    edits = int(chosen.sum())
    clear = float(np.mean(scale / (scale + noise)))
    trust = clear * edits / (edits + HALF_TRUST)
    factors = []
    for level in LEVELS:
        probability = (1.0 + level) / 2.0
        own = np.maximum(error**2 - special.ndtri(probability) ** 2 * noise, 0.0)
        ratio = np.sqrt(own / scale) / special.stdtrit(degrees, probability)
        wanted = min(level * (1.0 + 1.0 / edits), 1.0)
        quantile = float(np.quantile(ratio, wanted, method="higher"))
        factors.append(np.clip(quantile, *FACTOR_LIMITS) ** trust)
    return np.asarray(factors, np.float64)
