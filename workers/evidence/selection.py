"""Which method to believe for which behaviour, and when a combination of methods predicts better.
Judged only on edits that the calibrations had not seen (``conformal.cross_fit``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, optimize

from workers.evidence.bank_evidence import BankEvidence
from workers.evidence.calibration import Calibration
from workers.evidence.records import FloatArray, Record

COMBINATION = "combination"
NOTHING = "nothing"
PRIOR_EDITS = 10.0  # weight of what a stack is shrunk towards, in edits
FEWEST_EDITS = 8
STACK_ERRORS = 2.0  # the price of the weights that a combination has to learn


@dataclass(frozen=True)
class MethodChoice(Record):
    """The method for one behaviour, with the evidence for it."""

    behaviour: str
    method: str  # a method's name or COMBINATION
    weights: dict[str, float]  # of the calibrated predictions of each method
    errors: dict[str, float]  # held-out error by method, COMBINATION and NOTHING (predicting 0)
    advantages: dict[str, float]  # error saved against the method best overall, pooled
    advantage_errors: dict[str, float]  # standard errors of the advantages
    number_of_edits: int
    reason: str


def choose_methods(
    methods: Sequence[str],
    behaviours: Sequence[str],
    held_out: ArrayLike,
    actual: ArrayLike,
    noise_variance: ArrayLike,
    units: ArrayLike,
) -> tuple[MethodChoice, ...]:
    """One choice a behaviour, from M methods' held-out calibrated predictions (M, E, K) of E edits.

    ``actual`` and ``noise_variance`` are (E, K); ``units`` (E, K) are the standard deviations of
    the effect of a random edit of each size, ``bank_evidence.random_edit_scale · √size``, of any
    one method for all. The loss is ((actual − predicted)² − noise variance) / unit², an unbiased
    estimate of the squared error around the fresh-seed mean; errors are the roots of its means.

    For every method the saving of loss against the method best overall is pooled over behaviours:
    posterior mean and variance of normal effects with the between-behaviour variance by moments
    (Efron & Morris 1975; DerSimonian & Laird 1986). A behaviour leaves the method best overall only
    for one that saves more than its standard error. The combination is a non-negative stack
    (Wolpert 1992; Breiman 1996), its weights shrunk towards the best method and, for each
    behaviour, towards the weights common to all; it is judged like a method, on each edit with
    weights that all other edits gave (leave one edit out), so that it never wins by fit alone, and
    must save more than two standard errors. Methods come in the order of preference that breaks
    ties. Raises ValueError when shapes differ.
    """
    predictions = np.asarray(held_out, np.float64)
    truth, noise, unit = (np.asarray(part, np.float64) for part in (actual, noise_variance, units))
    if predictions.shape != (len(methods), *truth.shape) or truth.shape[1] != len(behaviours):
        raise ValueError(
            f"held_out has shape {predictions.shape}; expected ({len(methods)}, edits, "
            f"{len(behaviours)})"
        )
    present = np.isfinite(truth)
    target = np.where(present, truth, 0.0) / unit
    inputs = np.where(present, predictions, 0.0) / unit
    loss = np.where(present, (target - inputs) ** 2 - noise / unit**2, np.nan)
    edits = truth.shape[0]
    nothing = _mean_loss(np.where(present, target**2 - noise / unit**2, np.nan)[None])[0]
    names = list(methods)
    best = _best_overall(loss)
    weights = np.zeros((len(methods), len(behaviours)))
    weights[best] = 1.0
    if edits >= FEWEST_EDITS and len(methods) > 1:
        stacked = _stack_left_out(inputs, target, best)
        stack_loss = np.where(present, (target - stacked) ** 2 - noise / unit**2, np.nan)
        loss = np.concatenate([loss, stack_loss[None]])
        names.append(COMBINATION)
        weights = stack_weights(inputs, target, best)
    saving, error = _pooled_savings(loss, best)
    mean_loss = _mean_loss(loss)
    return tuple(
        _choice(
            k,
            behaviours[k],
            names,
            methods,
            best,
            saving,
            error,
            mean_loss,
            nothing,
            weights,
            edits,
        )
        for k in range(len(behaviours))
    )


def left_out_combination(
    held_out: ArrayLike, actual: ArrayLike, noise_variance: ArrayLike, units: ArrayLike
) -> FloatArray:
    """(E, K) predictions of the combination for each edit, by weights that the other edits gave, in
    the behaviours' units; the arguments are those of :func:`choose_methods`."""
    predictions = np.asarray(held_out, np.float64)
    truth, noise, unit = (np.asarray(part, np.float64) for part in (actual, noise_variance, units))
    present = np.isfinite(truth)
    target = np.where(present, truth, 0.0) / unit
    inputs = np.where(present, predictions, 0.0) / unit
    loss = np.where(present, (target - inputs) ** 2 - noise / unit**2, np.nan)
    return _stack_left_out(inputs, target, _best_overall(loss)) * unit


def combined_evidence(
    evidence: Mapping[str, BankEvidence],
    held_out: Mapping[str, FloatArray],
    calibrations: Mapping[str, Calibration],
    choices: Sequence[MethodChoice],
    left_out: FloatArray | None = None,
) -> BankEvidence:
    """The combination as a method of its own, so that it gets calibrated intervals like any other:
    its predictions are the combined held-out values (E, K), its scales the combined scales of the
    methods in the behaviours' units. All by method name, for the same edits and behaviours.
    ``left_out`` (E, K), see :func:`left_out_combination`, stands in where a combination was chosen,
    since predictions by weights that the same edits gave would look better than new ones are."""
    names = list(evidence)
    weights = np.array([[choice.weights.get(name, 0.0) for choice in choices] for name in names])
    scales = np.array([calibrations[name].scales * calibrations[name].unit_ratio for name in names])
    mean_scale = (weights * scales).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-12)
    predicted = np.einsum("mk,mek->ek", weights, np.array([held_out[name] for name in names]))
    if left_out is not None:
        combined = np.array([choice.method == COMBINATION for choice in choices])
        predicted = np.where(combined, left_out, predicted)
    return replace(
        evidence[names[0]],
        predicted=predicted,
        behaviour_scales=np.where(weights.any(axis=0), mean_scale, scales[0]),
    )


def stack_weights(inputs: FloatArray, target: FloatArray, best: int) -> FloatArray:
    """(M, K) non-negative stacking weights of (M, E, K) predictions of (E, K) targets.

    Weights common to all behaviours minimise ‖y − Xw‖² + λ‖w − e_best‖²; those of a behaviour do
    the same with the common ones in place of e_best; λ is worth PRIOR_EDITS edits."""
    gram = np.einsum("mek,nek->kmn", inputs, inputs)
    moment = np.einsum("mek,ek->km", inputs, target)
    return _weights_of_moments(gram, moment, best, inputs.shape[1])


def _stack_left_out(inputs: FloatArray, target: FloatArray, best: int) -> FloatArray:
    """(E, K) stacked predictions of each edit, with weights from all others."""
    gram = np.einsum("mek,nek->kmn", inputs, inputs)
    moment = np.einsum("mek,ek->km", inputs, target)
    stacked = np.empty_like(target)
    for edit in range(target.shape[0]):
        own = inputs[:, edit]  # (M, K)
        weights = _weights_of_moments(
            gram - np.einsum("mk,nk->kmn", own, own),
            moment - (own * target[edit]).T,
            best,
            target.shape[0] - 1,
        )
        stacked[edit] = np.einsum("mk,mk->k", own, weights)
    return stacked


def _weights_of_moments(gram: FloatArray, moment: FloatArray, best: int, edits: int) -> FloatArray:
    """(M, K) weights from XᵀX (K, M, M) and Xᵀy (K, M) of each behaviour."""
    start = np.zeros(moment.shape[1])
    start[best] = 1.0
    strength = PRIOR_EDITS / max(edits, 1)
    common = _shrunk_least_squares(gram.sum(axis=0), moment.sum(axis=0), start, strength)
    return np.column_stack(
        [
            _shrunk_least_squares(one, product, common, strength)
            for one, product in zip(gram, moment, strict=True)
        ]
    )


def _shrunk_least_squares(
    gram: FloatArray, moment: FloatArray, towards: FloatArray, strength: float
) -> FloatArray:
    size = float(np.trace(gram)) / towards.size
    if size <= 0:
        return towards
    system = gram / size + strength * np.eye(towards.size)
    lower = np.linalg.cholesky(system)
    weights, _ = optimize.nnls(
        lower.T, linalg.solve_triangular(lower, moment / size + strength * towards, lower=True)
    )
    return np.asarray(weights, np.float64)


def _best_overall(loss: FloatArray) -> int:
    """The method of the smallest mean loss (M, E, K) over behaviours; the first without edits."""
    return int(np.argmin(np.nanmean(_mean_loss(loss), axis=1))) if loss.shape[1] else 0


def _mean_loss(loss: FloatArray) -> FloatArray:
    """(M, K) mean over the edits that were measured; NaN where none was."""
    count = np.isfinite(loss).sum(axis=1)
    total = np.nansum(loss, axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), np.float64)


def _pooled_savings(loss: FloatArray, best: int) -> tuple[FloatArray, FloatArray]:
    """(M, K) posterior mean and standard error of the loss saved against method ``best``."""
    if loss.shape[1] == 0:
        return np.zeros((len(loss), loss.shape[2])), np.zeros((len(loss), loss.shape[2]))
    saved = loss[best] - loss  # (M, E, K)
    count = np.maximum(np.isfinite(saved).sum(axis=1), 1)
    mean = np.nan_to_num(_mean_loss(saved))
    deviation = np.nansum((saved - mean[:, None, :]) ** 2, axis=1)
    variance = deviation / np.maximum(count - 1, 1) / count
    # Behaviours of one edit err together, so the mean over behaviours is judged over edits.
    measured = np.isfinite(saved[0]).any(axis=1)
    overall_rows = np.nanmean(saved[:, measured], axis=2)
    overall = overall_rows.mean(axis=1)
    overall_variance = overall_rows.var(axis=1) / max(overall_rows.shape[1] - 1, 1)
    between = np.maximum(np.var(mean, axis=1, ddof=min(1, mean.shape[1] - 1)) - variance.mean(1), 0)
    total = between[:, None] + variance
    own = np.where(total > 0, between[:, None] / np.where(total > 0, total, 1.0), 0.0)
    posterior = own * mean + (1 - own) * overall[:, None]
    posterior_variance = own * variance + (1 - own) ** 2 * overall_variance[:, None]
    return posterior, np.sqrt(posterior_variance)


def _choice(
    k: int,
    behaviour: str,
    names: Sequence[str],
    methods: Sequence[str],
    best: int,
    saving: FloatArray,
    error: FloatArray,
    mean_loss: FloatArray,
    nothing: FloatArray,
    weights: FloatArray,
    edits: int,
) -> MethodChoice:
    bars = np.array([STACK_ERRORS if name == COMBINATION else 1.0 for name in names])
    clear = [m for m in range(len(names)) if m != best and saving[m, k] > bars[m] * error[m, k]]
    chosen = max(clear, key=lambda m: saving[m, k]) if clear else best
    if names[chosen] == COMBINATION:
        own = {name: float(weights[m, k]) for m, name in enumerate(methods)}
    else:
        own = {name: float(m == chosen) for m, name in enumerate(methods)}
    errors = {name: _root(mean_loss[m, k]) for m, name in enumerate(names)}
    errors[NOTHING] = _root(nothing[k])
    return MethodChoice(
        behaviour=behaviour,
        method=names[chosen],
        weights=own,
        errors=errors,
        advantages={name: float(saving[m, k]) for m, name in enumerate(names)},
        advantage_errors={name: float(error[m, k]) for m, name in enumerate(names)},
        number_of_edits=edits,
        reason=_reason(names, chosen, best, errors, edits, own),
    )


def _reason(
    names: Sequence[str],
    chosen: int,
    best: int,
    errors: dict[str, float],
    edits: int,
    weights: Mapping[str, float],
) -> str:
    name = names[chosen]
    if edits == 0:
        return (
            f"No calibration retrain exists yet, so {name} is taken on faith, as the first listed."
        )
    if errors[name] >= errors[NOTHING]:
        verdict = "no method beats predicting no change at all"
    elif chosen == best:
        verdict = (
            f"{name} has the smallest error over all behaviours, and none is clearly better here"
        )
    elif name == COMBINATION:
        added = " + ".join(f"{weight:.2f} × {one}" for one, weight in weights.items() if weight)
        verdict = f"the combination {added} is clearly better here than {names[best]} alone"
    else:
        verdict = f"{name} is clearly better here than {names[best]}, which is best overall"
    listed = ", ".join(f"{method} {error:.2f}" for method, error in errors.items())
    unit = "in units of a random edit's effect"
    return f"On {edits} held-out edits {verdict} (error {unit}: {listed})."


def _root(value: float) -> float:
    return float(np.sqrt(max(value, 0.0))) if np.isfinite(value) else float("nan")
