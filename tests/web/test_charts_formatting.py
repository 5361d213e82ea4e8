"""Numbers carry sign, unit and no digit that their interval does not support."""

from datetime import UTC, datetime, timedelta

import pytest

from curation.web import formatting as f


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0312, "+0.0312"),
        (-0.0312, "−0.0312"),
        (0.0, "0.00"),
        (1234.5, "+1,234"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_change_always_shows_its_sign(value: float | None, written: str) -> None:
    assert f.signed(value) == written


def test_a_rounded_zero_has_no_sign() -> None:
    assert f.signed(-0.0004, 2) == "0.00"
    assert f.signed(0.0004, 2) == "0.00"


def test_digits_follow_the_width_of_the_interval() -> None:
    assert f.estimate(0.031234, 0.0119, 0.0502, "nats") == "+0.031\u00a0nats (+0.012 to +0.050)"
    assert f.estimate(31.234, 11.9, 50.2, "nats") == "+31\u00a0nats (+12 to +50)"


def test_differences_of_probabilities_are_points() -> None:
    assert f.change(0.0123, "probability") == "+1.23\u00a0points"
    assert f.with_unit(0.631, "probability") == "63.1%"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.042, "42 ms"),
        (3.21, "3.2 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3900, "1 h 05 min"),
        (200000, "2 d 7 h"),
        (None, "–"),
        (float("inf"), "–"),
    ],
)
def test_durations_use_their_two_largest_units(seconds: float | None, written: str) -> None:
    assert f.duration(seconds).replace("\u00a0", " ") == written


def test_relative_times_look_both_ways() -> None:
    now = datetime(2025, 6, 1, tzinfo=UTC)
    assert f.relative_time(now - timedelta(minutes=3), now) == "3 minutes ago"
    assert f.relative_time(now + timedelta(days=1), now) == "in 1 day"
    assert f.relative_time(now, now) == "just now"


@pytest.mark.parametrize(
    ("value", "written"),
    [(7, "7"), (1000, "1k"), (12_345, "12k"), (1_250_000, "1.2M"), (10**9, "1B")],
)
def test_compact_counts_fit_a_chip(value: int, written: str) -> None:
    assert f.compact_count(value) == written


def test_sizes_are_in_decimal_units() -> None:
    assert f.file_size(999) == "999\u00a0bytes"
    assert f.file_size(1_200_000) == "1.2\u00a0MB"


def test_lists_in_words() -> None:
    assert f.in_words(["a", "b", "c"]) == "a, b and c"
