"""The pages that delete and restore: what they say, what they ask for, whom they serve."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from curation.models import AuditEntry, Deletion, Job, JobState, Project, Proposal
from tests.api.world import World

Browsers = Callable[[str], Client]


@pytest.fixture
def idle(world: World) -> World:
    Job.objects.update(state=JobState.SUCCEEDED)
    return world


def test_a_project_is_put_away_by_typing_its_name(idle: World, owner: Client) -> None:
    address = reverse("delete-project", args=[idle.project.pk])
    page = owner.get(address).content.decode()
    assert "Registrations" in page
    assert "registered plans" in page
    assert owner.post(address, {"typed_name": "Wor"}).status_code == 422
    answer = owner.post(address, {"typed_name": "World"}, follow=True)
    assert "World was archived" in answer.content.decode()
    assert owner.get(reverse("project", args=[idle.project.pk])).status_code == 404
    restored = owner.post(
        reverse("restore", args=[Deletion.objects.get(object_kind="project").pk]), follow=True
    )
    assert "World was restored" in restored.content.decode()
    assert owner.get(reverse("project", args=[idle.project.pk])).status_code == 200


def test_a_draft_is_deleted_by_one_button_and_restored(idle: World, owner: Client) -> None:
    address = reverse("delete-proposal", args=[idle.proposal.pk])
    assert "Delete the proposal drop two?" in owner.get(address).content.decode()
    owner.post(address)
    assert not Proposal.objects.filter(pk=idle.proposal.pk).exists()
    deletion = Deletion.objects.get(object_kind="proposal")
    owner.post(reverse("restore", args=[deletion.pk]))
    assert Proposal.objects.filter(pk=idle.proposal.pk).exists()
    written = AuditEntry.objects.filter(project=idle.project).values_list("action", flat=True)
    assert {"proposal deleted", "proposal restored"} <= set(written)


def test_the_page_says_why_something_cannot_be_deleted(idle: World, owner: Client) -> None:
    address = reverse("delete-baseline", args=[idle.baseline.pk])
    page = owner.get(address).content.decode()
    assert "2 registered plans depend on it" in page
    assert '<button type="submit" class="button-primary">Delete' not in page
    assert owner.post(address).status_code == 422
    assert Project.objects.get(pk=idle.project.pk).baselines.exists()


@pytest.mark.parametrize("role", ["editor", "reviewer", "viewer"])
def test_only_owners_see_and_restore_what_was_deleted(
    world: World, browser_of: Browsers, role: str
) -> None:
    browser = browser_of(role)
    assert "unwanted" not in browser.get(reverse("deleted")).content.decode()
    address = reverse("restore", args=[world.objects["deletion_id"]])
    assert browser.post(address).status_code == 403
    assert "unwanted" in browser_of("owner").get(reverse("deleted")).content.decode()
