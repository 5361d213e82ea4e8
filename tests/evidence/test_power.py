"""Power agrees with SciPy's noncentral t and simulated tests; a plan says when not to test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workers.evidence.power import (
    NOT_WORTH_TESTING,
    WORTH_TESTING,
    TestPlan,
    assurance,
    paired_test_power,
    plan_test,
    seeds_needed,
    smallest_visible_effect,
    upper_seed_noise,
)


@pytest.mark.parametrize(
    ("effect", "noise", "count"), [(0.5, 1.0, 8), (-1.2, 0.8, 4), (0.1, 1, 30)]
)
def test_power_is_the_noncentral_t_tail(effect, noise, count):
    critical = stats.t.ppf(0.95, count - 1)
    expected = stats.nct.sf(critical, count - 1, abs(effect) * np.sqrt(count) / noise)
    assert paired_test_power(effect, noise, count, 0.1) == pytest.approx(expected)


def test_power_is_what_simulated_tests_achieve():
    generator = np.random.default_rng(1)
    differences = generator.normal(0.6, 1.0, size=(6, 40_000))
    low = stats.ttest_1samp(differences, 0.0).confidence_interval(0.9).low
    promised = float(paired_test_power(0.6, 1.0, 6, 0.1))
    assert abs(np.mean(low > 0) - promised) < 4 * np.sqrt(promised * (1 - promised) / 40_000)


def test_power_has_its_limits():
    assert paired_test_power(0.0, 1.0, 10, 0.1) == pytest.approx(0.05)
    assert paired_test_power(1.0, 0.0, 2, 0.1) == 1.0
    assert paired_test_power(1.0, np.inf, 10, 0.1) == pytest.approx(0.05)
    assert paired_test_power(5.0, 1.0, 1, 0.1) == 0.0
    np.testing.assert_allclose(paired_test_power(1000.0, 1.0, [2, 5, 100]), [1, 1, 1], atol=1e-6)


@given(
    st.floats(0.05, 3),
    st.floats(0.1, 3),
    st.integers(2, 40),
    st.sampled_from([0.01, 0.05, 0.1, 0.2]),
)
@settings(max_examples=60, deadline=None)
def test_power_grows_with_effect_and_seeds_and_does_not_know_units(effect, noise, count, alpha):
    power = paired_test_power(effect, noise, count, alpha)
    assert paired_test_power(1.1 * effect, noise, count, alpha) >= power - 1e-9
    assert paired_test_power(effect, noise, count + 1, alpha) >= power - 1e-9
    assert paired_test_power(7 * effect, 7 * noise, count, alpha) == pytest.approx(power)


@pytest.mark.parametrize(("effect", "noise"), [(0.5, 1.0), (2.0, 1.0), (0.2, 1.0), (10.0, 0.1)])
def test_seeds_needed_is_the_first_number_that_reaches_the_power(effect, noise):
    count = seeds_needed(effect, noise, alpha=0.1, power=0.8)
    powers = paired_test_power(effect, noise, np.arange(2, count + 1), 0.1)
    assert powers[-1] >= 0.8
    assert np.all(powers[:-1] < 0.8)


def test_no_number_of_seeds_is_promised_where_none_suffices():
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, np.inf) is None
    assert seeds_needed(0.01, 1.0, largest=50) is None


@pytest.mark.parametrize("count", [2, 5, 20])
def test_the_smallest_visible_effect_is_seen_with_exactly_the_wanted_power(count):
    effect = smallest_visible_effect(0.3, count, alpha=0.1, power=0.8)
    assert paired_test_power(effect, 0.3, count, 0.1) == pytest.approx(0.8, abs=1e-6)


def test_the_upper_noise_limit_is_above_the_true_noise_as_often_as_it_says():
    samples = np.random.default_rng(2).normal(size=(4, 20_000))
    limit = upper_seed_noise(samples.std(axis=0, ddof=1), 3, confidence=0.8)
    assert abs(np.mean(limit > 1.0) - 0.8) < 4 * np.sqrt(0.16 / 20_000)
    assert np.isinf(upper_seed_noise(1.0, 0))


def test_assurance_is_the_power_averaged_over_the_prediction():
    generator = np.random.default_rng(3)
    effects = generator.normal(0.5, 0.4, size=60_000)
    differences = effects + generator.normal(0, 1.0, size=(8, 60_000))
    low = stats.ttest_1samp(differences, 0.0).confidence_interval(0.9).low
    assert assurance(0.5, 0.4, 1.0, 8) == pytest.approx(np.mean(low > 0), abs=0.01)
    assert assurance(-0.5, 0.4, 1.0, 8) == pytest.approx(assurance(0.5, 0.4, 1.0, 8))
    assert assurance(0.5, 0.0, 1.0, 8) == pytest.approx(float(paired_test_power(0.5, 1.0, 8)))


def test_a_plan_counts_retrains_and_time():
    plan = plan_test(1.0, 0.5, seconds_per_retrain=2.0, arms=3, parallel_retrains=2)
    assert plan.decision == WORTH_TESTING
    assert plan.seeds_needed == seeds_needed(1.0, 0.5)
    assert plan.retrains_needed == 3 * plan.seeds_needed
    assert plan.seconds_needed == pytest.approx(3.0 * plan.seeds_needed)
    assert plan.reasons == ()


def test_a_budget_limits_the_seeds_and_names_what_it_can_see():
    plan = plan_test(0.1, 1.0, seconds_per_retrain=1.0, budget_seconds=30.5)
    assert plan.affordable_seeds == 10
    assert plan.smallest_visible_effect == pytest.approx(smallest_visible_effect(1.0, 10))
    assert plan.decision == NOT_WORTH_TESTING
    assert "budget is" in plan.reasons[0]


@pytest.mark.parametrize(
    ("effect", "interest", "words"),
    [
        (0.0, 0.0, "nothing changes"),
        (0.2, 0.5, "below the smallest effect"),
        (1e-4, 0, "More than"),
    ],
)
def test_not_worth_testing_is_an_answer_with_a_reason(effect, interest, words):
    plan = plan_test(effect, 0.3, seconds_per_retrain=1.0, smallest_effect_of_interest=interest)
    assert plan.decision == NOT_WORTH_TESTING
    assert words in plan.reasons[0]


def test_a_plan_survives_json():
    plan = plan_test(1e-5, 1.0, seconds_per_retrain=1.0)
    assert TestPlan.from_json(plan.to_json()) == plan
