"""Suggestions take the most helpful edits, spare the guards, and do not promise the luck of the
top."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workers.evidence.shrinkage import moderated_variances, shrink_scores
from workers.evidence.suggestions import Suggestion, suggest_edits


def exact_scores(scores, seeds=2):
    """(S, N, K) scores on which all seeds agree, so that nothing is shrunk."""
    return np.repeat(np.asarray(scores, float)[None], seeds, axis=0)


def test_without_noise_the_top_is_the_top():
    scores = np.random.default_rng(0).normal(size=(50, 2))
    found = suggest_edits(exact_scores(scores), 0, 5)
    assert found.train_indices.tolist() == np.argsort(scores[:, 0])[:5].tolist()
    assert found.predicted_change == pytest.approx(-np.sort(scores[:, 0])[:5].sum())
    assert found.corrected_change == pytest.approx(found.predicted_change)
    assert np.all(np.diff(found.gains) <= 0)


def test_the_better_direction_and_the_weight_turn_the_choice():
    scores = np.random.default_rng(1).normal(size=(50, 1))
    removed = suggest_edits(exact_scores(scores), 0, 5, better=[-1])
    tripled = suggest_edits(exact_scores(scores), 0, 5, new_weight=3.0)
    assert removed.train_indices.tolist() == tripled.train_indices.tolist()
    assert tripled.predicted_change == pytest.approx(2 * np.sort(scores[:, 0])[-5:].sum())
    assert removed.predicted_change < 0


def test_only_edits_predicted_to_help_are_suggested():
    found = suggest_edits(exact_scores([[-1.0], [-2.0], [3.0], [4.0]]), 0, 4)
    assert found.train_indices.tolist() == [1, 0]
    assert suggest_edits(exact_scores([[1.0]]), 0, 4).train_indices.size == 0


@given(st.integers(0, 10_000))
@example(seed=323)
@settings(max_examples=25, deadline=None)
def test_guards_are_never_harmed_beyond_their_tolerance_and_little_gain_is_lost(seed):
    """Against the best of all subsets."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(10, 3))
    limits = {1: 0.5, 2: 1.0}
    found = suggest_edits(exact_scores(scores), 0, 4, guards=limits)
    chosen = found.train_indices
    change = -scores
    for column, limit in limits.items():
        assert -change[chosen, column].sum() <= limit + 1e-9
    best = max(
        change[list(subset), 0].sum()
        for size in range(5)
        for subset in itertools.combinations(range(10), size)
        if all(-change[list(subset), c].sum() <= limit for c, limit in limits.items())
    )
    largest = change[:, 0].max()
    assert found.predicted_change >= best - 3 * largest - 1e-9
    assert len(chosen) <= 4


def test_a_guard_reports_what_it_costs():
    scores = np.array([[-5.0, 4.0], [-4.0, -1.0], [-3.0, -1.0], [1.0, 0.0]])
    free = suggest_edits(exact_scores(scores), 0, 2)
    assert free.train_indices.tolist() == [0, 1]
    guarded = suggest_edits(exact_scores(scores), 0, 2, guards={1: 1.0})
    assert guarded.train_indices.tolist() == [1, 2]
    assert guarded.guards[0].predicted_change == pytest.approx(2.0)
    assert guarded.guards[0].binding
    loose = suggest_edits(exact_scores(scores), 0, 2, guards={1: 100.0})
    assert loose.train_indices.tolist() == [0, 1]
    assert not loose.guards[0].binding


def test_duplicates_go_together_and_each_counts_towards_the_budget():
    scores = np.array([[-3.0], [-3.0], [-3.0], [-2.5], [-2.0], [-1.0]])
    groups = [7, 7, 7, 1, 2, 3]
    assert suggest_edits(exact_scores(scores), 0, 4, group_ids=groups).train_indices.tolist() == [
        0,
        1,
        2,
        3,
    ]
    small = suggest_edits(exact_scores(scores), 0, 2, group_ids=groups)
    assert small.train_indices.tolist() == [3, 4]


def test_examples_that_must_stay_are_left_alone_with_their_duplicates():
    scores = np.array([[-3.0], [-3.0], [-2.0], [-1.0]])
    found = suggest_edits(
        exact_scores(scores), 0, 2, group_ids=[0, 0, 1, 2], allowed=[True, False, True, True]
    )
    assert found.train_indices.tolist() == [2, 3]


def test_the_corrected_change_is_what_the_top_really_brings():
    generator = np.random.default_rng(2)
    raw, corrected, real = [], [], []
    for _ in range(20):
        truth = generator.standard_t(4, size=600)
        noisy = truth + 2.0 * generator.normal(size=(4, 600))
        found = suggest_edits(noisy[:, :, None], 0, 30)
        raw.append(found.predicted_change)
        corrected.append(found.corrected_change)
        real.append(-truth[found.train_indices].sum())
    assert np.mean(raw) > 1.15 * np.mean(real)
    assert np.mean(corrected) == pytest.approx(np.mean(real), rel=0.06)


def test_shrinking_a_normal_truth_is_the_normal_posterior_mean():
    generator = np.random.default_rng(3)
    truth = 1.5 * generator.normal(size=8000)
    noisy = truth + generator.normal(size=(4, 8000))
    expected = noisy.mean(axis=0) * 1.5**2 / (1.5**2 + 1 / 4)
    np.testing.assert_allclose(shrink_scores(noisy), expected, rtol=0.05, atol=0.05)


def test_shrinking_keeps_rare_large_scores_and_drops_noise():
    generator = np.random.default_rng(4)
    truth = np.zeros(2000)
    truth[:10] = 20
    shrunk = shrink_scores(truth + generator.normal(size=(4, 2000)))
    np.testing.assert_allclose(shrunk[:10], 20, atol=2.5)
    assert np.abs(shrunk[10:]).mean() < 0.1


def test_shrinking_does_not_know_units_nor_the_order_of_seeds():
    scores = np.random.default_rng(5).standard_t(4, size=(4, 300))
    plain = shrink_scores(scores)
    np.testing.assert_allclose(shrink_scores(1e-4 * scores[::-1]), 1e-4 * plain, rtol=1e-6)
    np.testing.assert_allclose(shrink_scores(-scores), -plain, rtol=1e-6)


def test_large_sets_are_shrunk_as_small_ones_are():
    generator = np.random.default_rng(6)
    scores = generator.normal(size=(3, 50_000)) + generator.standard_t(3, size=50_000)
    whole, part = shrink_scores(scores), shrink_scores(scores[:, :15_000])
    np.testing.assert_allclose(whole[:15_000], part, atol=0.1)


def test_one_seed_leaves_scores_as_they_are():
    np.testing.assert_array_equal(shrink_scores([[1.0, -2.0, 3.0]]), [1, -2, 3])


def test_moderated_variances_recover_the_prior_they_were_drawn_from():
    generator = np.random.default_rng(7)
    prior_degrees, prior = 6.0, 4.0
    true = prior * prior_degrees / generator.chisquare(prior_degrees, size=40_000)
    observed = true * generator.chisquare(3, size=40_000) / 3
    expected = (prior_degrees * prior + 3 * observed) / (prior_degrees + 3)
    np.testing.assert_allclose(moderated_variances(observed, 3), expected, rtol=0.08)
    same = 2.0 * generator.chisquare(3, size=40_000) / 3
    assert moderated_variances(same, 3).std() < 0.35


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"new_weight": 1.0}, "no edit"),
        ({"behaviour": 5}, "no behaviour 5"),
        ({"guards": {1: -1.0}}, "at least 0"),
        ({"guards": {0: 1.0}}, "other behaviours"),
    ],
)
def test_an_impossible_wish_is_refused(changes, words):
    arguments = {"behaviour": 0, "number_of_edits": 2} | changes
    with pytest.raises(ValueError, match=words):
        suggest_edits(np.zeros((2, 4, 2)), **arguments)


def test_a_suggestion_survives_json():
    found = suggest_edits(np.random.default_rng(8).normal(size=(3, 20, 2)), 0, 3, guards={1: 0.1})
    assert Suggestion.from_json(found.to_json()).to_json() == found.to_json()
