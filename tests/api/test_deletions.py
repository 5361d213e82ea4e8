"""Deleting and restoring by the API, and by the client that stands on it."""

import pytest

from curation.models import Job, JobState, Proposal

pytestmark = pytest.mark.django_db


@pytest.fixture
def idle(world):
    Job.objects.update(state=JobState.SUCCEEDED)
    return world


def test_what_was_deleted_is_listed_and_restored(idle, api):
    made = api.send("DELETE", f"/proposals/{idle.proposal.pk}")
    assert made.status_code == 200
    assert made.data["object_kind"] == "proposal"
    assert api.get(f"/proposals/{idle.proposal.pk}").status_code == 404
    listed = api.get("/deletions").data["items"]
    assert made.data["id"] in {one["id"] for one in listed}
    assert api.post(f"/deletions/{made.data['id']}/restore", {}).status_code == 204
    assert api.get(f"/proposals/{idle.proposal.pk}").status_code == 200
    assert api.post(f"/deletions/{made.data['id']}/restore", {}).status_code == 404


def test_registered_evidence_is_kept(idle, api):
    answer = api.send("DELETE", f"/datasets/{idle.dataset.pk}")
    assert answer.status_code == 422
    assert "2 registered plans depend on it" in answer.data["detail"]
    archived = api.send("DELETE", f"/projects/{idle.project.pk}").data
    assert archived["purge_after"] is None
    assert archived["counts"]["registrations"] == 2


def test_only_owners_see_deletions(idle, api_of):
    assert api_of(idle.people["editor"]).get("/deletions").data["items"] == []
    assert api_of(idle.people["stranger"]).get("/deletions").data["items"] == []
    assert Proposal.objects.count() == 3
