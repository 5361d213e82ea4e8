"""Learning a :class:`~workers.evidence.calibration.Calibration` from a bank, by empirical Bayes.
The model is written down in ``effect_model``; checking on held-out edits lives in ``conformal``.

Three steps alternate until they settle (an expectation–conditional-maximisation of the kind in Meng
& Rubin 1993): the coefficients by a Gauss–Newton step of the mixed-model equations (Henderson 1975;
Lindstrom & Bates 1990) with Student weights for outliers (Lange, Little & Taylor 1989); the
variances of what is pooled by their expected squares; the residual's spread by penalised likelihood
(``residual_spread``). The seed noise of the finite calibration retrains is a known part of each
variance and so is taken out: what is left is the error around the fresh-seed mean. Priors hold
everything together while edits are few; with none the result is the prior. Their values are wide
enough for the errors known of first-order predictions (actual/predicted .6 to 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workers.evidence.bank_evidence import BankEvidence
from workers.evidence.calibration import Calibration
from workers.evidence.effect_model import (
    COEFFICIENTS,
    SHARED,
    Covariates,
    covariates,
    curve,
    edit_gradient,
    weight_sign,
)
from workers.evidence.records import BoolArray, FloatArray, IntArray
from workers.evidence.residual_spread import SpreadProblem, fit_spread, prior_spread

PRIOR_MEAN = np.array([1.0, 0.0, 0.0, 0.0])  # β, η₁, η₂, η₃
PRIOR_DEVIATION = np.array([0.5, 0.3, 0.15, 0.1])
PRIOR_KIND_DEVIATION = np.array([0.3, 0.3, 0.1, 0.1])
# Variances of what is pooled: u, h, a of a behaviour, a of it under one kind, w of an edit.
PRIOR_POOLED = np.array([0.2, 0.1, 0.2, 0.2, 0.15]) ** 2
PRIOR_WEIGHT = 4.0  # each worth so many observations
PRIOR_SIZE_RANGE, PRIOR_TARGETING = (0.005, 0.4), 20.0
CREDIBLE_UNIT_RATIO = 5.0
LARGEST_ITERATIONS = 40
SETTLED = 1e-3


@dataclass(frozen=True)
class Standardised:
    """The evidence in units of the behaviours' scales, (E, K) unless said otherwise."""

    points: Covariates
    actual: FloatArray  # 0 where missing
    noise: FloatArray  # variance
    present: BoolArray
    kinds: tuple[str, ...]  # C
    kind_rows: IntArray  # (E,)
    sizes: FloatArray  # (E,)
    shared_noise: FloatArray  # (K,) variance, times relative_noise²
    relative_noise: FloatArray
    unit_ratio: float
    size_range: tuple[float, float]
    largest_targeting: float


@dataclass(frozen=True)
class Layout:
    """Where each coefficient stands in the vector of all Q: those shared by all kinds, those of
    each kind, then of each behaviour u, h, a, a by kind, and the offset of the noise that edits
    share."""

    kinds: int
    behaviours: int

    @property
    def size(self) -> int:
        return SHARED * (1 + self.kinds) + self.behaviours * (4 + self.kinds)

    def of_behaviours(self, block: int) -> slice:
        """Columns of one block: 0, 1, 2 for u, h, a; 3 … for a by kind; the last for the offset."""
        start = SHARED * (1 + self.kinds) + block * self.behaviours
        return slice(start, start + self.behaviours)

    def columns(self) -> IntArray:
        """(C + 1, K + 1, 7, 2): the two columns whose sum is each coefficient of a kind and a
        behaviour; Q stands for none."""
        none = self.size
        found = np.full((self.kinds + 1, self.behaviours + 1, COEFFICIENTS, 2), none)
        found[..., :SHARED, 0] = np.arange(SHARED)
        for row in range(self.kinds):
            found[row, :, :SHARED, 1] = SHARED * (1 + row) + np.arange(SHARED)
            by_kind = self.of_behaviours(3 + row)
            found[row, :-1, SHARED + 2, 1] = np.arange(by_kind.start, by_kind.stop)
        for block in range(3):
            own = self.of_behaviours(block)
            found[:, :-1, SHARED + block, 0] = np.arange(own.start, own.stop)
        return found


@dataclass(frozen=True)
class Posterior:
    mean: FloatArray  # (Q,)
    covariance: FloatArray  # (Q, Q)
    square: FloatArray  # (E, K) expected squared residual
    moved: FloatArray  # (E, K) m · P
    edit_square: float  # expected Σ w²


def fit_coefficients(evidence: BankEvidence) -> Calibration:
    """The calibration that a bank teaches, without a conformal factor (see ``conformal.calibrate``,
    which adds it and is the function to call)."""
    data = standardise(evidence)
    layout = Layout(len(data.kinds), len(evidence.behaviours))
    pooled = PRIOR_POOLED
    coefficients = np.zeros(layout.size)
    coefficients[:SHARED] = PRIOR_MEAN
    problem = SpreadProblem(
        data.sizes, data.noise, data.present, data.kind_rows, layout.kinds, layout.behaviours
    )
    spread = prior_spread(layout.kinds, layout.behaviours)
    moved = data.points.standard
    weights = np.ones_like(data.actual)
    for _ in range(LARGEST_ITERATIONS):
        before = np.concatenate([spread.vector, coefficients])
        variance = problem.squared_spread(spread, moved) + data.noise
        precision = data.present * weights / variance
        posterior = solve_coefficients(data, layout, coefficients, precision, pooled)
        coefficients, moved = posterior.mean, posterior.moved
        pooled = _expected_variances(posterior, layout, len(data.kind_rows))
        spread = fit_spread(problem, spread, posterior.square, moved)
        variance = problem.squared_spread(spread, moved) + data.noise
        degrees = spread.tail_degrees
        weights = (degrees + 1.0) / (degrees + posterior.square / variance)
        after = np.concatenate([spread.vector, coefficients])
        if np.max(np.abs(after - before), initial=0.0) < SETTLED:
            break
    means, covariances = _by_kind_and_behaviour(posterior, layout, pooled)
    return Calibration(
        behaviours=evidence.behaviours,
        kinds=data.kinds,
        number_of_edits=len(data.kind_rows),
        unit_ratio=data.unit_ratio,
        scales=evidence.behaviour_scales,
        better=evidence.better,
        seed_noise=evidence.retrains.seed_noise,
        noise_growth=evidence.retrains.growth,
        coefficients=means,
        covariance=covariances,
        edit_variance=float(pooled[4]),
        log_additive=spread.of_kinds(spread.additive),
        log_additive_of_behaviour=np.append(spread.additive_of_behaviour, 0.0),
        size_exponents=spread.of_kinds(spread.size_exponent),
        log_relative=spread.of_kinds(spread.relative),
        relative_size_exponent=spread.relative_size_exponent,
        tail_degrees=spread.tail_degrees,
        conformal_levels=np.array([0.0, 1.0]),
        conformal_factors=np.ones((layout.kinds + 1, 2)),
        size_range=data.size_range,
        largest_targeting=data.largest_targeting,
    )


def standardise(evidence: BankEvidence) -> Standardised:
    """The evidence in the model's units; see ``effect_model``."""
    retrains = evidence.retrains
    present = np.isfinite(retrains.actual)
    actual = np.where(present, retrains.actual, 0.0)
    ratio = _unit_ratio(evidence.predicted, actual, retrains.noise_variance, present)
    standard = evidence.predicted / evidence.behaviour_scales
    unit = evidence.behaviour_scales * ratio
    kinds = tuple(sorted(set(evidence.kinds)))
    signs = np.array([weight_sign(kind) for kind in evidence.kinds]).reshape(-1, 1)
    sizes = evidence.sizes[:, None]
    size_range, targeting = PRIOR_SIZE_RANGE, PRIOR_TARGETING
    if len(evidence.kinds):
        size_range = (float(sizes.min()), float(sizes.max()))
        targeting = float(np.max(np.abs(standard) / np.sqrt(sizes)))
    return Standardised(
        points=covariates(standard, sizes, signs, evidence.better),
        actual=actual / unit,
        noise=np.where(present, retrains.noise_variance, 1.0) / unit**2,
        present=present,
        kinds=kinds,
        kind_rows=np.array([kinds.index(kind) for kind in evidence.kinds], np.int64),
        sizes=evidence.sizes,
        shared_noise=retrains.shared_noise_variance / unit**2,
        relative_noise=retrains.relative_noise,
        unit_ratio=ratio,
        size_range=size_range,
        largest_targeting=targeting,
    )


def _unit_ratio(
    predicted: FloatArray, actual: FloatArray, noise: FloatArray, present: BoolArray
) -> float:
    """1 for a method that speaks in the behaviour's unit, else the ratio of spreads. Similarities
    and other controls have a scale of their own, which shows once effects stand out of the
    noise."""
    signal = np.sum(np.where(present, actual**2 - noise, 0.0), axis=0)
    claimed = np.sum(np.where(present, predicted**2, 0.0), axis=0)
    clear = (signal > np.sum(np.where(present, noise, 0.0), axis=0)) & (claimed > 0)
    if not clear.any():
        return 1.0
    ratio = float(np.median(np.sqrt(signal[clear] / claimed[clear])))
    return 1.0 if 1 / CREDIBLE_UNIT_RATIO < ratio < CREDIBLE_UNIT_RATIO else ratio


def solve_coefficients(
    data: Standardised,
    layout: Layout,
    coefficients: FloatArray,
    precision: FloatArray,
    pooled: FloatArray,
) -> Posterior:
    """One Gauss–Newton step of the mixed-model equations from ``coefficients`` (Q,), for residuals
    of ``precision`` (E, K); the edits' own deviations are eliminated by their Schur complement."""
    prior_mean, prior_variance = _prior(layout, pooled, data.shared_noise)
    design, start, moved, of_edit = _linearise(data, layout, coefficients)
    working = data.actual - start + design @ coefficients
    weighted = design * precision[..., None]
    edit_precision = np.sum(precision * of_edit**2, axis=1) + 1.0 / pooled[4]
    coupling = np.einsum("ekq,ek->eq", weighted, of_edit)
    pull = np.sum(precision * of_edit * working, axis=1)
    flat, flat_weighted = design.reshape(-1, layout.size), weighted.reshape(-1, layout.size)
    matrix = flat_weighted.T @ flat + np.diag(1.0 / prior_variance)
    matrix -= (coupling / edit_precision[:, None]).T @ coupling
    right = flat_weighted.T @ working.reshape(-1) + prior_mean / prior_variance
    right -= coupling.T @ (pull / edit_precision)
    covariance = np.asarray(np.linalg.inv(matrix), np.float64)
    mean = covariance @ right
    deviation = (pull - coupling @ mean) / edit_precision
    residual = working - design @ mean - deviation[:, None] * of_edit
    reduced = design - of_edit[..., None] * (coupling / edit_precision[:, None])[:, None, :]
    uncertainty = np.sum((reduced @ covariance) * reduced, axis=2)
    uncertainty += of_edit**2 / edit_precision[:, None]
    spread = np.sum((coupling @ covariance) * coupling, axis=1) / edit_precision**2
    edit_square = float(np.sum(deviation**2 + 1.0 / edit_precision + spread))
    return Posterior(mean, covariance, residual**2 + uncertainty, moved, edit_square)


def _prior(
    layout: Layout, pooled: FloatArray, shared_noise: FloatArray
) -> tuple[FloatArray, FloatArray]:
    mean = np.zeros(layout.size)
    mean[:SHARED] = PRIOR_MEAN
    variance = np.concatenate(
        [
            PRIOR_DEVIATION**2,
            np.tile(PRIOR_KIND_DEVIATION**2, layout.kinds),
            np.repeat(pooled[:3], layout.behaviours),
            np.full(layout.kinds * layout.behaviours, pooled[3]),
            np.maximum(shared_noise, 1e-12),
        ]
    )
    return mean, variance


def _linearise(
    data: Standardised, layout: Layout, coefficients: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(E, K, Q) derivative of the model; then, (E, K) each, its value without the edits' own
    deviations, m · P, and the derivative in those deviations."""
    columns = layout.columns()[data.kind_rows, :-1]  # (E, K, 7, 2)
    own = np.append(coefficients, 0.0)[columns].sum(axis=-1)
    value, gradient, moved = curve(data.points, own)
    edits, behaviours = data.actual.shape
    design = np.zeros((edits, behaviours, layout.size + 1))
    edit, behaviour = np.ogrid[:edits, :behaviours]
    for half in range(2):
        for place in range(COEFFICIENTS):
            target = columns[..., place, half]
            design[edit, behaviour, target] += gradient[..., place]
    offset = layout.of_behaviours(3 + layout.kinds)
    every = np.arange(behaviours)
    design[:, every, offset.start + every] = data.relative_noise
    of_edit = edit_gradient(data.points, own, moved)
    value = value + coefficients[offset] * data.relative_noise
    return design[..., :-1], value, moved, of_edit


def _expected_variances(posterior: Posterior, layout: Layout, edits: int) -> FloatArray:
    """(5,) variances of u, h, a, a by kind and w: expected squares, the prior's among them."""
    squares = posterior.mean**2 + np.diag(posterior.covariance)
    sums = [squares[layout.of_behaviours(block)].sum() for block in range(3)]
    by_kind = slice(layout.of_behaviours(3).start, layout.of_behaviours(3 + layout.kinds).start)
    sums += [squares[by_kind].sum(), posterior.edit_square]
    counts = np.array([layout.behaviours] * 3 + [layout.behaviours * layout.kinds, edits])
    return np.asarray((PRIOR_WEIGHT * PRIOR_POOLED + np.array(sums)) / (PRIOR_WEIGHT + counts))


def _by_kind_and_behaviour(
    posterior: Posterior, layout: Layout, pooled: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(C + 1, K + 1, 7) means and (C + 1, K + 1, 7, 7) covariances; what the bank lacks has its
    prior variance around nothing."""
    columns = layout.columns()
    means = np.append(posterior.mean, 0.0)[columns].sum(axis=-1)
    padded = np.pad(posterior.covariance, ((0, 1), (0, 1)))
    covariances = np.zeros((*columns.shape[:3], COEFFICIENTS))
    for first in range(2):
        for second in range(2):
            covariances += padded[columns[..., :, None, first], columns[..., None, :, second]]
    diagonal = np.zeros(columns.shape[:3])
    diagonal[-1, :, :SHARED] += PRIOR_KIND_DEVIATION**2
    diagonal[-1, :, SHARED + 2] += pooled[3]
    diagonal[:, -1, SHARED:] += pooled[:3]
    diagonal[:-1, -1, SHARED + 2] += pooled[3]
    return means, covariances + diagonal[..., None] * np.eye(COEFFICIENTS)
