"""The ladder's gaps are named, add up, and admit when they are noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.evidence.ladder import RUNGS, Ladder, climb

NAMES = [rung.name for rung in RUNGS]


@given(st.dictionaries(st.sampled_from(NAMES), st.floats(-1e6, 1e6), min_size=2))
def test_gaps_add_up_to_the_whole_difference(values):
    ladder = climb(values)
    total = sum(gap.amount for gap in ladder.gaps)
    scale = sum(abs(value) for value in values.values()) + 1
    assert total == pytest.approx(ladder.difference, abs=1e-9 * scale)
    assert len(ladder.gaps) == len(values) - 1
    shares = sum(gap.share for gap in ladder.gaps)
    assert shares == pytest.approx(1.0) or all(gap.amount == 0 for gap in ladder.gaps)


def test_each_gap_has_its_name_from_bae_2022():
    ladder = climb({name: float(place) for place, name in enumerate(NAMES)})
    assert [gap.name for gap in ladder.gaps] == [
        "solver error",
        "linearisation",
        "proximity",
        "non-convergence",
        "warm start",
        "seed",
    ]


def test_skipped_rungs_lend_their_names_to_the_gap_across_them():
    ladder = climb({"influence_estimate": 1.0, "warm_start": 2.0, "fresh_seeds": 2.5})
    assert ladder.gaps[0].name == (
        "solver error and linearisation and proximity and non-convergence"
    )
    assert ladder.largest_gap == ladder.gaps[0].name


def test_where_all_rungs_agree_the_ladder_says_so():
    ladder = climb(dict.fromkeys(NAMES, 0.5), behaviour="accuracy")
    assert ladder.largest_gap == ""
    assert "agree" in ladder.summary
    assert all("changes nothing" in gap.sentence for gap in ladder.gaps)


def test_a_gap_within_its_noise_is_not_told_as_a_finding():
    ladder = climb(
        {"cold_same_seed": 1.0, "fresh_seeds": 1.3}, {"cold_same_seed": 0.1, "fresh_seeds": 0.2}
    )
    assert ladder.gaps[0].standard_error == pytest.approx(np.hypot(0.1, 0.2))
    assert "within its own noise" in ladder.gaps[0].sentence
    sure = climb({"cold_same_seed": 1.0, "fresh_seeds": 1.3}, {"fresh_seeds": 0.01})
    assert sure.gaps[0].sentence.startswith("Seed moves the effect by +0.3:")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"warm_start": 1.0}, "two measured"),
        ({"warm_start": 1.0, "roof": 1.0}, "not a rung"),
        ({"warm_start": 1.0, "fresh_seeds": float("nan")}, "nan"),
    ],
)
def test_a_ladder_that_cannot_stand_is_refused(values, words):
    with pytest.raises(ValueError, match=words):
        climb(values)


def test_a_ladder_survives_json():
    ladder = climb({"warm_start": 1.0, "fresh_seeds": 2.0})
    assert Ladder.from_json(ladder.to_json()).to_json() == ladder.to_json()
