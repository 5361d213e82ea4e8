"""The bank's plan covers what users do, can grow, and never repeats a proposal under test."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.evidence import bank
from workers.evidence.bank import (
    BankEdit,
    edit_sha256,
    edit_shape,
    plan_bank,
    seed_pool_size,
    seeds_in_turn,
)

SCORES = np.random.default_rng(0).normal(size=(400, 3))


def hashes(plan):
    return [edit.sha256 for edit in plan]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_a_longer_plan_starts_with_the_shorter_one(first, more, seed):
    shorter = plan_bank(SCORES, first, seed=seed)
    longer = plan_bank(SCORES, first + more, seed=seed)
    assert hashes(longer)[:first] == hashes(shorter)
    assert len(set(hashes(longer))) == first + more


def test_every_prefix_is_balanced_over_kinds_sizes_selections_and_behaviours():
    plan = plan_bank(SCORES, 48)
    for length in (12, 24, 31, 48):
        prefix = plan[:length]
        for levels, values in (
            (4, [(edit.kind, edit.weights[0]) for edit in prefix]),
            (6, [edit.size_fraction for edit in prefix]),
            (4, [edit.direction for edit in prefix]),
        ):
            counts = Counter(values)
            assert len(counts) == levels
            assert max(counts.values()) - min(counts.values()) <= 1


def test_an_edit_has_the_size_and_weight_of_its_kind():
    for edit in plan_bank(SCORES, 24):
        assert len(edit.train_indices) == round(edit.size_fraction * 400)
        assert len(set(edit.train_indices.tolist())) == len(edit.train_indices)
        assert set(bank.kinds_of(edit.weights)) == {edit.kind}


@pytest.mark.parametrize("sign", [1, -1])
def test_harmful_and_helpful_follow_the_better_direction(sign):
    better = np.full(3, sign)
    for edit in plan_bank(SCORES, 48, better=better):
        if edit.direction in (bank.HARMFUL, bank.HELPFUL):
            gains = sign * SCORES[:, edit.behaviour]
            towards = 1 if edit.direction == bank.HELPFUL else -1
            ranks = np.argsort(np.argsort(-towards * gains))
            assert ranks[edit.train_indices].max() < 2 * len(edit.train_indices)


def test_a_forbidden_edit_is_drawn_again_and_leaves_the_others():
    plan = plan_bank(SCORES, 20)
    again = plan_bank(SCORES, 20, forbidden_edits={plan[7].sha256})
    assert plan[7].sha256 not in hashes(again)
    assert hashes(again)[:7] + hashes(again)[8:] == hashes(plan)[:7] + hashes(plan)[8:]


def test_without_scores_all_edits_are_random():
    plan = plan_bank(None, 10, number_of_examples=50)
    assert {edit.direction for edit in plan} == {bank.RANDOM}
    assert {edit.behaviour for edit in plan} == {None}


def test_a_split_too_small_for_so_many_edits_is_said():
    with pytest.raises(ValueError, match="no new edit"):
        plan_bank(None, 10, sizes=[0.1], kinds=[(bank.REMOVAL, 0.0)], number_of_examples=5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": [1.5]}, "fractions"),
        ({"kinds": [(bank.REMOVAL, 0.5)]}, "0.5 is not removal"),
        ({"kinds": [(bank.UP_WEIGHTING, 1.0)]}, "is not up_weighting"),
        ({"kinds": []}, "at least one kind"),
    ],
)
def test_an_impossible_design_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        plan_bank(SCORES, 2, **changes)


@given(st.permutations(range(8)))
def test_the_hash_of_an_edit_ignores_order_and_weights_of_one(order):
    indices, weights = np.arange(8) * 3, np.array([0, 0.5, 2, 3, 1, 0, 1, 0.25])
    expected = edit_sha256(indices[weights != 1], weights[weights != 1])
    assert edit_sha256(indices[order], weights[order]) == expected
    assert edit_sha256(indices, np.where(weights == 3, 2.5, weights)) != expected


def test_an_edit_that_names_an_example_twice_has_no_hash():
    with pytest.raises(ValueError, match="twice"):
        edit_sha256([1, 1], [0.0, 2.0])


def test_the_shape_of_an_edit_is_its_kind_and_the_weight_it_moves():
    assert edit_shape([0, 0, 1], 100).to_json() == {
        "kind": "removal",
        "size": 0.02,
        "size_fraction": 0.02,
    }
    shape = edit_shape([3, 3], 100)
    assert (shape.kind, shape.size) == (bank.UP_WEIGHTING, 0.04)
    assert edit_shape([0, 2], 10).kind == bank.MIXED


def test_an_edit_survives_json():
    edit = plan_bank(SCORES, 3)[2]
    assert BankEdit.from_json(edit.to_json()).sha256 == edit.sha256


def test_larger_banks_take_more_seeds_within_bounds():
    assert seed_pool_size(2, 2) == 4
    assert seed_pool_size(24, 2) == 8
    assert seed_pool_size(48, 2) == seed_pool_size(500, 2) == 16
    assert seed_pool_size(1, 20) == 20


def test_seeds_take_turns_and_no_edit_gets_one_twice():
    pool = list(range(100, 107))
    taken = [seeds_in_turn(pool, 3, position) for position in range(14)]
    assert all(len(set(seeds)) == 3 for seeds in taken)
    counts = np.bincount(np.concatenate(taken) - 100)
    assert counts.max() - counts.min() <= 1
