"""The method with the smaller held-out error is chosen, with reasons; stacking only where it
helps."""

from dataclasses import replace

import numpy as np
import pytest

from tests.evidence.simulated_bank import SimulatedBaseline
from workers.evidence.conformal import calibrate, cross_fit
from workers.evidence.selection import (
    COMBINATION,
    MethodChoice,
    choose_methods,
    combined_evidence,
    left_out_combination,
    stack_weights,
)

EDITS, BEHAVIOURS = 60, 6
NAMES = [f"behaviour {k}" for k in range(BEHAVIOURS)]


def choose(errors, seed=0, noise=0.0, edits=EDITS):
    """Choices among methods whose errors have these deviations, (M,) or (M, K), independently."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(edits, BEHAVIOURS))
    deviations = np.broadcast_to(
        np.asarray(errors, float).reshape(len(errors), 1, -1), (len(errors), edits, BEHAVIOURS)
    )
    held_out = truth + deviations * generator.normal(size=deviations.shape)
    measured = truth + noise * generator.normal(size=truth.shape)
    return choose_methods(
        [f"method {m}" for m in range(len(errors))],
        NAMES,
        held_out,
        measured,
        np.full(truth.shape, noise**2),
        np.ones(truth.shape),
    )


def test_the_clearly_better_method_is_chosen_everywhere():
    assert {choice.method for choice in choose([2.0, 0.1])} == {"method 1"}


def test_errors_are_those_around_the_fresh_seed_mean_without_the_retrains_noise():
    found = choose([0.3, 1.0], noise=0.5, edits=4000)
    errors = np.array([choice.errors["method 0"] for choice in found])
    np.testing.assert_allclose(errors, 0.3, atol=0.05)
    np.testing.assert_allclose([c.errors["nothing"] for c in found], 1.0, atol=0.05)


def test_a_behaviour_can_have_a_method_of_its_own():
    errors = np.full((2, BEHAVIOURS), 0.1)
    errors[1] = 1.0
    errors[0, 2], errors[1, 2] = 1.0, 0.1
    found = choose(errors)
    assert [choice.method for choice in found] == [
        "method 1" if k == 2 else "method 0" for k in range(BEHAVIOURS)
    ]
    assert "clearly better here than method 0" in found[2].reason


def test_independent_errors_are_worth_combining_and_the_combination_predicts_better():
    found = choose([0.5, 0.5, 0.5], edits=100)
    assert sum(choice.method == COMBINATION for choice in found) >= BEHAVIOURS - 1
    for choice in found:
        assert choice.errors[COMBINATION] < min(choice.errors[f"method {m}"] for m in range(3))
    combined = next(choice for choice in found if choice.method == COMBINATION)
    assert f"{combined.weights['method 1']:.2f} × method 1" in combined.reason


def test_a_useless_companion_does_not_bring_a_combination():
    found = choose([0.1, 3.0], edits=40)
    assert {choice.method for choice in found} == {"method 0"}
    assert found[0].weights == {"method 0": 1.0, "method 1": 0.0}


def test_without_evidence_the_first_method_is_taken_on_faith():
    found = choose([1.0, 1.0], edits=0)
    assert {choice.method for choice in found} == {"method 0"}
    assert "on faith" in found[0].reason


def test_where_no_method_beats_predicting_nothing_the_reason_says_so():
    assert "no method beats predicting no change" in choose([5.0, 6.0])[0].reason


def test_stacking_weights_are_never_negative_and_start_from_the_best_method():
    generator = np.random.default_rng(1)
    truth = generator.normal(size=(50, 3))
    inputs = np.stack([truth + 0.1 * generator.normal(size=truth.shape), -truth])
    weights = stack_weights(inputs, truth, best=0)
    assert np.all(weights >= 0)
    np.testing.assert_allclose(weights[0], 1, atol=0.1)
    few = stack_weights(inputs[:, :1] * 0, truth[:1], best=0)
    np.testing.assert_allclose(few, [[1, 1, 1], [0, 0, 0]], atol=1e-6)


def test_the_order_of_edits_does_not_change_the_errors():
    generator = np.random.default_rng(2)
    truth = generator.normal(size=(30, 2))
    held_out = truth + generator.normal(size=(2, 30, 2)) * [[[0.2]], [[0.4]]]
    order = generator.permutation(30)
    zeros, ones = np.zeros((30, 2)), np.ones((30, 2))
    plain = choose_methods(["a", "b"], ["x", "y"], held_out, truth, zeros, ones)
    turned = choose_methods(["a", "b"], ["x", "y"], held_out[:, order], truth[order], zeros, ones)
    for one, other in zip(plain, turned, strict=True):
        assert one.errors["a"] == pytest.approx(other.errors["a"])
        assert one.advantages["b"] == pytest.approx(other.advantages["b"])


def test_missing_measurements_are_left_out():
    generator = np.random.default_rng(3)
    truth = generator.normal(size=(30, 2))
    truth[4], truth[::3, 1] = np.nan, np.nan
    held_out = np.stack([np.nan_to_num(truth), np.ones((30, 2))])
    found = choose_methods(
        ["a", "b"], ["x", "y"], held_out, truth, np.zeros((30, 2)), np.ones((30, 2))
    )
    assert [choice.method for choice in found] == ["a", "a"]
    assert found[1].errors["a"] == pytest.approx(0)


def test_a_choice_survives_json():
    (found, *_) = choose([2.0, 0.1])
    assert MethodChoice.from_json(found.to_json()) == found


def test_a_combination_is_judged_on_each_edit_by_weights_of_the_others():
    generator = np.random.default_rng(6)
    edits = 12
    truth = generator.normal(size=(edits, 2))
    held_out = truth + generator.normal(size=(2, edits, 2)) * [[[0.7]], [[0.8]]]
    ones = np.ones(truth.shape)
    left_out = left_out_combination(held_out, truth, 0 * truth, ones)
    best = int(np.argmin(((truth - held_out) ** 2).mean(axis=(1, 2))))
    for edit in range(edits):
        others = np.arange(edits) != edit
        weights = stack_weights(held_out[:, others], truth[others], best)
        np.testing.assert_allclose(
            left_out[edit], np.einsum("mk,mk->k", held_out[:, edit], weights), rtol=1e-9
        )
    found = choose_methods(["a", "b"], ["x", "y"], held_out, truth, 0 * truth, ones)
    for k, choice in enumerate(found):
        error = np.sqrt(np.mean((truth - left_out)[:, k] ** 2))
        assert choice.errors[COMBINATION] == pytest.approx(error)


def test_many_useless_methods_do_not_win_by_fit():
    generator = np.random.default_rng(7)
    names = [f"method {m}" for m in range(9)]
    methods = []
    for _ in range(30):
        truth = generator.normal(size=(24, 3))
        good = truth + 0.3 * generator.normal(size=truth.shape)
        held_out = np.concatenate([good[None], generator.normal(size=(8, 24, 3))])
        zeros = np.zeros(truth.shape)
        found = choose_methods(names, ["x", "y", "z"], held_out, truth, zeros, zeros + 1)
        methods += [choice.method for choice in found]
    assert methods.count("method 0") >= 0.95 * len(methods)


def test_a_combination_gets_calibrated_intervals_like_any_method():
    one = SimulatedBaseline(3, behaviours=4)
    truth = one.evidence(40)
    blurred = {}
    for name in ("a", "b"):
        blur = 0.6 * one.generator.normal(size=truth.predicted.shape)
        blurred[name] = replace(
            truth, predicted=truth.predicted + blur * one.scale * np.sqrt(truth.sizes)[:, None]
        )
    held_out = {name: cross_fit(part).value for name, part in blurred.items()}
    calibrations = {name: calibrate(part) for name, part in blurred.items()}
    units = one.scale * np.sqrt(truth.sizes)[:, None]
    choices = choose_methods(
        ["a", "b"],
        truth.behaviours,
        np.array(list(held_out.values())),
        truth.retrains.actual,
        truth.retrains.noise_variance,
        units,
    )
    together = calibrate(combined_evidence(blurred, held_out, calibrations, choices))
    value, low, high = together.predict(
        np.einsum(
            "mk,mek->ek",
            [[c.weights[name] for c in choices] for name in ("a", "b")],
            list(held_out.values()),
        ),
        truth.kinds,
        truth.sizes,
    )
    inside = (low <= truth.retrains.actual) & (truth.retrains.actual <= high)
    assert inside.mean() > 0.85
    assert np.all(low < value)


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="expected"):
        choose_methods(["a"], ["x"], np.zeros((2, 3, 1)), np.zeros((3, 1)), 0, 1)
