"""The track record's figures agree with SciPy, count every test, and respect shared retrains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workers.evidence.track_record import (
    TrackRecord,
    rank_correlation,
    slope_through_origin,
    summarise,
    wilson_interval,
)


def pairs(count=60, slope=1.2, noise=0.3, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=count)
    return x, slope * x + noise * generator.normal(size=count)


def test_slope_and_rank_are_those_of_least_squares_and_spearman():
    x, y = pairs()
    record = summarise(x, y, x - 1, x + 1)
    assert record.slope.value == pytest.approx(np.linalg.lstsq(x[:, None], y, rcond=None)[0][0])
    assert record.rank_correlation.value == pytest.approx(stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize(("value", "count"), [(0.7, 20), (0.0, 5), (1.0, 12)])
def test_wilsons_interval_is_scipys(value, count):
    oracle = stats.binomtest(round(value * count), count).proportion_ci(0.9, method="wilson")
    np.testing.assert_allclose(wilson_interval(value, count, 0.9), oracle, atol=1e-12)


def test_sign_rate_and_coverage_are_the_shares():
    record = summarise([1, 1, -1, 0], [1, -1, -2, 1], [0, 0, -3, 0], [2, 2, -1, 2])
    assert (record.sign_rate.value, record.sign_rate.count) == (pytest.approx(2 / 3), 3)
    assert (record.coverage.value, record.coverage.count) == (0.75, 4)
    assert record.mean_absolute_error == pytest.approx((0 + 2 + 1 + 1) / 4)


def test_the_slopes_interval_covers_the_truth_when_tests_share_their_error():
    generator = np.random.default_rng(1)
    covered, naive = [], []
    groups = np.repeat(np.arange(25), 6)
    for _ in range(600):
        own = np.repeat(generator.normal(size=25), 6)
        x = np.repeat(generator.normal(size=25), 6) + 0.3 * generator.normal(size=150)
        y = x + 0.5 * own * x
        slope = slope_through_origin(x, y, groups, 0.9)
        covered.append(slope.low <= 1 <= slope.high)
        alone = slope_through_origin(x, y, np.arange(150), 0.9)
        naive.append(alone.low <= 1 <= alone.high)
    assert abs(np.mean(covered) - 0.9) < 0.04
    assert np.mean(naive) < 0.7


def test_a_single_test_gives_no_interval_for_the_slope():
    x, y = pairs(5)
    slope = slope_through_origin(x, y, np.zeros(5, int))
    assert (slope.low, slope.high) == (-np.inf, np.inf)


def test_rank_correlations_interval_covers_the_truth():
    generator = np.random.default_rng(2)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)
    found = []
    for _ in range(800):
        x, z = generator.normal(size=(2, 40))
        interval = rank_correlation(x, 0.6 * x + 0.8 * z, 0.9)
        found.append(interval.low <= truth <= interval.high)
    assert abs(np.mean(found) - 0.9) < 0.04


def test_pairs_of_one_test_do_not_count_as_independent():
    generator = np.random.default_rng(3)
    hit = np.repeat(generator.random(20) < 0.7, 8)
    y = np.where(hit, 0.0, 5.0)
    alone = summarise(np.ones(160), y, -np.ones(160), np.ones(160))
    shared = summarise(
        np.ones(160), y, -np.ones(160), np.ones(160), tests=np.repeat(np.arange(20), 8)
    )
    assert shared.coverage.value == alone.coverage.value
    wider = (shared.coverage.high - shared.coverage.low) / (
        alone.coverage.high - alone.coverage.low
    )
    assert 2 < wider < np.sqrt(8) + 0.2
    assert shared.number_of_tests == 20


@given(st.randoms(use_true_random=False), st.floats(0.01, 100))
@settings(max_examples=20)
def test_order_units_and_sign_conventions_do_not_matter(random, unit):
    x, y = pairs(20)
    order = list(range(20))
    random.shuffle(order)
    sign = np.where(np.arange(20) % 2, -1, 1)
    plain = summarise(x, y, x - 0.5, x + 0.5)
    scaled = summarise(
        (unit * sign * x)[order],
        (unit * sign * y)[order],
        (unit * (sign * x - 0.5))[order],
        (unit * (sign * x + 0.5))[order],
        scale=unit,
    )
    assert scaled.slope.value == pytest.approx(plain.slope.value)
    assert scaled.sign_rate == plain.sign_rate
    assert scaled.coverage.value == plain.coverage.value


def test_unfinished_pairs_are_left_out_and_all_verdicts_are_counted():
    record = summarise(
        [1.0, 2.0],
        [1.1, np.nan],
        [0, 0],
        [2, 2],
        standard_error=[0.1, 0.2],
        verdicts=["supported", "abandoned", "invalidated", "abandoned"],
    )
    assert record.number_of_pairs == 1
    assert record.noise_band == pytest.approx(0.1)
    assert record.verdict_counts == {"abandoned": 2, "invalidated": 1, "supported": 1}


def test_an_empty_record_claims_nothing():
    record = summarise([], [], [], [])
    assert record.number_of_pairs == 0
    assert np.isnan([record.slope.value, record.coverage.value, record.sign_rate.value]).all()
    read = TrackRecord.from_json(record.to_json())
    assert read.to_json() == record.to_json()
