"""Calibrated intervals hold on edits never seen, and the calibration respects units and order."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, special, stats

from tests.evidence.simulated_bank import EXAMPLES, SimulatedBaseline
from workers.evidence.bank import edit_shape
from workers.evidence.bank_evidence import empty_bank, summarise_retrains
from workers.evidence.calibration import Calibration, EditPart, split_by_kind
from workers.evidence.calibration_fit import fit_coefficients
from workers.evidence.conformal import calibrate, cross_fit
from workers.evidence.effect_model import covariates, curve, edit_gradient


@pytest.fixture(scope="module")
def baseline():
    return SimulatedBaseline(seed=11)


@pytest.fixture(scope="module")
def evidence(baseline):
    return baseline.evidence(48)


@pytest.fixture(scope="module")
def calibration(evidence):
    return calibrate(evidence)


@pytest.fixture(scope="module")
def unseen():
    """Calibrations of six baselines and, for each, 200 edits that none of them has seen."""
    found = []
    for seed in range(6):
        one = SimulatedBaseline(seed)
        found.append((calibrate(one.evidence(60)), *one.measure(one.plan(200, seed=99))))
    return found


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_intervals_cover_unseen_edits_as_often_as_they_say(unseen, level):
    covered, cells = [], {}
    for fitted, kinds, sizes, predicted, actual, _ in unseen:
        _, low, high = fitted.predict(predicted, kinds, sizes, level=level)
        inside = (low <= actual) & (actual <= high)
        covered.append(inside.mean())
        for edit, kind in enumerate(kinds):
            cells.setdefault((kind, sizes[edit] > 0.03), []).append(inside[edit].mean())
    assert abs(np.mean(covered) - level) < 0.05
    for members in cells.values():
        assert abs(np.mean(members) - level) < 0.1


def test_intervals_are_hardly_wider_than_those_of_an_oracle(unseen):
    for fitted, kinds, sizes, predicted, _, deviation in unseen:
        _, low, high = fitted.predict(predicted, kinds, sizes, level=0.9)
        oracle = 2 * special.ndtri(0.95) * deviation
        assert np.median((high - low) / oracle) < 1.5


def test_calibrated_predictions_have_the_right_size(unseen):
    for fitted, kinds, sizes, predicted, actual, _ in unseen:
        value, _, _ = fitted.predict(predicted, kinds, sizes)
        unit = fitted.scales
        slope = np.sum(value * actual / unit**2) / np.sum((value / unit) ** 2)
        assert 0.9 < slope < 1.1
        raw = np.mean(np.abs(predicted - actual) / unit)
        assert np.mean(np.abs(value - actual) / unit) < 0.8 * raw


def test_an_empty_bank_gives_a_wide_flagged_interval_around_the_prediction():
    one = SimulatedBaseline(0)
    prior = calibrate(empty_bank(["a", "b"], one.scale[:2], [1, 1], [np.nan, np.nan]))
    assert not prior.has_evidence
    assert "No calibration retrain" in prior.warnings(edit_shape([0.0] * 50, EXAMPLES))[0]
    kinds, sizes, predicted, actual, deviation = one.measure(one.plan(100, seed=3))
    value, low, high = prior.predict(predicted[:, :2], kinds, sizes, level=0.9)
    np.testing.assert_allclose(value, predicted[:, :2])
    assert np.mean((low <= actual[:, :2]) & (actual[:, :2] <= high)) > 0.9
    assert np.median((high - low) / (2 * special.ndtri(0.95) * deviation[:, :2])) > 2


def test_few_edits_give_wider_intervals_than_many(baseline, calibration):
    few = calibrate(baseline.evidence(8))
    kinds, sizes, predicted, _, _ = baseline.measure(baseline.plan(60, seed=5))
    width_few = np.ptp(few.predict(predicted, kinds, sizes)[1:], axis=0)
    width_many = np.ptp(calibration.predict(predicted, kinds, sizes)[1:], axis=0)
    assert np.median(width_few / width_many) > 1.1


def test_removals_are_scaled_up_and_up_weighting_down(calibration, baseline):
    top = np.sort(baseline.scores, axis=0)[-50:].sum(axis=0)
    removal, _, _ = calibration.predict(-top, "removal", 0.05)
    tripling, _, _ = calibration.predict(2 * top, "up_weighting", 0.1)
    assert np.median(removal / -top) > 1.1
    assert np.median(tripling / (2 * top)) < 0.9


def test_noise_of_the_bank_is_taken_out_of_the_interval():
    loud, calm = (SimulatedBaseline(21, seed_noise=noise) for noise in (1.0, 0.01))
    widths = []
    for one in (loud, calm):
        fitted = calibrate(one.evidence(96, seeds=2))
        kinds, sizes, predicted, _, _ = one.measure(one.plan(60, seed=5))
        widths.append(np.ptp(fitted.predict(predicted, kinds, sizes)[1:], axis=0))
    kept_noise = 2 * special.ndtri(0.95) * loud.seed_noise / np.sqrt(2)
    small = sizes < 0.02
    assert np.median(widths[0][small] / kept_noise) < 1
    assert np.median(widths[0] / widths[1]) < 1.6


def test_a_change_of_units_changes_nothing_else(evidence, calibration, baseline):
    units = np.array([1.0, -1.0] * 4) * np.logspace(-3, 3, 8)
    changed = replace(
        evidence,
        predicted=evidence.predicted * units,
        behaviour_scales=evidence.behaviour_scales * np.abs(units),
        better=evidence.better * np.sign(units),
        retrains=replace(
            evidence.retrains,
            actual=evidence.retrains.actual * units,
            noise_variance=evidence.retrains.noise_variance * units**2,
            shared_noise_variance=evidence.retrains.shared_noise_variance * units**2,
        ),
    )
    prediction = evidence.predicted[:5]
    value, low, high = calibration.predict(prediction, evidence.kinds[:5], evidence.sizes[:5])
    other = calibrate(changed).predict(prediction * units, evidence.kinds[:5], evidence.sizes[:5])
    tolerance = 0.03 * (high - low) * np.abs(units)
    assert np.all(np.abs(other[0] - value * units) < tolerance)
    ends = np.sort([low * units, high * units], axis=0)
    assert np.all(np.abs(other[1] - ends[0]) < tolerance)
    assert np.all(np.abs(other[2] - ends[1]) < tolerance)


def test_the_order_of_edits_and_behaviours_does_not_matter(evidence):
    generator = np.random.default_rng(4)
    edits, columns = generator.permutation(48), generator.permutation(8)
    moved = replace(
        evidence.subset(edits),
        behaviours=tuple(evidence.behaviours[k] for k in columns),
        behaviour_scales=evidence.behaviour_scales[columns],
        better=evidence.better[columns],
        predicted=evidence.predicted[edits][:, columns],
        retrains=replace(
            evidence.retrains,
            actual=evidence.retrains.actual[edits][:, columns],
            noise_variance=evidence.retrains.noise_variance[edits][:, columns],
            relative_noise=evidence.retrains.relative_noise[edits][:, columns],
            shared_noise_variance=evidence.retrains.shared_noise_variance[columns],
            seed_noise=evidence.retrains.seed_noise[columns],
        ),
    )
    plain = fit_coefficients(evidence).predict(evidence.predicted[0], "removal", 0.05)
    turned = fit_coefficients(moved).predict(evidence.predicted[0][columns], "removal", 0.05)
    for one, other in zip(plain, turned, strict=True):
        np.testing.assert_allclose(
            other, one[columns], rtol=0.02, atol=1e-3 * evidence.predicted[0].std()
        )


def test_a_method_with_a_scale_of_its_own_is_brought_into_the_behaviours_unit(
    evidence, calibration
):
    scaled = replace(
        evidence,
        predicted=evidence.predicted * 1000,
        behaviour_scales=evidence.behaviour_scales * 1000,
    )
    fitted = calibrate(scaled)
    assert fitted.unit_ratio == pytest.approx(1e-3, rel=0.5)
    plain = calibration.predict(evidence.predicted[0], "removal", 0.05)[0]
    rescaled = fitted.predict(1000 * evidence.predicted[0], "removal", 0.05)[0]
    assert np.median(rescaled / plain) == pytest.approx(1, abs=0.1)


def test_a_method_that_knows_nothing_is_shrunk_to_nothing(evidence):
    random = np.random.default_rng(1).normal(size=evidence.predicted.shape)
    noise = replace(evidence, predicted=random * evidence.predicted.std(axis=0))
    value, low, high = calibrate(noise).predict(noise.predicted, noise.kinds, noise.sizes)
    assert np.median(np.abs(value / noise.predicted)) < 0.35
    inside = (low <= evidence.retrains.actual) & (evidence.retrains.actual <= high)
    assert inside.mean() > 0.85


def test_an_unmeasured_behaviour_gets_the_pooled_calibration_with_a_wider_interval(calibration):
    prediction = 0.5 * calibration.scales[:1]
    known = calibration.predict(prediction, "removal", 0.05, [0])
    other = calibration.predict(
        prediction, "removal", 0.05, [-1], behaviour_scale=calibration.scales[:1]
    )
    assert other[2] - other[1] > known[2] - known[1]
    with pytest.raises(ValueError, match="behaviour_scale"):
        calibration.predict(prediction, "removal", 0.05, [-1])
    assert calibration.columns_of(["behaviour 3", "unknown"]).tolist() == [3, -1]


def test_an_edit_of_one_part_is_the_edit_itself(calibration):
    prediction = 0.3 * calibration.scales
    whole = calibration.predict(prediction, "removal", 0.05, level=0.8)
    part = calibration.predict_parts([EditPart("removal", 0.05, prediction)], level=0.8)
    np.testing.assert_allclose(part, whole)


def test_parts_add_up_and_their_intervals_at_most_add_up(calibration):
    prediction = 0.3 * calibration.scales
    removal = calibration.predict(prediction, "removal", 0.05)
    doubling = calibration.predict(prediction, "up_weighting", 0.02)
    both = calibration.predict_parts(
        [EditPart("removal", 0.05, prediction), EditPart("up_weighting", 0.02, prediction)]
    )
    np.testing.assert_allclose(both[0], removal[0] + doubling[0])
    np.testing.assert_allclose(
        both[2] - both[1], removal[2] - removal[1] + doubling[2] - doubling[1]
    )


def test_a_proposal_splits_by_kind_and_its_parts_predict_the_whole():
    generator = np.random.default_rng(2)
    weights = np.array([0, 0, 1, 3, 2, 0.5])
    scores = generator.normal(size=(6, 4))
    parts = split_by_kind(weights, scores, 100)
    assert {part.kind for part in parts} == {"removal", "down_weighting", "up_weighting"}
    np.testing.assert_allclose(sum(part.prediction for part in parts), (weights - 1) @ scores)
    assert sum(part.size for part in parts) == pytest.approx(np.abs(weights - 1).sum() / 100)


def test_the_interval_for_few_retrains_adds_the_seed_noise(calibration):
    prediction = 0.3 * calibration.scales
    target = calibration.predict(prediction, "removal", 0.05)
    few = calibration.predict(prediction, "removal", 0.05, number_of_seeds=4)
    noise = special.ndtri(0.95) * calibration.seed_noise / 2
    half = (target[2] - target[1]) / 2
    np.testing.assert_allclose((few[2] - few[1]) / 2, np.hypot(half, noise))


def test_warnings_name_what_the_bank_does_not_hold(baseline, calibration):
    assert calibration.warnings(edit_shape([0.0] * 50, EXAMPLES)) == []
    small = calibrate(baseline.evidence(4))
    assert "4 edits only" in small.warnings(edit_shape([0.0] * 50, EXAMPLES))[0]
    assert "no mixed edits" in calibration.warnings(edit_shape([0.0, 2.0] * 25, EXAMPLES))[0]
    assert "80.00%" in calibration.warnings(edit_shape([0.0] * 800, EXAMPLES))[0]


def test_held_out_predictions_come_from_calibrations_without_the_edit(evidence):
    spoiled = replace(
        evidence,
        retrains=replace(evidence.retrains, actual=evidence.retrains.actual.copy()),
    )
    spoiled.retrains.actual[7] *= 30
    np.testing.assert_allclose(cross_fit(spoiled).value[7], cross_fit(evidence).value[7], rtol=1e-9)
    with pytest.raises(ValueError, match="two edits"):
        cross_fit(evidence.subset([0]))


def test_missing_retrains_are_left_out(baseline, evidence):
    actual = evidence.retrains.actual.copy()
    actual[3], actual[:, 2][::5] = np.nan, np.nan
    partial = replace(evidence, retrains=replace(evidence.retrains, actual=actual))
    value, low, high = calibrate(partial).predict(
        evidence.predicted, evidence.kinds, evidence.sizes
    )
    assert np.isfinite([value, low, high]).all()


def test_one_outlying_edit_hardly_moves_the_calibration(evidence):
    actual = evidence.retrains.actual.copy()
    actual[7] += 5 * evidence.behaviour_scales
    spoiled = replace(evidence, retrains=replace(evidence.retrains, actual=actual))
    prediction = evidence.predicted[3]
    plain = fit_coefficients(evidence).predict(prediction, "removal", 0.05)[0]
    moved = fit_coefficients(spoiled).predict(prediction, "removal", 0.05)[0]
    assert np.median(np.abs(moved / plain - 1)) < 0.1


def test_a_calibration_survives_json(calibration, evidence):
    read = Calibration.from_json(calibration.to_json())
    np.testing.assert_array_equal(
        read.predict(evidence.predicted, evidence.kinds, evidence.sizes),
        calibration.predict(evidence.predicted, evidence.kinds, evidence.sizes),
    )


def test_the_curves_gradient_is_its_derivative():
    generator = np.random.default_rng(3)
    coefficients = np.array([0.9, 0.2, 0.1, -0.05, 0.1, 0.05, 0.2])
    for sign in (1.0, -1.0):
        points = covariates(
            generator.normal(size=1), np.array([0.08]), np.array([sign]), np.ones(1)
        )
        _, gradient, moved = curve(points, coefficients)
        numeric = optimize.approx_fprime(
            coefficients, lambda at, points=points: curve(points, at)[0][0], 1e-7
        )
        np.testing.assert_allclose(gradient[0], numeric, atol=1e-5)
        np.testing.assert_allclose(
            np.abs(gradient[0, 1]), np.abs(edit_gradient(points, coefficients, moved))
        )


def test_with_a_linear_truth_the_slope_is_that_of_generalised_least_squares():
    """Many edits of one kind with a common slope, no noise: the fit finds the regression slope."""
    generator = np.random.default_rng(5)
    predicted = generator.normal(size=(200, 3)) * np.sqrt(0.05)
    actual = 1.4 * predicted + 0.02 * generator.normal(size=predicted.shape)
    one = SimulatedBaseline(0, behaviours=3).evidence(2)
    bank = replace(
        one,
        kinds=("mixed",) * 200,
        sizes=np.full(200, 0.05),
        behaviour_scales=np.ones(3),
        predicted=predicted,
        retrains=summarise_retrains(np.repeat(actual[:, None], 2, axis=1)),
    )
    oracle = stats.linregress(predicted.ravel(), actual.ravel()).slope
    value, _, _ = fit_coefficients(bank).predict(np.ones(3), "mixed", 0.05)
    np.testing.assert_allclose(value, oracle, atol=0.02)
