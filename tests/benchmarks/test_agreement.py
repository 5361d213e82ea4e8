"""The statistics that the fidelity benchmark reports, on cases whose answer is known."""

import numpy as np
import pytest

from benchmarks import agreement


@pytest.fixture
def generator():
    return np.random.default_rng(5)


def test_the_datamodeling_score_sees_order_alone(generator):
    actual = generator.normal(size=(30, 4))
    assert agreement.datamodeling_score(np.exp(actual), actual) == pytest.approx(1)
    assert agreement.datamodeling_score(-actual, actual) == pytest.approx(-1)
    assert agreement.datamodeling_score(np.ones((30, 4)), actual) == 0


def test_the_slope_is_above_one_when_predictions_are_too_small(generator):
    actual = generator.normal(size=(30, 4))
    assert agreement.slope(actual / 2, actual) == pytest.approx(2)


def test_only_clear_effects_count_for_the_sign_rate():
    predicted, actual = np.array([[1.0], [1.0], [-1.0]]), np.array([[2.0], [-2.0], [0.1]])
    assert agreement.sign_rate(predicted, actual, np.full((3, 1), 0.5)) == 0.5
    assert np.isnan(agreement.sign_rate(predicted, actual, np.full((3, 1), 9.0)))


@pytest.mark.parametrize("number", [2, 6])
def test_the_mean_of_so_many_retrains_is_worth_as_many(number, generator):
    signal = generator.normal(size=(4000, 1, 3))
    effects = signal + 1.5 * generator.normal(size=(4000, 8, 3))
    retrains = signal[:, 0] + 1.5 * generator.normal(size=(4000, number, 3)).mean(1)
    assert agreement.retrain_equivalents(retrains, effects) == pytest.approx(number, rel=0.15)


def test_shifts_that_all_edits_of_a_seed_share_are_no_noise(generator):
    signal = generator.normal(size=(500, 1, 3))
    effects = signal + generator.normal(size=(500, 8, 3))
    shifted = effects + 5 * generator.normal(size=(1, 8, 3))
    predicted = signal[:, 0] + generator.normal(size=(500, 3))
    assert agreement.retrain_equivalents(predicted, shifted) == pytest.approx(
        agreement.retrain_equivalents(predicted, effects)
    )


def test_the_interval_holds_the_value(generator):
    actual = generator.normal(size=(40, 4))
    predicted = actual + generator.normal(size=(40, 4))
    value, low, high = agreement.bootstrap(
        lambda at: agreement.datamodeling_score(predicted[at], actual[at]), 40
    )
    assert low < value < high
