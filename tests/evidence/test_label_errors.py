"""Likely label errors come first, whatever the units of the signals, and with reasons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.evidence.label_errors import LabelErrorRanking, rank_label_errors, signal_weights


def signals(count=400, wrong=20, seed=0):
    generator = np.random.default_rng(seed)
    is_wrong = np.arange(count) < wrong
    shift = np.where(is_wrong, 1.5, 0.0)
    return {
        "self_influence": np.exp(shift + generator.normal(size=(3, count))),
        "loss": shift + generator.normal(size=(3, count)),
        "margin": -shift + generator.normal(size=(3, count)),
    }


def precision(order, wrong=20):
    return np.mean(order[:wrong] < wrong)


def test_together_the_signals_find_more_than_each_alone():
    together = np.mean([precision(rank_label_errors(signals(seed=s)).order) for s in range(10)])
    for name in ("self_influence", "loss", "margin"):
        alone = np.mean(
            [precision(rank_label_errors({name: signals(seed=s)[name]}).order) for s in range(10)]
        )
        assert together > alone + 0.05


@given(st.integers(0, 100))
@settings(max_examples=15)
def test_a_monotone_change_of_a_signal_changes_nothing(seed):
    plain = signals(seed=seed)
    changed = {
        "self_influence": np.log(plain["self_influence"]),
        "loss": np.exp(plain["loss"]),
        "margin": 1000 * plain["margin"] - 7,
    }
    np.testing.assert_array_equal(rank_label_errors(plain).order, rank_label_errors(changed).order)


def test_permuting_examples_permutes_the_ranking():
    plain = signals()
    order = np.random.default_rng(1).permutation(400)
    moved = {name: rows[:, order] for name, rows in plain.items()}
    np.testing.assert_allclose(
        rank_label_errors(moved).score, rank_label_errors(plain).score[order]
    )


def test_one_wild_seed_cannot_carry_an_example_to_the_top():
    wild = signals(seed=2)
    wild["loss"][0, 399] = 1e9
    calm = rank_label_errors(signals(seed=2)).order.tolist().index(399)
    assert rank_label_errors(wild).order.tolist().index(399) > calm - 200
    assert rank_label_errors(wild).agreement[399] <= 1 / 3 + 1e-9


def test_reasons_name_the_signals_that_stand_out():
    values = np.linspace(0, 1, 100)
    ranking = rank_label_errors({"loss": values, "margin": values})
    assert ranking.reasons(99) == ("the model still gives this label a high loss",)
    assert ranking.reasons(0) == ("the model prefers another label (margin)",)
    assert ranking.reasons(50) == ()


def test_weights_of_the_signals_decide_between_them():
    values = np.linspace(0, 1, 100)
    both = {"loss": values, "margin": values}
    assert rank_label_errors(both, {"loss": 1.0, "margin": 0.2}).order[0] == 99
    assert rank_label_errors(both, {"loss": 0.2, "margin": 1.0}).order[0] == 0


def test_with_features_they_decide_and_without_them_the_training():
    assert signal_weights(["loss", "margin", "self_influence", "linear_model", "neighbours"]) == {
        "margin": 1.0,
        "neighbours": 2.0,
        "linear_model": 2.0,
    }
    weights = signal_weights(["loss", "self_influence", "neighbours"])
    assert weights == {"loss": 1.0, "neighbours": 1.0}
    values = np.linspace(0, 1, 100)
    ranking = rank_label_errors({"self_influence": values, "loss": -values}, {"loss": 1.0})
    assert ranking.order[0] == 0
    assert "self-influence" in ranking.reasons(99)[0]


@pytest.mark.parametrize(
    ("given_signals", "words"),
    [
        ({}, "at least one"),
        ({"mood": [1, 2]}, "not a signal"),
        ({"loss": [1, 2], "margin": [1, 2, 3]}, "margin has shape"),
        ({"loss": [1, np.nan]}, "NaN"),
    ],
)
def test_signals_that_cannot_be_ranked_are_refused(given_signals, words):
    with pytest.raises(ValueError, match=words):
        rank_label_errors(given_signals)


def test_a_ranking_survives_json():
    ranking = rank_label_errors(signals(30, 3))
    read = LabelErrorRanking.from_json(ranking.to_json())
    assert read.reasons(0) == ranking.reasons(0)
    np.testing.assert_array_equal(read.order, ranking.order)
