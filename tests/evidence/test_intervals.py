"""Paired intervals agree with SciPy, and the first prediction interval with its formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from workers.evidence.intervals import (
    EffectEstimate,
    PredictionInterval,
    first_prediction_interval,
    mean_effect,
    paired_effect,
    retrain_noise_from_baseline,
)

seed_rows = arrays(
    np.float64,
    st.tuples(st.integers(3, 8), st.integers(1, 4)),
    elements=st.floats(-100, 100, width=32),
)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_paired_interval_is_scipys_paired_t_interval(level):
    generator = np.random.default_rng(1)
    edited, unedited = generator.normal(size=(2, 7, 3))
    estimate = paired_effect(edited, unedited, level)
    oracle = stats.ttest_rel(edited, unedited).confidence_interval(level)
    np.testing.assert_allclose(estimate.low, oracle.low)
    np.testing.assert_allclose(estimate.high, oracle.high)
    np.testing.assert_allclose(estimate.mean, (edited - unedited).mean(axis=0))


@given(seed_rows, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_seeds_does_not_matter(effects, random):
    order = list(range(len(effects)))
    random.shuffle(order)
    first, second = mean_effect(effects), mean_effect(effects[order])
    np.testing.assert_allclose(first.low, second.low, atol=1e-9)
    np.testing.assert_allclose(first.high, second.high, atol=1e-9)


@given(seed_rows, st.floats(0.01, 100))
@settings(max_examples=40)
def test_a_change_of_unit_scales_the_interval(effects, factor):
    first, second = mean_effect(effects), mean_effect(effects * factor)
    np.testing.assert_allclose(second.low, first.low * factor, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(second.high, first.high * factor, rtol=1e-6, atol=1e-6)


def test_swapping_the_arms_mirrors_the_interval():
    edited, unedited = np.random.default_rng(2).normal(size=(2, 5, 2))
    there, back = paired_effect(edited, unedited), paired_effect(unedited, edited)
    np.testing.assert_allclose(there.low, -back.high)


def test_a_pair_with_a_missing_arm_is_left_out():
    edited = np.array([1.0, 2.0, 4.0, np.nan])
    unedited = np.array([0.0, 0.0, 0.0, 0.0])
    whole = paired_effect(edited[:3], unedited[:3])
    partial = paired_effect(edited, unedited)
    assert partial.number_of_seeds.tolist() == [3]
    np.testing.assert_allclose(partial.low, whole.low)


def test_one_pair_gives_an_unbounded_interval_around_its_value():
    estimate = paired_effect([3.0], [1.0])
    assert estimate.mean.tolist() == [2.0]
    assert estimate.low.tolist() == [-np.inf]
    assert estimate.high.tolist() == [np.inf]


def test_differences_below_the_resolution_are_no_effects():
    edited, unedited = np.full(4, 1.0 + 1e-9), np.ones(4)
    assert paired_effect(edited, unedited).low[0] > 0
    assert paired_effect(edited, unedited, resolution=1e-7).low[0] < 0


def test_arms_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        paired_effect(np.zeros((3, 2)), np.zeros((2, 2)))


def test_the_fresh_seed_mean_interval_is_the_t_interval_of_the_per_seed_predictions():
    predictions = np.random.default_rng(3).normal(1.0, 0.2, size=(4, 2))
    interval = first_prediction_interval(predictions, 0.9)
    low, high = stats.t.interval(
        0.9, 3, predictions.mean(axis=0), stats.sem(predictions, axis=0, ddof=1)
    )
    np.testing.assert_allclose(interval.low, low)
    np.testing.assert_allclose(interval.high, high)
    assert interval.calibrated is False


def test_retrain_noise_enters_by_the_welch_satterthwaite_formula():
    predictions = np.array([0.8, 1.0, 1.3, 0.9])
    interval = first_prediction_interval(
        predictions, 0.8, retrain_noise=0.4, number_of_retrain_seeds=5
    )
    a, b = predictions.var(ddof=1) / 4, 0.4**2 / 5
    degrees = 3 * (a + b) ** 2 / (a**2 + b**2)
    expected = stats.t.ppf(0.9, degrees) * np.sqrt(a + b)
    np.testing.assert_allclose((interval.high - interval.low) / 2, expected)


def test_the_interval_for_few_retrains_is_wider_and_approaches_that_of_the_mean():
    predictions = np.random.default_rng(4).normal(size=(6, 3))
    target = first_prediction_interval(predictions)
    width = [
        np.ptp([interval.low, interval.high], axis=0)
        for interval in (
            first_prediction_interval(predictions, number_of_retrain_seeds=1),
            first_prediction_interval(predictions, number_of_retrain_seeds=10),
            first_prediction_interval(predictions, number_of_retrain_seeds=10**9),
        )
    ]
    assert np.all(width[0] > width[1])
    np.testing.assert_allclose(width[2], target.high - target.low, rtol=1e-4)


def test_a_prediction_from_one_seed_has_an_unbounded_interval():
    interval = first_prediction_interval([0.5], number_of_retrain_seeds=4)
    assert interval.value.tolist() == [0.5]
    assert np.isinf([interval.low, interval.high]).all()


def test_a_robust_centre_replaces_the_mean_of_the_seeds():
    interval = first_prediction_interval([1.0, 1.1, 50.0], value=[1.05])
    assert interval.value.tolist() == [1.05]
    np.testing.assert_allclose((interval.low + interval.high) / 2, 1.05)


def test_the_paired_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(5)
    shared = generator.normal(size=(4, 20_000))
    unedited = shared + 0.3 * generator.normal(size=shared.shape)
    edited = shared + 0.7 + 0.3 * generator.normal(size=shared.shape)
    for level in (0.8, 0.9):
        estimate = paired_effect(edited, unedited, level)
        covered = np.mean((estimate.low <= 0.7) & (estimate.high >= 0.7))
        assert abs(covered - level) < 4 * np.sqrt(level * (1 - level) / 20_000)


def test_noise_bound_from_the_baseline_is_the_noise_of_two_independent_arms():
    values = np.random.default_rng(6).normal(size=(2_000, 1))
    np.testing.assert_allclose(retrain_noise_from_baseline(values), np.sqrt(2), rtol=0.05)
    assert np.isinf(retrain_noise_from_baseline([[1.0]])).all()


def test_estimates_survive_json_with_unbounded_values():
    estimate = paired_effect([[3.0, 1.0]], [[1.0, np.nan]])
    read = EffectEstimate.from_json(estimate.to_json())
    np.testing.assert_array_equal(read.mean, estimate.mean)
    np.testing.assert_array_equal(read.high, estimate.high)
    assert read.number_of_seeds.dtype == np.int64
    interval = first_prediction_interval([1.0, 2.0])
    assert PredictionInterval.from_json(interval.to_json()).to_json() == interval.to_json()


def test_an_unknown_or_missing_field_is_named():
    data = first_prediction_interval([1.0, 2.0]).to_json()
    with pytest.raises(ValueError, match="no field 'colour'"):
        PredictionInterval.from_json(data | {"colour": 1})
    del data["low"]
    with pytest.raises(ValueError, match="needs the field 'low'"):
        PredictionInterval.from_json(data)
