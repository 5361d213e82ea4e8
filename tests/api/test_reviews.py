"""Signing verdicts off, and accepting or invalidating the result of a retrain, by the API."""

import pytest

from curation.models import Arm, AuditEntry, BankRetrain, Retrain
from curation.services import bank, registrations, verdicts

pytestmark = pytest.mark.django_db


@pytest.fixture
def reviewer(world, api_of):
    return api_of(world.people["reviewer"])


def retrain_all(world):
    """Every retrain of the world's test; the edited arm does better by one."""
    registrations.start(registration=world.registration, by=world.owner)
    for seed in world.registration.seeds:
        for arm in Arm:
            Retrain.objects.create(
                registration=world.registration, arm=arm, seed=seed,
                values={str(world.behaviour.pk): float(arm == Arm.EDITED) + seed / 100},
            )  # fmt: skip


def conclude(world):
    verdicts.conclude(registration=world.registration)
    bank.absorb(registration=world.registration)


def retrain_of(world, arm, seed):
    return world.registration.retrains.get(arm=arm, seed=seed)


def test_a_second_person_signs_off_once_and_is_named(world, api, reviewer):
    path = f"/registrations/{world.registration.pk}"
    assert "Only a complete test" in reviewer.post(f"{path}/sign-off").data["detail"]
    retrain_all(world)
    conclude(world)
    assert "someone else" in api.post(f"{path}/sign-off").data["detail"]
    assert {one["signed_off_by"] for one in api.get(f"{path}/verdicts").data} == {None}
    signed = reviewer.post(f"{path}/sign-off")
    assert signed.status_code == 200
    assert {one["signed_off_by"] for one in signed.data} == {"reviewer"}
    assert all(one["signed_off_at"] for one in signed.data)
    assert "already been signed off" in reviewer.post(f"{path}/sign-off").data["detail"]
    assert AuditEntry.objects.filter(action="verdicts signed off").count() == 1


def test_a_result_invalidated_before_the_end_never_joins_the_bank(world, reviewer):
    retrain_all(world)
    seed = world.registration.seeds[0]
    retrain = retrain_of(world, Arm.EDITED, seed)
    answer = reviewer.post(
        f"/retrains/{retrain.pk}/review", {"accepted": False, "reason": "The disk was full."}
    )
    assert answer.status_code == 200
    assert (answer.data["accepted"], answer.data["values"]) == (False, None)
    assert answer.data["review_reason"] == "The disk was full."
    entry = AuditEntry.objects.get(action="retrain invalidated")
    assert entry.actor == world.people["reviewer"]
    assert entry.detail == {"arm": "edited", "seed": seed, "reason": "The disk was full."}
    conclude(world)
    edited = BankRetrain.objects.filter(edit__registration=world.registration)
    assert list(edited.values_list("seed", flat=True)) == world.registration.seeds[1:]


def test_reviewing_after_the_end_changes_no_verdict_and_can_be_taken_back(world, reviewer):
    retrain_all(world)
    conclude(world)
    path = f"/registrations/{world.registration.pk}"
    before = reviewer.get(f"{path}/verdicts").data
    review = f"/retrains/{retrain_of(world, Arm.EDITED, world.registration.seeds[0]).pk}/review"
    for accepted in (False, True):
        body = {"accepted": accepted, "reason": "Looked again."}
        assert reviewer.post(review, body).data["accepted"] is accepted
        assert reviewer.get(f"{path}/verdicts").data == before
    assert "accepted already" in reviewer.post(review, body).data["detail"]
    reviewer.post(f"{path}/sign-off")
    refused = reviewer.post(review, {"accepted": False, "reason": "Too late."})
    assert (refused.status_code, "signed off" in refused.data["detail"]) == (422, True)


@pytest.mark.parametrize("body", [{"accepted": False}, {"accepted": False, "reason": " "}, {}])
def test_a_review_needs_a_decision_and_a_reason(world, reviewer, body):
    retrain = world.objects["retrain_id"]
    assert reviewer.post(f"/retrains/{retrain}/review", body).status_code == 422
    assert Retrain.objects.get(pk=retrain).accepted
