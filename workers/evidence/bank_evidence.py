"""What a bank's retrains showed, as arrays beside one method's predictions: the input of
calibration and of method selection. Planning the bank lives in ``bank``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from workers.evidence.records import BoolArray, FloatArray, IntArray, Record
from workers.evidence.seed_noise import EVEN_NOISE, NoiseGrowth, fit_noise_growth

PRIOR_SEED_DEGREES = 4.0


@dataclass(frozen=True)
class RetrainEvidence(Record):
    """Mean effects of E known edits on K behaviours, with their finite-seed noise."""

    actual: FloatArray  # (E, K) mean over seeds of edited − unedited; NaN where not measured
    noise_variance: FloatArray  # (E, K) variance of that mean, without the part shared by all edits
    shared_noise_variance: (
        FloatArray  # (K,) of an error that all edits share, times relative_noise²
    )
    seed_noise: FloatArray  # (K,) standard deviation over seeds of one paired effect; NaN unknown
    relative_noise: FloatArray  # (E, K) standard deviation of each edit's noise, relative to it
    growth: NoiseGrowth = EVEN_NOISE  # of the squared noise; seed_noise is that of its reference

    @property
    def total_noise_variance(self) -> FloatArray:
        """(E, K) variance of the means, with the part that edits share."""
        shared = self.shared_noise_variance * self.relative_noise**2
        return np.asarray(self.noise_variance + shared, np.float64)


@dataclass(frozen=True)
class BankEvidence(Record):
    """One method's predictions for the edits of a bank, beside what retraining did."""

    behaviours: tuple[str, ...]  # K names
    behaviour_scales: FloatArray  # (K,) see random_edit_scale, of this method's scores
    kinds: tuple[str, ...]  # E names, as bank.edit_shape gives them
    sizes: FloatArray  # (E,) moved weight as a fraction of the train split, bank.edit_shape
    predicted: FloatArray  # (E, K)
    retrains: RetrainEvidence
    better: FloatArray  # (K,) +1 where larger values of the behaviour are better, else −1

    def __post_init__(self) -> None:
        shape = (len(self.kinds), len(self.behaviours))
        for name, found, expected in (
            ("predicted", self.predicted.shape, shape),
            ("actual", self.retrains.actual.shape, shape),
            ("noise_variance", self.retrains.noise_variance.shape, shape),
            ("sizes", self.sizes.shape, shape[:1]),
            ("behaviour_scales", self.behaviour_scales.shape, shape[1:]),
            ("better", self.better.shape, shape[1:]),
        ):
            if found != expected:
                raise ValueError(f"{name} has shape {found}; expected {expected}")
        if not np.all(self.sizes > 0):
            raise ValueError("every edit of a bank must move some weight")
        if not np.all(self.behaviour_scales > 0):
            raise ValueError("behaviour_scales must be positive")
        if not np.isfinite(self.predicted).all():
            raise ValueError("predicted effects must be finite")

    def subset(self, edits: ArrayLike) -> BankEvidence:
        """The evidence of some of the edits, by position or mask."""
        chosen = np.arange(len(self.kinds))[np.asarray(edits)]
        return replace(
            self,
            kinds=tuple(self.kinds[e] for e in chosen),
            sizes=self.sizes[chosen],
            predicted=self.predicted[chosen],
            retrains=replace(
                self.retrains,
                actual=self.retrains.actual[chosen],
                noise_variance=self.retrains.noise_variance[chosen],
                relative_noise=self.retrains.relative_noise[chosen],
            ),
        )


def empty_bank(
    behaviours: Sequence[str], behaviour_scales: ArrayLike, better: ArrayLike, seed_noise: ArrayLike
) -> BankEvidence:
    """The evidence before any calibration retrain, of which ``conformal.calibrate`` makes a prior.
    ``seed_noise`` is (K,), NaN where unknown; see ``intervals.retrain_noise_from_baseline``."""
    count = len(behaviours)
    nothing = np.zeros((0, count))
    return BankEvidence(
        behaviours=tuple(behaviours),
        behaviour_scales=np.asarray(behaviour_scales, np.float64),
        kinds=(),
        sizes=np.zeros(0),
        predicted=nothing,
        retrains=RetrainEvidence(
            nothing, nothing, np.zeros(count), np.asarray(seed_noise, np.float64), nothing
        ),
        better=np.asarray(better, np.float64),
    )


def random_edit_scale(scores: ArrayLike) -> FloatArray:
    """(K,) scale s of a behaviour from (N, K) scores: s·√size is the standard deviation of the
    prediction for removing a random fraction ``size`` of the N train examples, s = √(Σᵢ scoreᵢ²).

    It makes behaviours of different units comparable. A behaviour without any score gets the
    smallest positive scale, so that dividing by it stays defined."""
    root = np.sqrt(np.sum(np.asarray(scores, np.float64) ** 2, axis=0))
    return np.asarray(np.maximum(root, np.finfo(np.float64).tiny ** 0.5), np.float64)


def summarise_retrains(
    per_seed_effects: ArrayLike,
    seeds: ArrayLike | None = None,
    *,
    standard: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
) -> RetrainEvidence:
    """Means and noise of a bank from (E, S, K) paired effects, NaN where a retrain is missing.

    ``seeds`` is (E, S), the seed of each retrain; where edits share seeds they share the noise of
    the unedited arm, which then is an error common to all edits. None means no two edits share one.
    ``standard`` (E, K), predictions in units of the behaviours' scales, and ``sizes`` (E,) let the
    noise grow with both (:func:`workers.evidence.seed_noise.fit_noise_growth`).

    The variance of one paired effect is pooled over edits per behaviour, σₖ² = Σ r²/g / Σ (Sₑ − 1)
    with g as it grows, and multiplied by g and a factor of the edit, the mean of its own r²/(gσₖ²)
    over behaviours, shrunk to 1 with 4 prior degrees of freedom (moderated variances, Smyth 2004),
    since single edits have few seeds. The shared part is the mean product of residuals of different
    edits at the same seed, each over √g.
    With one seed an edit the noise cannot be told from the effect: it counts as zero and
    ``seed_noise`` is NaN, so that later intervals are wider than need be, never narrower.
    """
    effects = np.asarray(per_seed_effects, np.float64)
    if effects.ndim != 3:
        raise ValueError(f"expected (edits, seeds, behaviours), got shape {effects.shape}")
    present = ~np.isnan(effects)
    count = present.sum(axis=1)  # (E, K)
    filled = np.where(present, effects, 0.0)
    mean = filled.sum(axis=1) / np.maximum(count, 1)
    residual = np.where(present, effects - mean[:, None, :], 0.0)
    degrees = np.maximum(count - 1, 0)
    growth, relative = EVEN_NOISE, np.ones_like(mean)
    if standard is not None and sizes is not None:
        predictions, moved = np.asarray(standard, np.float64), np.asarray(sizes, np.float64)
        growth = fit_noise_growth((residual**2).sum(axis=1), degrees, predictions, moved)
        relative = np.sqrt(growth.relative_variance(predictions, moved[:, None]))
    residual = residual / relative[:, None, :]
    total_degrees = degrees.sum(axis=0)  # (K,)
    pooled = (residual**2).sum(axis=(0, 1)) / np.maximum(total_degrees, 1)
    edit_factor = _edit_factors(residual, degrees, pooled)
    shared = np.zeros_like(pooled)
    overlap = 0.0
    if seeds is not None and len(effects) > 1:
        seed_rows = np.asarray(seeds, np.int64)
        shared = np.clip(_shared_variance(residual, present, seed_rows), 0.0, pooled)
        overlap = _mean_overlap(present, seed_rows)
    per_mean = np.maximum(count, 1)
    own = (pooled - overlap * shared) * edit_factor[:, None] / per_mean
    return RetrainEvidence(
        actual=np.where(count > 0, mean, np.nan),
        noise_variance=own * relative**2,
        shared_noise_variance=overlap * shared / np.maximum(per_mean.mean(axis=0), 1.0)
        if len(effects)
        else shared,
        seed_noise=np.where(total_degrees > 0, np.sqrt(pooled), np.nan),
        relative_noise=relative,
        growth=growth,
    )


def _edit_factors(residual: FloatArray, degrees: IntArray, pooled: FloatArray) -> FloatArray:
    """(E,) shrunken ratio of an edit's seed variance to the pooled one."""
    own = (residual**2).sum(axis=1)  # (E, K)
    usable = (degrees > 0) & (pooled > 0)
    ratio = np.where(usable, own / np.where(usable, pooled * np.maximum(degrees, 1), 1.0), 0.0)
    number = np.maximum(usable.sum(axis=1), 1)
    mean_ratio = ratio.sum(axis=1) / number
    mean_degrees = np.where(usable, degrees, 0).sum(axis=1) / number
    return np.asarray(
        (PRIOR_SEED_DEGREES + mean_degrees * mean_ratio) / (PRIOR_SEED_DEGREES + mean_degrees),
        np.float64,
    )


def _shared_variance(residual: FloatArray, present: BoolArray, seeds: IntArray) -> FloatArray:
    """(K,) variance over seeds of the error that edits retrained with the same seed share."""
    product = np.zeros(residual.shape[2])
    pairs = 0.0
    for seed in np.unique(seeds):
        member = (seeds == seed) & present.any(axis=2)  # (E, S)
        rows = residual[member]  # (n, K)
        if len(rows) > 1:
            product += rows.sum(axis=0) ** 2 - (rows**2).sum(axis=0)
            pairs += len(rows) * (len(rows) - 1)
    if pairs == 0:
        return product
    # Residuals around the mean of S seeds have lost 1/S of their variance and covariance.
    count = present.sum(axis=1)
    seeds_per_edit = float(np.mean(count[count > 1])) if np.any(count > 1) else 1.0
    kept = 1.0 - 1.0 / seeds_per_edit
    return product / pairs / kept if kept > 0 else np.zeros_like(product)


def _mean_overlap(present: BoolArray, seeds: IntArray) -> float:
    """Mean over pairs of edits of the share of their seeds that they have in common."""
    there = present.any(axis=2)
    values, inverse = np.unique(seeds, return_inverse=True)
    used = np.zeros((len(seeds), len(values)))
    rows = np.repeat(np.arange(len(seeds))[:, None], seeds.shape[1], axis=1)
    used[rows[there], inverse.reshape(seeds.shape)[there]] = 1.0
    used = used[used.sum(axis=1) > 0]
    number = len(used)
    if number < 2:
        return 0.0
    common = used @ used.T / np.sqrt(np.outer(used.sum(axis=1), used.sum(axis=1)))
    return float((common.sum() - np.trace(common)) / (number * (number - 1)))
