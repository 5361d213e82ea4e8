"""What a test's pages show and when: nothing before the plan is complete, then all of it."""

from collections.abc import Callable

import pytest
from django.test import Client

from curation.models import Arm, Registration, RegistrationState, Retrain, Verdict
from curation.services import registrations, verdicts
from tests.api.world import World

Browsers = Callable[[str], Client]
SECRET = 123.456789


@pytest.fixture
def running(world: World) -> Registration:
    """The world's test, started, with all its retrains but one."""
    registrations.start(registration=world.registration, by=world.owner)
    missing = (Arm.PLACEBO, world.registration.seeds[-1])
    for seed in world.registration.seeds:
        for arm in Arm:
            if (arm, seed) != missing:
                retrain(world, arm, seed)
    world.registration.refresh_from_db()
    return world.registration


def retrain(world: World, arm: str, seed: int) -> None:
    value = SECRET + (1.0 if arm == Arm.EDITED else 0.0) + seed / 100
    Retrain.objects.create(
        registration=world.registration, arm=arm, seed=seed,
        values={str(world.behaviour.pk): value},
    )  # fmt: skip


@pytest.fixture
def complete(world: World, running: Registration) -> Registration:
    retrain(world, Arm.PLACEBO, running.seeds[-1])
    verdicts.conclude(registration=running)
    running.refresh_from_db()
    assert running.state == RegistrationState.COMPLETE
    return running


def test_while_one_retrain_is_missing_no_value_is_on_any_page(
    running: Registration, owner: Client
) -> None:
    for part in ("", "progress/"):
        text = owner.get(f"/registrations/{running.pk}/{part}").content.decode()
        assert "5 of 6 retrains finished" in text
        assert "123.4" not in text
        assert "124.4" not in text
    assert owner.get(f"/registrations/{running.pk}/report.json").status_code == 404


def test_a_complete_test_shows_predicted_beside_actual_beside_placebo(
    complete: Registration, owner: Client
) -> None:
    text = owner.get(f"/registrations/{complete.pk}/").content.decode()
    for words in ("Predicted", "Actual, edited against unedited", "Placebo, random examples"):
        assert words in text
    assert "+1.00" in text
    assert complete.plan_sha256 in text
    assert complete.decision_rule[:40] in text


def test_the_progress_of_an_ended_test_loads_the_page_anew(
    complete: Registration, owner: Client
) -> None:
    assert owner.get(f"/registrations/{complete.pk}/progress/")["HX-Refresh"] == "true"


def test_the_report_holds_every_edit_and_every_retrain(
    world: World, complete: Registration, owner: Client
) -> None:
    report = owner.get(f"/registrations/{complete.pk}/report.json").json()
    assert {edit["example_id"] for edit in report["edits"]} == {"e0", "e3"}
    assert len(report["retrains"]) == 6
    assert report["plan"] == complete.plan
    page = owner.get(f"/registrations/{complete.pk}/report/").content.decode()
    assert complete.plan["dataset_sha256"] in page


def test_a_reviewer_signs_off_but_not_who_registered(
    complete: Registration, browser_of: Browsers
) -> None:
    address = f"/registrations/{complete.pk}/sign-off/"
    refused = browser_of("owner").post(address, follow=True).content.decode()
    assert "someone else than who registered" in refused
    assert browser_of("editor").post(address).status_code == 403
    assert "signed off" in browser_of("reviewer").post(address, follow=True).content.decode()
    assert all(v.signed_off_by.username == "reviewer" for v in Verdict.objects.all())
    again = browser_of("reviewer").post(address, follow=True).content.decode()
    assert "already been signed off" in again


def test_a_test_declared_invalid_says_so_and_why(
    complete: Registration, browser_of: Browsers
) -> None:
    reviewer = browser_of("reviewer")
    address = f"/registrations/{complete.pk}/invalidate/"
    assert "Say why" in reviewer.post(address, {"reason": " "}, follow=True).content.decode()
    text = reviewer.post(address, {"reason": "Wrong data."}, follow=True).content.decode()
    assert "Wrong data." in text
    assert set(Verdict.objects.values_list("outcome", flat=True)) == {"invalidated"}


def test_the_track_record_keeps_a_complete_test(
    world: World, complete: Registration, owner: Client
) -> None:
    text = owner.get(f"/projects/{world.project.pk}/track-record/").content.decode()
    assert "Predicted against actual" in text
    assert complete.proposal.name in text
