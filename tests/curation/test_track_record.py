"""The track record: all checked predictions, and the tests that were given up or declared
invalid."""

import math

import pytest

from curation.models import Baseline, Outcome, Verdict
from curation.queries.track_record import record_of
from curation.services import registrations, verdicts
from tests.running import run_jobs


@pytest.fixture
def three_tests(small_sample, owner):
    """One complete, one abandoned, one invalidated."""

    def registered(proposal):
        proposal.refresh_from_db()
        return registrations.register(
            proposal=proposal,
            primary_behaviour=proposal.baseline.behaviours.get(name__startswith="Negative"),
            number_of_seeds=2,
            smallest_effect=0.0,
            by=owner,
        )

    first, second = small_sample.proposals.order_by("created_at")
    complete, abandoned, invalid = registered(first), registered(second), registered(second)
    registrations.start(registration=complete, by=owner)
    run_jobs(small_sample)
    registrations.abandon(registration=abandoned, reason="No time.", by=owner)
    verdicts.invalidate(registration=invalid, reason="Wrong file.", by=owner)
    return complete


def test_given_up_and_invalid_tests_are_counted_without_flattering_the_numbers(
    small_sample, three_tests
):
    record = record_of(small_sample)
    assert record.number_of_tests == 1
    assert record.number_of_pairs == 8
    assert record.verdict_counts["Abandoned"] == 8
    assert record.verdict_counts["Invalidated"] == 8
    assert sum(record.verdict_counts.values()) == 24
    pairs = Verdict.objects.filter(registration=three_tests)
    inside = [v.predicted_low <= v.actual <= v.predicted_high for v in pairs]
    assert record.coverage.value == pytest.approx(sum(inside) / 8)
    same = [math.copysign(1, v.predicted) == math.copysign(1, v.actual) for v in pairs]
    assert record.sign_rate.value == pytest.approx(sum(same) / 8)
    assert not pairs.exclude(outcome__in=Outcome.values).exists()


def test_a_record_can_be_narrowed_to_baseline_method_and_family(small_sample, three_tests):
    baseline = Baseline.objects.get(project=small_sample)
    whole = record_of(small_sample)
    assert record_of(small_sample, baseline=baseline, method="replay") == whole
    assert record_of(small_sample, architecture="bag_of_embeddings") == whole
    for nothing in (
        record_of(small_sample, method="curvature"),
        record_of(small_sample, architecture="mlp"),
    ):
        assert nothing.number_of_pairs == 0
        assert nothing.verdict_counts == {}


def test_reading_a_record_costs_few_queries(
    small_sample, three_tests, django_assert_max_num_queries
):
    with django_assert_max_num_queries(6):
        record_of(small_sample)
