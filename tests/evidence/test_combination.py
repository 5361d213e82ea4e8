"""A combination adds its members' calibrated predictions by the weights written down in it."""

import numpy as np
import pytest

from tests.evidence.simulated_bank import SimulatedBaseline
from workers.evidence.calibration import Calibration
from workers.evidence.combination import Combination
from workers.evidence.conformal import calibrate

WEIGHTS = np.array([[0.25, 0.0], [0.5, 1.0], [0.0, 0.0]])


def combination(weights=WEIGHTS):
    return Combination(("a", "b", "c"), ("1", "2", "3"), np.asarray(weights))


def test_predictions_add_up_by_the_weights_of_each_behaviour():
    values = {"a": np.array([4.0, np.nan]), "b": np.array([2.0, 3.0])}
    np.testing.assert_allclose(combination().combine(values), [2.0, 3.0])


def test_the_order_of_the_members_does_not_matter():
    values = {name: np.array([float(place), 1.0]) for place, name in enumerate("abc")}
    turned = Combination(("b", "a", "c"), ("2", "1", "3"), WEIGHTS[[1, 0, 2]])
    np.testing.assert_allclose(turned.combine(values), combination().combine(values))


def test_a_behaviour_names_the_members_that_weigh_the_heaviest_first():
    assert list(combination().of_behaviour(0).items()) == [("b", 0.5), ("a", 0.25)]
    assert combination().of_behaviour(1) == {"b": 1.0}


def test_negative_weights_and_members_without_calibration_are_refused():
    with pytest.raises(ValueError, match="negative"):
        combination(-WEIGHTS)
    with pytest.raises(ValueError, match="one calibration"):
        Combination(("a",), (), np.ones((1, 2)))
    with pytest.raises(ValueError, match="no member"):
        combination(0 * WEIGHTS).combine({})


def test_a_calibration_keeps_its_combination_and_old_ones_have_none():
    fitted = calibrate(SimulatedBaseline(1, behaviours=2).evidence(20))
    written = fitted.to_json()
    assert Calibration.from_json(written).combination is None
    del written["combination"]  # as calibrations were written before there were combinations
    assert Calibration.from_json(written).combination is None
    written["combination"] = combination().to_json()
    read = Calibration.from_json(written).combination
    assert read is not None
    np.testing.assert_array_equal(read.weights, WEIGHTS)
    assert read.members == ("a", "b", "c")
