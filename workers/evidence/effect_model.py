"""The model that links a prediction to what retraining does, as bare arithmetic: shared by the fit
and by the calibrated prediction, so that both speak of the same curve.

For edit e of kind c and size z (moved weight as a fraction of the train split), behaviour k,
prediction p and actual fresh-seed mean effect y; s is the score scale of the behaviour
(:func:`workers.evidence.bank_evidence.random_edit_scale`), r the unit ratio of the method:

    y / (r·s) = (βᶜ + uₖ + wₑ) · m · P + aₖᶜ · z/√z₀ + ε,       P = p / s m = exp(±√(z/z₀) · (η₁ᶜ +
    hₖ + η₂ᶜ·T + η₃ᶜ·T·direction)),   + where weight is lost, − where gained T = log(1 + |P|/√z),
    direction = ±1 where p makes the behaviour better or worse ε ~ t_ν with scale² = z (z/z₀)^γᶜ
    exp(αᶜ + bₖ) + (m·P)² (z/z₀)^κ exp(ρᶜ)

β is the slope of small edits. m is how first-order prediction errs in the size of group effects
(Koh 2019, Basu 2020): in exact retrains of weighted logistic regression its logarithm grew about
with √z, with opposite signs for losing and gaining weight, more for targeted edits (T compares the
prediction with that of a random edit of the size), and not alike for helpful and harmful ones. a is
the drift that any edit of the kind causes, of second order and so invisible to P; a placebo shows
it. u, h, b and part of a are the behaviour's own deviations; w, the edit's own, is shared by all
behaviours. Residuals grow with the size of the edit and of the prediction, and have heavy tails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workers.evidence.bank import DOWN_WEIGHTING, REMOVAL, UP_WEIGHTING
from workers.evidence.records import FloatArray

REFERENCE_SIZE = 0.05  # z₀
SHARED = 4  # β, η₁, η₂, η₃
COEFFICIENTS = 7  # the shared ones, then u, h, a of the behaviour
LARGEST_EXPONENT = 1.5
WEIGHT_SIGNS = {REMOVAL: 1.0, DOWN_WEIGHTING: 1.0, UP_WEIGHTING: -1.0}


@dataclass(frozen=True)
class Covariates:
    """What the model knows of edits and predictions, all of one shape (…) but ``features``."""

    standard: FloatArray  # P
    features: FloatArray  # (…, 3) of the exponent, signed
    drift: FloatArray  # z/√z₀
    root: FloatArray  # √(z/z₀)


def weight_sign(kind: str) -> float:
    """+1 for kinds that take weight away, −1 for those that add it, 0 where both may happen."""
    return WEIGHT_SIGNS.get(kind, 0.0)


def covariates(
    standard: FloatArray,
    sizes: FloatArray,
    signs: FloatArray,
    better: FloatArray,
    largest_size: float = np.inf,
    largest_targeting: float = np.inf,
) -> Covariates:
    """Covariates of predictions P; the other arguments broadcast against them. Beyond the largest
    size and targeting the exponent and the drift stay where they are: further out is no
    evidence."""
    held = np.minimum(sizes, largest_size)
    plain_root = np.sqrt(held / REFERENCE_SIZE)
    targeting = np.log1p(np.minimum(np.abs(standard) / np.sqrt(sizes), largest_targeting))
    signed, targeting, directed, drift, root = np.broadcast_arrays(
        signs * plain_root,
        targeting,
        targeting * np.sign(standard) * better,
        held / np.sqrt(REFERENCE_SIZE),
        plain_root,
    )
    features = np.stack([signed, signed * targeting, signed * directed], axis=-1)
    return Covariates(standard, features, drift, root)


def curve(
    points: Covariates, coefficients: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Value of the model, its gradient (…, 7) in β, η₁, η₂, η₃, u, h, a, and the moved prediction
    m·P, at ``coefficients`` (…, 7). The exponent is kept within ±1.5, a factor of 4.5."""
    shape, own = coefficients[..., 1:SHARED], coefficients[..., SHARED:]
    exponent = np.sum(points.features * shape, axis=-1) + points.features[..., 0] * own[..., 1]
    moved = np.exp(np.clip(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT)) * points.standard
    amplitude = coefficients[..., 0] + own[..., 0]
    bend = (amplitude * moved)[..., None] * points.features
    gradient = np.concatenate(
        [moved[..., None], bend, moved[..., None], bend[..., :1], points.drift[..., None]], axis=-1
    )
    return amplitude * moved + own[..., 2] * points.drift, gradient, moved


def edit_gradient(points: Covariates, coefficients: FloatArray, moved: FloatArray) -> FloatArray:
    """(…) derivative of the model in the edit's own deviation w, but for its sign."""
    amplitude = coefficients[..., 0] + coefficients[..., SHARED]
    return np.asarray(amplitude * moved * points.root, np.float64)


def squared_spread(
    moved: FloatArray,
    sizes: FloatArray,
    log_additive: FloatArray,
    size_exponent: FloatArray,
    log_relative: FloatArray,
    relative_size_exponent: float,
) -> FloatArray:
    """Squared t scale of ε."""
    size = np.log(sizes / REFERENCE_SIZE)
    additive = sizes * np.exp(log_additive + size_exponent * size)
    relative = moved**2 * np.exp(log_relative + relative_size_exponent * size)
    return np.asarray(additive + relative, np.float64)
