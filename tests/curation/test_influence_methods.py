"""Every method that the learning code registers can be asked for by name, and every job that
computes one ends with scores or with a reason that a user can read."""

import pytest
from django.core.exceptions import ValidationError

from curation.models import Baseline, JobState
from curation.queries.influence_methods import KNOWN_METHODS, method_states, title_of
from curation.queries.method_choices import candidate_title, choices_of, errors_of
from curation.services import behaviours
from tests.running import run_jobs
from workers.influence.registry import METHODS, method_class


@pytest.fixture
def baseline(small_sample):
    return Baseline.objects.get(project=small_sample)


def test_the_known_methods_are_those_that_the_learning_code_registers():
    assert [one.name for one in KNOWN_METHODS] == list(METHODS)
    for one in KNOWN_METHODS:
        registered = method_class(one.name)
        assert (one.title, one.question) == (registered.title, registered.question)


def test_an_unknown_method_is_refused_with_the_known_ones(baseline, owner):
    with pytest.raises(ValidationError) as refusal:
        behaviours.attribute(baseline=baseline, method="curvatur", by=owner)
    (sentence,) = refusal.value.message_dict["method"]
    assert "There is no method “curvatur”" in sentence
    assert "curvature" in sentence


def test_all_methods_are_computed_and_compared_or_say_why_not(baseline, owner):
    wanted = [one.name for one in KNOWN_METHODS if one.name != "replay"]
    asked = {
        behaviours.attribute(baseline=baseline, method=name, by=owner).pk: name for name in wanted
    }
    jobs = {asked[job.pk]: job for job in run_jobs(baseline.project) if job.pk in asked}
    assert set(jobs) == set(wanted)
    failed = {name: job.error for name, job in jobs.items() if job.state != JobState.SUCCEEDED}
    assert failed == {"leave_one_out": "leave-one-out has a closed form for linear models only"}
    states = {row.method.name: row for row in method_states(baseline)}
    assert all(states[name].is_complete for name in METHODS if name not in failed)
    assert states["leave_one_out"].scored == 0
    for choice in choices_of(baseline).values():
        compared = errors_of(choice)
        assert {"replay", "shrunken_replay", "control_random", "nothing"} <= {
            row.name for row in compared
        }
        errors = [row.error for row in compared]
        assert errors == sorted(errors)
        assert sum(row.is_chosen for row in compared) == 1


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("ekfac", "EK-FAC"),
        ("replay, edit-aware", "Replay, edit-aware"),
        ("combination", "Combination of methods"),
        ("nothing", "No change"),
        ("an_old_method", "An old method"),
    ],
)
def test_methods_have_titles_for_people(name, title):
    assert candidate_title(name) == title
    if "," not in name and name not in ("combination", "nothing"):
        assert title_of(name) == title
