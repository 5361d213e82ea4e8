"""What a bank's retrains showed, as arrays beside one method's predictions: the input of
calibration and of method selection. Planning the bank lives in ``bank``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from workers.evidence.records import BoolArray, FloatArray, IntArray, Record

PRIOR_SEED_DEGREES = 4.0


@dataclass(frozen=True)
class RetrainEvidence(Record):
    """Mean effects of E known edits on K behaviours, with their finite-seed noise."""

    actual: FloatArray  # (E, K) mean over seeds of edited − unedited; NaN where not measured
    noise_variance: FloatArray  # (E, K) variance of that mean, without the part shared by all edits
    shared_noise_variance: FloatArray  # (K,) variance of an error that all edits share
    seed_noise: FloatArray  # (K,) standard deviation over seeds of one paired effect; NaN unknown


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
            nothing, nothing, np.zeros(count), np.asarray(seed_noise, np.float64)
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
    per_seed_effects: ArrayLike, seeds: ArrayLike | None = None
) -> RetrainEvidence:
    """Means and noise of a bank from (E, S, K) paired effects, NaN where a retrain is missing.

    ``seeds`` is (E, S), the seed of each retrain; where edits share seeds they share the noise of
    the unedited arm, which then is an error common to all edits. None means no two edits share one.

    The variance of one paired effect is pooled over edits per behaviour, σₖ² = Σ r² / Σ (Sₑ − 1),
    and multiplied by a factor of the edit, the mean of its own r²/σₖ² over behaviours, shrunk to 1
    with 4 prior degrees of freedom (moderated variances, Smyth 2004), since single edits have few
    seeds. The shared part is the mean product of residuals of different edits at the same seed.
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
        noise_variance=own,
        shared_noise_variance=overlap * shared / np.maximum(per_mean.mean(axis=0), 1.0)
        if len(effects)
        else shared,
        seed_noise=np.where(total_degrees > 0, np.sqrt(pooled), np.nan),
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


def stack_evidence(parts: Sequence[RetrainEvidence]) -> RetrainEvidence:
    """Evidence of separate groups of retrains in one, groups weighted by their edits for what they
    share. Raises ValueError when there is none."""
    if not parts:
        raise ValueError("there is no evidence to stack")
    numbers = np.array([len(part.actual) for part in parts], np.float64)
    weights = numbers / max(numbers.sum(), 1.0)
    noise = np.array([part.seed_noise for part in parts])
    known = np.isfinite(noise) * weights[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        seed_noise = np.sqrt(np.nansum(known * noise**2, axis=0) / known.sum(axis=0))
    return RetrainEvidence(
        actual=np.concatenate([part.actual for part in parts]),
        noise_variance=np.concatenate([part.noise_variance for part in parts]),
        shared_noise_variance=np.asarray(
            weights**2 @ np.array([part.shared_noise_variance for part in parts]), np.float64
        ),
        seed_noise=seed_noise,
    )
