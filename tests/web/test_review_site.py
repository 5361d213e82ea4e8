"""The review site: staff alone, results read-only, reviews with a reason, stuck jobs, quotas."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from curation.models import (
    Arm,
    AuditEntry,
    Job,
    JobState,
    Project,
    Registration,
    RegistrationState,
    Retrain,
)
from curation.services import registrations, verdicts
from tests.api.world import World

SECRET = 123.456789


@pytest.fixture
def staff(world: World) -> Client:
    user = get_user_model().objects.create_superuser("operator", password="a long pass phrase")
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def running(world: World) -> Registration:
    """The world's test with all retrains but the last."""
    registrations.start(registration=world.registration, by=world.owner)
    add_retrains(world, world.registration.seeds[:-1])
    world.registration.refresh_from_db()
    return world.registration


@pytest.fixture
def complete(world: World, running: Registration) -> Registration:
    add_retrains(world, running.seeds[-1:])
    verdicts.conclude(registration=running)
    running.refresh_from_db()
    return running


def add_retrains(world: World, seeds: list[int]) -> None:
    for seed in seeds:
        for arm in Arm:
            value = SECRET + (1.0 if arm == Arm.EDITED else 0.0) + seed / 100
            Retrain.objects.create(
                registration=world.registration, arm=arm, seed=seed,
                values={str(world.behaviour.pk): value},
            )  # fmt: skip


def act(staff: Client, model: str, action: str, rows: list[object], **values: object) -> str:
    """Tick rows, choose an action and confirm it."""
    address = reverse(f"admin:curation_{model}_changelist")
    sent = {"action": action, "_selected_action": [str(row) for row in rows]} | values
    return staff.post(address, sent, follow=True).content.decode()


def test_it_is_for_staff_alone(world: World, owner: Client) -> None:
    for address in ("/admin/", reverse("admin:curation_retrain_changelist")):
        assert owner.get(address).status_code == 302
        assert Client().get(address).status_code == 302


def test_every_list_and_every_row_opens_under_the_content_policy(
    complete: Registration, staff: Client
) -> None:
    for model, pages in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        listing = staff.get(reverse(f"{name}_changelist"))
        assert listing.status_code == 200, model
        assert "<script>" not in listing.content.decode()
        for row in pages.get_queryset(listing.wsgi_request)[:1]:
            assert staff.get(reverse(f"{name}_change", args=[row.pk])).status_code == 200, model


def test_results_cannot_be_added_changed_or_deleted(complete: Registration, staff: Client) -> None:
    for name in ("retrain", "registration", "verdict", "deviation", "auditentry", "job"):
        assert staff.get(reverse(f"admin:curation_{name}_add")).status_code == 403
    retrain = Retrain.objects.first()
    assert retrain is not None
    for page in ("change", "delete"):
        address = reverse(f"admin:curation_retrain_{page}", args=[retrain.pk])
        assert staff.post(address, {"seed": 9, "post": "yes"}).status_code == 403
    assert complete.retrains.count() == 6


def test_values_are_hidden_while_the_plan_is_not_complete(
    running: Registration, staff: Client
) -> None:
    retrain = running.retrains.first()
    assert retrain is not None
    text = staff.get(reverse("admin:curation_retrain_change", args=[retrain.pk])).content.decode()
    assert "Hidden until every planned retrain has finished" in text
    assert "123.4" not in text


def test_an_invalidation_asks_for_its_reason_and_keeps_the_result(
    complete: Registration, staff: Client
) -> None:
    retrain = complete.retrains.get(arm=Arm.EDITED, seed=complete.seeds[0])
    asked = act(staff, "retrain", "invalidate", [retrain.pk])
    assert "Reason" in asked
    retrain.refresh_from_db()
    assert retrain.accepted
    act(staff, "retrain", "invalidate", [retrain.pk], confirmed="1", reason="The disk was full.")
    retrain.refresh_from_db()
    assert (retrain.accepted, retrain.review_reason) == (False, "The disk was full.")
    again = act(staff, "retrain", "invalidate", [retrain.pk], confirmed="1", reason="Again.")
    assert "invalidated already" in again
    act(staff, "retrain", "accept", [retrain.pk], confirmed="1", reason="It was not.")
    retrain.refresh_from_db()
    assert retrain.accepted
    assert complete.retrains.count() == 6


def test_more_seeds_are_a_new_test_that_leaves_the_first_as_it_is(
    complete: Registration, staff: Client
) -> None:
    row = complete.retrains.first()
    assert row is not None
    answers = {"confirmed": "1", "reason": "Too noisy.", "number_of_seeds": "3"}
    text = act(staff, "retrain", "more_seeds", [row.pk], **answers)
    assert "1 row followed by a new test" in text
    follow_up = Registration.objects.exclude(pk=complete.pk).get(proposal=complete.proposal)
    assert follow_up.state == RegistrationState.RUNNING
    assert len(follow_up.seeds) == 3
    assert not set(follow_up.seeds) & set(complete.seeds)
    before = complete.plan_sha256
    complete.refresh_from_db()
    assert (complete.plan_sha256, complete.state) == (before, RegistrationState.COMPLETE)


def test_stuck_jobs_are_found_and_cancelled(world: World, staff: Client) -> None:
    address = reverse("admin:curation_job_changelist")
    assert "0 jobs" in staff.get(address, {"stuck": "waiting"}).content.decode()
    hour = timezone.now() - timedelta(hours=1)
    Job.objects.filter(pk=world.job.pk).update(created_at=hour)
    assert "1 job" in staff.get(address, {"stuck": "waiting"}).content.decode()
    act(staff, "job", "cancel", [world.job.pk])
    world.job.refresh_from_db()
    assert world.job.state == JobState.CANCELLED
    Job.objects.filter(pk=world.job.pk).update(state=JobState.RUNNING, lease_until=hour)
    assert "1 job" in staff.get(address, {"stuck": "silent"}).content.decode()


def test_quotas_can_be_set_and_it_is_written_down(world: World, staff: Client) -> None:
    address = reverse("admin:curation_project_change", args=[world.project.pk])
    inline = {"memberships-TOTAL_FORMS": 0, "memberships-INITIAL_FORMS": 0}
    staff.post(address, {"disk_quota_bytes": 5, "max_running_jobs": 7, "name": "x"} | inline)
    project = Project.objects.get(pk=world.project.pk)
    assert (project.disk_quota_bytes, project.max_running_jobs) == (5, 7)
    assert project.name == world.project.name
    assert AuditEntry.objects.filter(action="quotas set", project=project).exists()


def test_accounts_are_closed_and_not_deleted(world: World, staff: Client) -> None:
    address = reverse("admin:auth_user_delete", args=[world.owner.pk])
    assert staff.post(address, {"post": "yes"}).status_code == 403
