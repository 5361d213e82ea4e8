"""The advised method: replay where it is affordable, curvature for middling sizes, projected
gradients for the largest; and costs that grow as the work does."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from workers.evidence.method_advice import AdviceLimits, TrainingSize, advise_method

SMALL = TrainingSize(
    trained_parameters=30_000, examples=2_000, steps=600, epochs=10, seeds=4, behaviours=6,
    training_seconds=3.0,
)  # fmt: skip
MEDIUM = replace(
    SMALL, trained_parameters=30_000_000, outputs=50_000, places=128, training_seconds=900.0
)
LARGE = replace(MEDIUM, trained_parameters=1_500_000_000, training_seconds=90_000.0)


def test_the_advice_follows_the_size():
    assert advise_method(SMALL).method == "replay"
    assert advise_method(MEDIUM).method == "ekfac"
    assert advise_method(LARGE).method == "projected"


def test_adapters_bring_replay_back():
    """The same model with few trained parameters, whose training takes as long."""
    adapters = replace(MEDIUM, trained_parameters=200_000, behaviours=1, training_seconds=300.0)
    assert advise_method(adapters).method == "replay"


def test_a_recipe_that_cannot_be_replayed_says_so():
    advice = advise_method(replace(SMALL, replayable=False))
    assert advice.method == "ekfac" and "cannot be replayed" in advice.reason


def test_an_unaffordable_size_is_said_to_be_one():
    advice = advise_method(LARGE, AdviceLimits(seconds=1.0))
    assert advice.method == "projected" and "more time or memory" in advice.reason


SIZES = st.builds(
    TrainingSize,
    trained_parameters=st.integers(1, 10**10),
    examples=st.integers(1, 10**8),
    steps=st.integers(1, 10**6),
    epochs=st.integers(1, 1_000),
    seeds=st.integers(1, 32),
    behaviours=st.integers(1, 1_000),
    outputs=st.integers(1, 10**6),
    places=st.integers(1, 8_192),
    optimizer=st.sampled_from(["adamw", "sgd"]),
    replayable=st.booleans(),
    training_seconds=st.none() | st.floats(0.001, 1e6),
)


@given(SIZES)
def test_every_size_has_one_advised_method_among_those_weighed(size):
    advice = advise_method(size)
    assert advice.method in [cost.method for cost in advice.costs]
    assert all(cost.seconds > 0 and cost.bytes > 0 for cost in advice.costs)
    assert not (advice.method == "replay" and not size.replayable)


@given(SIZES, st.sampled_from(["seeds", "behaviours", "trained_parameters"]))
def test_more_work_never_costs_less(size, field):
    larger = replace(size, **{field: 2 * getattr(size, field)})
    for less, more in zip(advise_method(size).costs, advise_method(larger).costs, strict=True):
        assert more.seconds >= less.seconds * 0.999
