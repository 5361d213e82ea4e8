"""Explaining a miss: the ladder of a complete test, from request to waterfall."""

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from curation.models import JobKind, JobState, Ladder, Membership, Registration, Role
from curation.queries.ladders import ladder_of
from curation.services import ladders, registrations
from tests.running import run_jobs
from workers.evidence.ladder import RUNGS
from workers.influence import response


@pytest.fixture
def plain_static_files(settings):
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }


@pytest.fixture
def test_of_edits(small_sample, owner) -> Registration:
    Membership.objects.create(project=small_sample, user=owner, role=Role.EDITOR)
    proposal = small_sample.proposals.order_by("created_at").first()
    return registrations.register(
        proposal=proposal,
        primary_behaviour=proposal.baseline.behaviours.get(name__startswith="Negative"),
        number_of_seeds=2,
        smallest_effect=0.0,
        by=owner,
    )


def finish(registration: Registration, owner) -> None:
    registrations.start(registration=registration, by=owner)
    run_jobs(registration.project)
    registration.refresh_from_db()


def test_values_stay_hidden_until_the_test_is_complete(test_of_edits, owner):
    with pytest.raises(ValidationError, match="still hidden"):
        ladders.request_ladder(registration=test_of_edits, by=owner)


def test_the_ladder_leads_from_influence_to_the_verdict_and_is_drawn(
    test_of_edits, owner, plain_static_files, monkeypatch
):
    monkeypatch.setattr(response, "MOST_ITERATIONS", 10)
    browser = Client()
    browser.force_login(owner)
    finish(test_of_edits, owner)
    address = f"/registrations/{test_of_edits.pk}/"
    assert "Measure the ladder" in browser.get(address).content.decode()
    browser.post(f"{address}ladder/")
    assert "is being measured" in browser.get(address).content.decode()
    with pytest.raises(ValidationError, match="being measured"):
        ladders.request_ladder(registration=test_of_edits, by=owner)
    (job,) = run_jobs(test_of_edits.project)
    assert (job.kind, job.state) == (JobKind.LADDER, JobState.SUCCEEDED)

    for verdict in test_of_edits.verdicts.select_related("behaviour"):
        found = ladder_of(test_of_edits, verdict.behaviour)
        assert [gap.upper for gap in found.gaps] == [rung.name for rung in RUNGS[1:]]
        assert found.end == pytest.approx(verdict.actual, rel=1e-6)
    page = browser.get(address).content.decode()
    assert "From the influence function to the retrains" in page
    assert "Proximity" in page
    assert "Measure the ladder" not in page
    assert Ladder.objects.get().notes
