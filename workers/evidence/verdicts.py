"""The verdict of a registered test: one decision rule, fixed before the retrains, spelled as a
sentence from the same parameters that the code applies. No retrain is run or read from a database
here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from workers.evidence.intervals import EffectEstimate, as_seed_rows, paired_effect
from workers.evidence.records import BoolArray, FloatArray, Record

SUPPORTED = "supported"
DIRECTION_ONLY = "direction only"
CONTRADICTED = "contradicted"
INCONCLUSIVE = "inconclusive"
INVALIDATED = "invalidated"
NOT_FINISHED = "not finished"
VERDICTS = (SUPPORTED, DIRECTION_ONLY, CONTRADICTED, INCONCLUSIVE, INVALIDATED, NOT_FINISHED)

INCREASE = "increase"
DECREASE = "decrease"
NO_EFFECT = "no effect"


@dataclass(frozen=True)
class DecisionRule(Record):
    """Everything that turns per-seed values into verdicts, fixed at registration."""

    number_of_seeds: int
    primary_behaviour: int  # column of the primary behaviour
    smallest_effect_of_interest: FloatArray  # (K,) in the behaviours' units, 0 where none is set
    alpha: float = 0.1  # probability of a false claim about any behaviour
    placebo_must_differ: bool = False  # also ask that edited − placebo excludes zero for support

    def __post_init__(self) -> None:
        if self.number_of_seeds < 2:
            raise ValueError("a paired test needs at least 2 seeds")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha lies between 0 and 1, not at {self.alpha}")
        sizes = np.asarray(self.smallest_effect_of_interest, np.float64)
        if sizes.ndim != 1 or not np.all(sizes >= 0):
            raise ValueError("smallest_effect_of_interest is one non-negative number a behaviour")
        if not 0 <= self.primary_behaviour < sizes.size:
            raise ValueError(
                f"there is no behaviour {self.primary_behaviour} to be the primary one"
            )

    def sentence(self, behaviour_names: Sequence[str] | None = None) -> str:
        """The rule in words, from the parameters that :func:`decide` applies."""
        names = list(behaviour_names or [])
        primary = f"“{names[self.primary_behaviour]}”" if names else "the primary behaviour"
        level = f"{100 * (1 - self.alpha):g}%"
        alpha = f"{100 * self.alpha:g}%"
        placebo = (
            ", and edited − placebo has the same direction with an interval that excludes zero"
            if self.placebo_must_differ
            else ""
        )
        sentences = [
            "The effect on a behaviour is the mean of edited − unedited over "
            f"{self.number_of_seeds} fresh seeds, paired by seed, with a two-sided {level} t "
            f"interval. First {primary} is tested at {alpha}; only if that test decides, the "
            f"other behaviours are tested at {alpha} together, by Holm's correction. A prediction "
            "is supported if the effect has the predicted direction, its corrected interval "
            f"excludes zero and its mean lies inside the predicted interval{placebo}; direction "
            "only if only the direction is borne out; contradicted if the corrected interval "
            "excludes zero on the other side; inconclusive otherwise."
        ]
        if np.any(np.asarray(self.smallest_effect_of_interest) > 0):
            sentences.append(
                "Where a smallest effect of interest is set: an effect shown to be smaller cannot "
                "support and, if the direction is not shown, contradicts a larger prediction; a "
                "smaller prediction claims no effect, which is supported if the corrected interval "
                "lies within ± that size and contradicted if it lies wholly outside."
            )
        sentences.append(
            "Until every seed of every arm is complete the test is not finished; a broken plan "
            "invalidates it."
        )
        return " ".join(sentences)


@dataclass(frozen=True)
class BehaviourVerdict(Record):
    """The verdict on one behaviour and the numbers behind it, in the behaviour's unit."""

    verdict: str  # one of VERDICTS
    reason: str
    claim: str  # INCREASE, DECREASE or NO_EFFECT
    actual: float
    low: float  # uncorrected interval at 1 − alpha, for display
    high: float
    p_value: float  # of the claim's own test, uncorrected
    adjusted_p_value: float  # after the gate and Holm
    inside_prediction: bool
    placebo_difference: float  # edited − placebo; NaN without a placebo arm
    placebo_low: float
    placebo_high: float
    specific: bool | None  # edited − placebo excludes zero; None without a placebo arm


def decide(
    rule: DecisionRule,
    *,
    predicted: ArrayLike,
    predicted_low: ArrayLike,
    predicted_high: ArrayLike,
    unedited: ArrayLike,
    edited: ArrayLike,
    placebo: ArrayLike | None = None,
    invalidated: Sequence[str] = (),
) -> tuple[BehaviourVerdict, ...]:
    """One verdict a behaviour.

    ``predicted`` and its interval are (K,), as registered: the interval should be the one for the
    mean of as many seeds as the rule plans. The arms are (S, K), row s of each trained with the
    same seed; NaN marks a value that is not there yet. ``invalidated`` holds the reasons why the
    plan broke.

    Error rates. The claim of a direction is tested by the paired t test of zero effect; the claim
    of no effect by two one-sided tests against ± the smallest effect of interest (Schuirmann 1987;
    Lakens 2017). These tests are gated: the primary behaviour at α, then, only if it decides, the
    others by Holm (1979) at α. A serial gate keeps the probability of any false claim ≤ α (Westfall
    & Krishen 2001); since "supported" asks for more than its test, its rate is no higher.
    Behaviours behind a closed gate are inconclusive. The second kind of contradiction (shown to be
    too small, or, for a claim of no effect, shown to be of interest) is tested at α/K for each
    behaviour (Bonferroni), so that any false one also has probability ≤ α. Raises ValueError where
    shapes disagree with the rule.
    """
    sizes = np.asarray(rule.smallest_effect_of_interest, np.float64)
    value, low, high = (
        _behaviour_row(part, sizes.size, name)
        for part, name in (
            (predicted, "predicted"),
            (predicted_low, "predicted_low"),
            (predicted_high, "predicted_high"),
        )
    )
    arms = {"unedited": as_seed_rows(unedited), "edited": as_seed_rows(edited)}
    if placebo is not None:
        arms["placebo"] = as_seed_rows(placebo)
    for name, rows in arms.items():
        if rows.shape[1] != sizes.size or rows.shape[0] > rule.number_of_seeds:
            raise ValueError(
                f"{name} has shape {rows.shape}; the rule plans at most {rule.number_of_seeds} "
                f"seeds of {sizes.size} behaviours"
            )
    finished = _finished(arms, rule.number_of_seeds)
    reasons = list(invalidated) + _diverged_arms(arms)
    resolution = _float32_resolution(arms)
    level = 1.0 - rule.alpha
    with np.errstate(invalid="ignore"):
        actual = paired_effect(arms["edited"], arms["unedited"], level, resolution)
        against_placebo = (
            paired_effect(arms["edited"], arms["placebo"], level, resolution)
            if placebo is not None
            else None
        )
    claims = claims_of(value, sizes)
    p_zero, p_within, p_beyond = _p_values(actual, sizes)
    p_claim = np.where(claims == 0, p_within, p_zero)
    p_claim = np.where(finished, p_claim, 1.0)
    adjusted = gatekeeping_holm(p_claim, rule.primary_behaviour)
    second_alpha = rule.alpha / sizes.size
    verdicts = []
    for k in range(sizes.size):
        finding = _Finding(
            claim=int(claims[k]),
            mean=float(actual.mean[k]),
            decided=bool(adjusted[k] <= rule.alpha),
            gate_closed=bool(
                k != rule.primary_behaviour and adjusted[rule.primary_behaviour] > rule.alpha
            ),
            too_small=bool(sizes[k] > 0 and p_within[k] <= second_alpha),
            beyond=bool(p_beyond[k] <= second_alpha),
            inside=bool(low[k] <= actual.mean[k] <= high[k]),
            specific=None if against_placebo is None else _excludes_zero(against_placebo, k),
            same_side_as_placebo=against_placebo is None
            or bool(against_placebo.mean[k] * value[k] > 0),
        )
        if reasons:
            verdict, reason = INVALIDATED, "; ".join(reasons)
        elif not finished[k]:
            verdict, reason = NOT_FINISHED, _progress(arms, k, rule.number_of_seeds)
        else:
            verdict, reason = _judge(finding, rule)
        verdicts.append(
            BehaviourVerdict(
                verdict=verdict,
                reason=reason,
                claim=(NO_EFFECT, INCREASE, DECREASE)[finding.claim],
                actual=finding.mean,
                low=float(actual.low[k]),
                high=float(actual.high[k]),
                p_value=float(p_claim[k]),
                adjusted_p_value=float(adjusted[k]),
                inside_prediction=finding.inside,
                placebo_difference=_entry(against_placebo, "mean", k),
                placebo_low=_entry(against_placebo, "low", k),
                placebo_high=_entry(against_placebo, "high", k),
                specific=finding.specific,
            )
        )
    return tuple(verdicts)


def claims_of(predicted: FloatArray, smallest_effect_of_interest: FloatArray) -> FloatArray:
    """(K,) claim of each prediction: +1 increase, −1 decrease, 0 no effect of interest."""
    return np.where(np.abs(predicted) < smallest_effect_of_interest, 0.0, np.sign(predicted))


def holm(p_values: ArrayLike) -> FloatArray:
    """Holm (1979) step-down adjusted p values, (m,) → (m,)."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    factors = values.size - np.arange(values.size)
    stepped = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    adjusted = np.empty_like(values)
    adjusted[order] = stepped
    return adjusted


def gatekeeping_holm(p_values: ArrayLike, primary: int) -> FloatArray:
    """Adjusted p values of a serial gate: the primary one as it is; the others by Holm among
    themselves, but never below the primary one (Westfall & Krishen 2001)."""
    values = np.asarray(p_values, np.float64)
    adjusted = values.copy()
    others = np.arange(values.size) != primary
    adjusted[others] = np.maximum(holm(values[others]), values[primary])
    return adjusted


@dataclass(frozen=True)
class _Finding:
    claim: int  # +1, −1, 0
    mean: float
    decided: bool
    gate_closed: bool
    too_small: bool
    beyond: bool
    inside: bool
    specific: bool | None
    same_side_as_placebo: bool


def _judge(finding: _Finding, rule: DecisionRule) -> tuple[str, str]:
    if finding.claim == 0:
        return _judge_no_effect(finding)
    right_side = finding.mean * finding.claim > 0
    if finding.decided and not right_side:
        return CONTRADICTED, "the effect has the other direction, and its interval excludes zero"
    if not finding.decided:
        if finding.too_small:
            return CONTRADICTED, "the effect is smaller than the smallest effect of interest"
        if finding.gate_closed:
            return (
                INCONCLUSIVE,
                "the primary behaviour's test did not decide, so this one is not read",
            )
        return INCONCLUSIVE, "the interval includes zero after correction"
    if finding.too_small:
        return (
            DIRECTION_ONLY,
            "the direction is right, the size below the smallest effect of interest",
        )
    if not finding.inside:
        return DIRECTION_ONLY, "the direction is right, the size outside the predicted interval"
    if rule.placebo_must_differ and not (finding.specific and finding.same_side_as_placebo):
        return DIRECTION_ONLY, "a random edit of the same kind and size did about the same"
    return SUPPORTED, "direction and size are as predicted, and the interval excludes zero"


def _judge_no_effect(finding: _Finding) -> tuple[str, str]:
    if finding.beyond:
        return CONTRADICTED, "an effect of interest is there, and none was predicted"
    if finding.decided and finding.inside:
        return SUPPORTED, "the effect is smaller than the smallest effect of interest, as predicted"
    if finding.decided:
        return INCONCLUSIVE, "the effect is too small to matter, yet outside the predicted interval"
    if finding.gate_closed:
        return INCONCLUSIVE, "the primary behaviour's test did not decide, so this one is not read"
    return INCONCLUSIVE, "an effect of interest is neither shown nor ruled out"


def _p_values(
    actual: EffectEstimate, sizes: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(K,) smallest α at which the two-sided 1 − α interval excludes zero, lies within ± size, and
    lies wholly beyond ± size."""
    degrees = np.maximum(actual.degrees_of_freedom, 1.0)
    size = np.abs(actual.mean)

    def two_sided(distance: FloatArray) -> FloatArray:
        """P value of an interval that must keep ``distance`` (> 0) between its mean and a bound."""
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.where(distance > 0, distance / actual.standard_error, 0.0)
        tail = 2.0 * special.stdtr(degrees, -np.where(np.isnan(statistic), 0.0, statistic))
        return np.asarray(np.where(actual.degrees_of_freedom >= 1, tail, 1.0))

    return two_sided(size), two_sided(sizes - size), two_sided(size - sizes)


def _finished(arms: dict[str, FloatArray], number_of_seeds: int) -> BoolArray:
    complete = [
        (rows.shape[0] == number_of_seeds) & ~np.isnan(rows).any(axis=0) for rows in arms.values()
    ]
    return np.asarray(np.logical_and.reduce(complete), dtype=np.bool_)


def _progress(arms: dict[str, FloatArray], behaviour: int, number_of_seeds: int) -> str:
    done = sum(int((~np.isnan(rows[:, behaviour])).sum()) for rows in arms.values())
    return f"{done} of {number_of_seeds * len(arms)} retrains are complete"


def _diverged_arms(arms: dict[str, FloatArray]) -> list[str]:
    return [
        f"a retrain of the {name} arm diverged"
        for name, rows in arms.items()
        if np.isinf(rows).any()
    ]


def _float32_resolution(arms: dict[str, FloatArray]) -> FloatArray:
    """Training runs in float32, so smaller differences than this of a value are rounding."""
    largest = [
        np.max(np.abs(np.where(np.isfinite(rows), rows, 0.0)), axis=0, initial=0.0)
        for rows in arms.values()
    ]
    return np.asarray(np.finfo(np.float32).eps * np.maximum.reduce(largest), dtype=np.float64)


def _excludes_zero(estimate: EffectEstimate, behaviour: int) -> bool:
    return bool(estimate.low[behaviour] > 0 or estimate.high[behaviour] < 0)


def _entry(estimate: EffectEstimate | None, field: str, behaviour: int) -> float:
    return float("nan") if estimate is None else float(getattr(estimate, field)[behaviour])


def _behaviour_row(values: ArrayLike, count: int, name: str) -> FloatArray:
    row = np.atleast_1d(np.asarray(values, np.float64))
    if row.shape != (count,):
        raise ValueError(f"{name} has shape {row.shape}; expected ({count},)")
    return row
