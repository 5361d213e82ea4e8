"""What a confirmatory test can see before it runs: seeds needed, cost in time, smallest visible
effect, and whether the test is worth running. The test itself lives in ``verdicts``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from workers.evidence.records import FloatArray, Record

SMALLEST_NUMBER_OF_SEEDS = 2
LARGEST_NUMBER_OF_SEEDS = 100_000
WORTH_TESTING = "worth testing"
NOT_WORTH_TESTING = "not worth testing"


@dataclass(frozen=True)
class TestPlan(Record):
    """What a paired test of one predicted effect needs and can see."""

    __test__ = False  # a plan of a test, not a test for pytest to collect

    predicted_effect: float
    seed_noise: float  # standard deviation over seeds of one paired effect, as used
    alpha: float
    wanted_power: float
    seeds_needed: int | None  # None: more than the limit, or nothing to see
    retrains_needed: int | None
    seconds_needed: float  # wall-clock; infinite where seeds_needed is None
    affordable_seeds: int
    power_with_budget: float
    smallest_visible_effect: float  # with the affordable seeds, at the wanted power
    decision: str  # WORTH_TESTING or NOT_WORTH_TESTING
    reasons: tuple[str, ...]


def paired_test_power(
    effect: ArrayLike, seed_noise: ArrayLike, number_of_seeds: ArrayLike, alpha: float = 0.1
) -> FloatArray:
    """Probability that the two-sided paired t test at ``alpha`` excludes zero *on the right side*.

    With n pairs, T is noncentral t with n−1 degrees of freedom and noncentrality |effect|·√n/noise
    (Cohen 1988, section 2.4); power = P(T > t_{n−1,1−α/2}). Arguments broadcast. Fewer than two
    seeds have no power; without any noise every non-zero effect is seen. An effect of 0 gives α/2.
    """
    size, noise, count = np.broadcast_arrays(
        np.abs(np.asarray(effect, np.float64)),
        np.asarray(seed_noise, np.float64),
        np.asarray(number_of_seeds, np.float64),
    )
    degrees = np.maximum(count - 1.0, 1.0)
    critical = special.stdtrit(degrees, 1.0 - alpha / 2.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        noncentrality = np.where(size > 0, size * np.sqrt(count) / noise, 0.0)
    noncentrality = np.where(np.isinf(noise), 0.0, noncentrality)
    # Beyond this the power is 1 to double precision, and SciPy's noncentral t loses its footing.
    certain = noncentrality > critical + 38.0 * np.sqrt(1.0 + critical**2 / (2.0 * degrees))
    tail = stats.nct.sf(critical, degrees, np.where(certain, 0.0, noncentrality))
    power = np.where(certain, 1.0, np.where(noncentrality == 0.0, alpha / 2.0, tail))
    return np.asarray(np.where(count >= 2, np.clip(power, 0.0, 1.0), 0.0))


def seeds_needed(
    effect: float,
    seed_noise: float,
    *,
    alpha: float = 0.1,
    power: float = 0.8,
    largest: int = LARGEST_NUMBER_OF_SEEDS,
) -> int | None:
    """Fewest seeds (≥ 2) with at least ``power`` to see ``effect``; None when ``largest`` is too
    few."""
    _check_probabilities(alpha, power)

    def reaches(count: int) -> bool:
        return bool(paired_test_power(effect, seed_noise, count, alpha) >= power)

    low, high = SMALLEST_NUMBER_OF_SEEDS - 1, SMALLEST_NUMBER_OF_SEEDS
    if not reaches(largest):
        return None
    while not reaches(high):
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def smallest_visible_effect(
    seed_noise: float, number_of_seeds: int, *, alpha: float = 0.1, power: float = 0.8
) -> float:
    """The effect that ``number_of_seeds`` pairs see with ``power``; infinite for fewer than two."""
    _check_probabilities(alpha, power)
    if number_of_seeds < 2 or math.isinf(seed_noise):
        return math.inf
    if seed_noise == 0:
        return 0.0
    high = 1.0
    while paired_test_power(high, 1.0, number_of_seeds, alpha) < power:
        high *= 2.0
    found = optimize.brentq(
        lambda effect: float(paired_test_power(effect, 1.0, number_of_seeds, alpha)) - power,
        0.0,
        high,
        xtol=1e-10,
    )
    return float(found) * seed_noise


def upper_seed_noise(
    estimate: ArrayLike, degrees_of_freedom: ArrayLike, confidence: float = 0.8
) -> FloatArray:
    """One-sided upper confidence limit of a standard deviation: s·√(d/χ²_{d,1−confidence}).

    Planning with s itself gives less than the promised power about half the time; planning with
    this limit gives at least that power with about ``confidence`` (Browne 1995). Infinite for d ≤
    0.
    """
    degrees = np.asarray(degrees_of_freedom, np.float64)
    positive = np.where(degrees > 0, degrees, 1.0)
    factor = np.sqrt(positive / special.chdtri(positive, confidence))
    return np.asarray(np.where(degrees > 0, np.asarray(estimate, np.float64) * factor, np.inf))


def assurance(
    value: float,
    standard_deviation: float,
    seed_noise: float,
    number_of_seeds: int,
    *,
    alpha: float = 0.1,
) -> float:
    """Chance that the test excludes zero on the predicted side, when the prediction itself is
    uncertain: the power averaged over a normal distribution of the true effect around ``value``
    (O'Hagan, Stevens & Campbell 2005), by 40-point Gauss–Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    effects = (value + standard_deviation * nodes) * (1.0 if value >= 0 else -1.0)
    right = paired_test_power(effects, seed_noise, number_of_seeds, alpha)
    wrong_side = _wrong_side_power(effects, seed_noise, number_of_seeds, alpha)
    return float(np.sum(weights * np.where(effects >= 0, right, wrong_side)) / np.sum(weights))


def plan_test(
    predicted_effect: float,
    seed_noise: float,
    *,
    seconds_per_retrain: float,
    budget_seconds: float = math.inf,
    smallest_effect_of_interest: float = 0.0,
    alpha: float = 0.1,
    power: float = 0.8,
    arms: int = 3,
    parallel_retrains: float = 1.0,
    largest_number_of_seeds: int = 1000,
) -> TestPlan:
    """The seeds and the time that a paired test of ``predicted_effect`` needs, and whether to run
    it.

    Every seed costs ``arms`` retrains of ``seconds_per_retrain`` each, ``parallel_retrains`` at a
    time. Not worth testing: the predicted effect is zero or below the smallest effect of interest,
    the seeds exceed the limit, or the time exceeds the budget. ``seed_noise`` should be an upper
    limit (:func:`upper_seed_noise`) where few seeds measured it. Raises ValueError for negative
    inputs.
    """
    _check_probabilities(alpha, power)
    for name, number in (
        ("seed_noise", seed_noise),
        ("seconds_per_retrain", seconds_per_retrain),
        ("budget_seconds", budget_seconds),
        ("smallest_effect_of_interest", smallest_effect_of_interest),
    ):
        if not number >= 0:
            raise ValueError(f"{name} must not be negative, got {number}")
    seconds_per_seed = arms * seconds_per_retrain / parallel_retrains
    needed = seeds_needed(
        predicted_effect, seed_noise, alpha=alpha, power=power, largest=largest_number_of_seeds
    )
    seconds = math.inf if needed is None else needed * seconds_per_seed
    affordable = largest_number_of_seeds
    if seconds_per_seed > 0 and math.isfinite(budget_seconds):
        affordable = min(affordable, int(budget_seconds / seconds_per_seed))
    visible = smallest_visible_effect(seed_noise, affordable, alpha=alpha, power=power)
    reasons = _reasons_against(
        predicted_effect,
        smallest_effect_of_interest,
        needed,
        seconds,
        budget_seconds,
        visible,
        largest_number_of_seeds,
    )
    return TestPlan(
        predicted_effect=float(predicted_effect),
        seed_noise=float(seed_noise),
        alpha=alpha,
        wanted_power=power,
        seeds_needed=needed,
        retrains_needed=None if needed is None else needed * arms,
        seconds_needed=float(seconds),
        affordable_seeds=affordable,
        power_with_budget=float(paired_test_power(predicted_effect, seed_noise, affordable, alpha)),
        smallest_visible_effect=float(visible),
        decision=NOT_WORTH_TESTING if reasons else WORTH_TESTING,
        reasons=tuple(reasons),
    )


def _reasons_against(
    effect: float,
    smallest_of_interest: float,
    needed: int | None,
    seconds: float,
    budget: float,
    visible: float,
    limit: int,
) -> list[str]:
    if effect == 0:
        return ["The prediction is that nothing changes, so there is no effect to look for."]
    reasons = []
    if abs(effect) < smallest_of_interest:
        reasons.append(
            f"The predicted effect {effect:.3g} is below the smallest effect of interest "
            f"{smallest_of_interest:.3g}."
        )
    if needed is None:
        reasons.append(
            f"More than {limit} seeds would be needed to tell an effect of {effect:.3g} from the "
            "seed noise."
        )
    elif seconds > budget:
        reasons.append(
            f"{needed} seeds would take {seconds:.0f} s and the budget is {budget:.0f} s, which "
            f"sees effects of {visible:.3g} or more."
        )
    return reasons


def _wrong_side_power(
    effect: FloatArray, seed_noise: float, number_of_seeds: int, alpha: float
) -> FloatArray:
    """Probability that an effect of the other sign still lands beyond the critical value."""
    if number_of_seeds < 2 or seed_noise == 0:
        return np.zeros_like(effect)
    critical = special.stdtrit(number_of_seeds - 1.0, 1.0 - alpha / 2.0)
    noncentrality = np.maximum(-np.abs(effect) * np.sqrt(number_of_seeds) / seed_noise, -30.0)
    tail = stats.nct.sf(critical, number_of_seeds - 1.0, noncentrality)
    return np.nan_to_num(np.asarray(tail, dtype=np.float64))


def _check_probabilities(alpha: float, power: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha lies between 0 and 1, not at {alpha}")
    if not alpha / 2 < power < 1:
        raise ValueError(f"power lies between alpha/2 and 1, not at {power}")
