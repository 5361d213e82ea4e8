"""The verdict follows the registered rule, and its error rates are the stated ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workers.evidence import verdicts
from workers.evidence.power import paired_test_power
from workers.evidence.verdicts import DecisionRule, decide, gatekeeping_holm, holm


def rule(behaviours=1, seeds=6, interest=0.0, **changes):
    return DecisionRule(
        number_of_seeds=seeds,
        primary_behaviour=0,
        smallest_effect_of_interest=np.full(behaviours, interest),
        **changes,
    )


def seeds_with(mean, spread=0.1, seeds=6):
    """Per-seed effects with exactly this mean and standard deviation, one column a mean."""
    shape = np.linspace(-1, 1, seeds)
    shape = shape / shape.std(ddof=1)
    return np.asarray(mean, float) + spread * shape[:, None]


def verdict_of(effects, predicted, low, high, a_rule=None, **changes):
    effects = np.asarray(effects, float)
    a_rule = a_rule or rule(effects.shape[1])
    return decide(
        a_rule,
        predicted=predicted,
        predicted_low=low,
        predicted_high=high,
        unedited=np.zeros_like(effects),
        edited=effects,
        **changes,
    )


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (1.0, verdicts.SUPPORTED),
        (3.0, verdicts.DIRECTION_ONLY),
        (0.2, verdicts.DIRECTION_ONLY),
        (-1.0, verdicts.CONTRADICTED),
        (0.01, verdicts.INCONCLUSIVE),
    ],
)
def test_each_verdict_where_the_rule_says_so(mean, verdict):
    assert verdict_of(seeds_with([mean]), [1.0], [0.5], [1.5])[0].verdict == verdict


@pytest.mark.parametrize("mean", [1.0, 3.0, -1.0, 0.01])
def test_turning_all_signs_leaves_the_verdict(mean):
    there = verdict_of(seeds_with([mean]), [1.0], [0.5], [1.5])[0]
    back = verdict_of(seeds_with([-mean]), [-1.0], [-1.5], [-0.5])[0]
    assert there.verdict == back.verdict
    assert (there.claim, back.claim) == (verdicts.INCREASE, verdicts.DECREASE)


@given(st.floats(-2, 2), st.floats(0.01, 3), st.floats(0.001, 1000), st.randoms())
@settings(max_examples=60)
def test_units_and_the_order_of_seeds_do_not_matter(mean, spread, unit, random):
    effects = seeds_with([mean, 1.0], spread)
    order = list(range(6))
    random.shuffle(order)
    plain = verdict_of(effects, [1.0, 1.0], [0.5, 0.5], [1.5, 1.5])
    turned = verdict_of(unit * effects[order], [unit, unit], [0.5 * unit] * 2, [1.5 * unit] * 2)
    assert [v.verdict for v in plain] == [v.verdict for v in turned]


def test_the_p_value_is_that_of_scipys_paired_test():
    generator = np.random.default_rng(1)
    edited, unedited = generator.normal(0.3, 1, size=(2, 6, 2))
    found = decide(
        rule(2),
        predicted=[1, 1],
        predicted_low=[0, 0],
        predicted_high=[2, 2],
        unedited=unedited,
        edited=edited,
    )
    oracle = stats.ttest_rel(edited, unedited)
    np.testing.assert_allclose([v.p_value for v in found], oracle.pvalue)
    np.testing.assert_allclose([v.low for v in found], oracle.confidence_interval(0.9).low)


def test_the_p_value_of_no_effect_is_that_of_two_one_sided_tests():
    effects = seeds_with([0.3], 0.4)
    found = verdict_of(effects, [0.1], [-1], [1], rule(interest=1.0))[0]
    above = stats.ttest_1samp(effects, -1.0, alternative="greater").pvalue[0]
    below = stats.ttest_1samp(effects, 1.0, alternative="less").pvalue[0]
    assert found.claim == verdicts.NO_EFFECT
    assert found.p_value == pytest.approx(2 * max(above, below))


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (0.1, verdicts.SUPPORTED),
        (0.95, verdicts.INCONCLUSIVE),
        (2.0, verdicts.CONTRADICTED),
        (-2.0, verdicts.CONTRADICTED),
    ],
)
def test_a_prediction_below_the_smallest_effect_of_interest_claims_no_effect(mean, verdict):
    found = verdict_of(seeds_with([mean], 0.2), [0.2], [-0.5], [0.5], rule(interest=1.0))[0]
    assert found.verdict == verdict


def test_an_effect_shown_to_be_too_small_contradicts_a_larger_prediction():
    found = verdict_of(seeds_with([0.0]), [2.0], [1.0], [3.0], rule(interest=1.0))[0]
    assert found.verdict == verdicts.CONTRADICTED
    found = verdict_of(seeds_with([0.3]), [2.0], [0.1], [3.0], rule(interest=1.0))[0]
    assert found.verdict == verdicts.DIRECTION_ONLY


def test_a_prediction_of_exactly_nothing_is_never_a_direction():
    found = verdict_of(seeds_with([1.0]), [0.0], [-2.0], [2.0])[0]
    assert found.claim == verdicts.NO_EFFECT
    assert found.verdict == verdicts.CONTRADICTED


def test_behind_an_undecided_primary_behaviour_nothing_is_read():
    effects = np.hstack([seeds_with([0.0]), seeds_with([1.0])])
    found = verdict_of(effects, [1, 1], [0.5, 0.5], [1.5, 1.5])
    assert [v.verdict for v in found] == [verdicts.INCONCLUSIVE, verdicts.INCONCLUSIVE]
    assert "primary" in found[1].reason


def test_missing_seeds_are_not_finished_and_tell_the_progress():
    effects = seeds_with([1.0])
    effects[4:] = np.nan
    found = verdict_of(effects, [1.0], [0.5], [1.5])[0]
    assert found.verdict == verdicts.NOT_FINISHED
    assert found.reason == "10 of 12 retrains are complete"
    few = verdict_of(seeds_with([1.0])[:4], [1.0], [0.5], [1.5], rule())[0]
    assert few.verdict == verdicts.NOT_FINISHED


def test_a_broken_plan_or_a_diverged_retrain_invalidates_whatever_the_numbers_say():
    found = verdict_of(
        seeds_with([1.0]), [1.0], [0.5], [1.5], invalidated=["the probe split was edited"]
    )[0]
    assert (found.verdict, found.reason) == (verdicts.INVALIDATED, "the probe split was edited")
    effects = seeds_with([1.0])
    effects[2] = np.inf
    found = verdict_of(effects, [1.0], [0.5], [1.5])[0]
    assert (found.verdict, found.reason) == (
        verdicts.INVALIDATED,
        "a retrain of the edited arm diverged",
    )


def test_the_placebo_is_reported_and_can_be_required():
    effects = seeds_with([1.0])
    same = effects + seeds_with([0.0], 0.05)[::-1]
    reported = verdict_of(effects, [1.0], [0.5], [1.5], placebo=same)[0]
    assert reported.verdict == verdicts.SUPPORTED
    assert reported.specific is False
    strict = rule(placebo_must_differ=True)
    assert (
        verdict_of(effects, [1.0], [0.5], [1.5], strict, placebo=same)[0].verdict
        == verdicts.DIRECTION_ONLY
    )
    nothing = seeds_with([0.0])[::-1]
    found = verdict_of(effects, [1.0], [0.5], [1.5], strict, placebo=nothing)[0]
    assert (found.verdict, found.specific) == (verdicts.SUPPORTED, True)
    assert found.placebo_difference == pytest.approx(1.0)


def test_rounding_of_float32_is_not_an_effect():
    unedited = np.full((6, 1), 100.0)
    edited = unedited + 1e-6
    found = decide(
        rule(),
        predicted=[1e-6],
        predicted_low=[0],
        predicted_high=[1],
        unedited=unedited,
        edited=edited,
    )
    assert found[0].verdict == verdicts.INCONCLUSIVE


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_closed_test_of_bonferroni_rejects(p_values):
    """Holm is the closure of Bonferroni: a hypothesis falls if every intersection with it falls."""
    values = np.array(p_values)
    count = len(values)
    closed = np.zeros(count)
    for members in range(1, 2**count):
        inside = np.array([bool(members >> k & 1) for k in range(count)])
        intersection = min(1.0, values[inside].min() * inside.sum())
        closed[inside] = np.maximum(closed[inside], intersection)
    np.testing.assert_allclose(holm(values), closed)


def test_the_gate_tests_the_primary_behaviour_uncorrected_and_the_others_by_holm():
    adjusted = gatekeeping_holm([0.03, 0.01, 0.04], primary=0)
    np.testing.assert_allclose(adjusted, [0.03, 0.03, 0.04])
    np.testing.assert_allclose(gatekeeping_holm([0.03, 0.01, 0.02], 1), [0.04, 0.01, 0.04])


def _simulate(true_effects, trials, seeds=5, interest=0.0, predicted=0.8):
    """Verdicts of many simulated tests with normal seed noise of 1 for each behaviour."""
    generator = np.random.default_rng(7)
    count = len(true_effects)
    a_rule = rule(count, seeds, interest)
    found = []
    for _ in range(trials):
        shared = generator.normal(size=(seeds, count))
        effects = np.asarray(true_effects) + 0.6 * generator.normal(size=(seeds, count))
        effects += 0.8 * generator.normal(size=(seeds, 1))
        found.append(
            decide(
                a_rule,
                predicted=np.full(count, predicted),
                predicted_low=np.full(count, -9.0),
                predicted_high=np.full(count, 9.0),
                unedited=shared,
                edited=shared + effects,
            )
        )
    return [[verdict.verdict for verdict in one] for one in found]


def test_without_any_effect_false_support_stays_below_the_stated_level():
    trials = 4000
    found = _simulate([0.0] * 5, trials)
    false_support = np.mean([verdicts.SUPPORTED in one for one in found])
    assert false_support <= 0.1 + 3 * np.sqrt(0.09 / trials)
    contradicted = np.mean([verdicts.CONTRADICTED in one for one in found])
    assert contradicted <= 0.1 + 3 * np.sqrt(0.09 / trials)


def test_with_a_real_primary_effect_false_support_of_the_others_stays_below_the_level():
    trials = 4000
    found = _simulate([5.0, 0.0, 0.0, 0.0], trials)
    false_support = np.mean([verdicts.SUPPORTED in one[1:] for one in found])
    assert false_support <= 0.1 + 3 * np.sqrt(0.09 / trials)


def test_a_true_effect_is_supported_as_often_as_power_promises():
    trials = 4000
    found = _simulate([1.2], trials, seeds=6)
    promised = float(paired_test_power(1.2, 1.0, 6, 0.1))
    achieved = np.mean([one[0] == verdicts.SUPPORTED for one in found])
    assert abs(achieved - promised) < 4 * np.sqrt(promised * (1 - promised) / trials)


def test_the_sentence_states_the_parameters_that_decide():
    text = rule(2, seeds=8, interest=0.5, alpha=0.05, placebo_must_differ=True).sentence(
        ["accuracy of class A", "B"]
    )
    for part in (
        "8 fresh seeds",
        "95%",
        "5%",
        "“accuracy of class A”",
        "Holm",
        "placebo",
        "smallest",
    ):
        assert part in text
    plain = rule(2).sentence()
    assert "placebo" not in plain
    assert "smallest effect of interest" not in plain


def test_rules_and_verdicts_survive_json():
    a_rule = rule(2, interest=0.5)
    assert DecisionRule.from_json(a_rule.to_json()).to_json() == a_rule.to_json()
    found = verdict_of(seeds_with([1.0]), [1.0], [0.5], [1.5])[0]
    assert verdicts.BehaviourVerdict.from_json(found.to_json()).to_json() == found.to_json()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"number_of_seeds": 1}, "at least 2"),
        ({"alpha": 1.0}, "alpha"),
        ({"primary_behaviour": 3}, "primary"),
        ({"smallest_effect_of_interest": np.array([-1.0])}, "non-negative"),
    ],
)
def test_a_rule_that_cannot_decide_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        DecisionRule(
            **(
                {
                    "number_of_seeds": 4,
                    "primary_behaviour": 0,
                    "smallest_effect_of_interest": np.zeros(1),
                }
                | changes
            )
        )
