"""The whole job in one process: upload, train, attribute, bank, propose, predict, register,
retrain, verdict."""

import json

import numpy as np
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction

from curation.models import (
    Arm,
    AuditEntry,
    BankEdit,
    Baseline,
    Behaviour,
    Estimate,
    Influence,
    Prediction,
    Proposal,
    Registration,
    RegistrationState,
    Retrain,
)
from curation.queries.predictions import edits_of
from curation.services import predictions, proposals, registrations, verdicts
from curation.services.files import local_path
from tests.running import run_jobs
from workers.evidence.canonical import canonical_json, canonical_sha256
from workers.tasks.run import run_job


@pytest.fixture
def registration(small_sample, owner) -> Registration:
    proposal = small_sample.proposals.order_by("created_at").first()
    return registrations.register(
        proposal=proposal,
        primary_behaviour=proposal.baseline.behaviours.get(name__startswith="Negative"),
        number_of_seeds=2,
        smallest_effect=0.0,
        by=owner,
    )


def refused(statement: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def test_every_behaviour_gets_scores_a_calibration_and_a_prediction_in_its_interval(small_sample):
    baseline = Baseline.objects.get()
    assert Behaviour.objects.count() == Influence.objects.count() == 8
    assert BankEdit.objects.filter(baseline=baseline).count() == 6
    found = Prediction.objects.filter(estimate=Estimate.FIRST_ORDER)
    assert found.count() == 16
    assert all(prediction.calibrated for prediction in found)
    for influence in Influence.objects.select_related("scores_file"):
        scores = np.load(local_path(influence.scores_file), allow_pickle=False)
        assert scores.shape == (baseline.dataset_version.train_count,)


def test_an_edit_aware_prediction_stands_beside_the_first_order_one_where_it_is_a_guide(
    small_sample,
):
    usable = Baseline.objects.get().summary["edit_aware"]["usable"]
    found = Prediction.objects.filter(estimate=Estimate.EDIT_AWARE)
    assert found.count() == (16 if usable else 0)


def test_first_order_predictions_are_linear_in_the_change_of_weight(small_sample, owner):
    proposal = small_sample.proposals.order_by("created_at").first()
    raw = predictions.predict(proposal=proposal, by=owner)[0].details["uncalibrated"]
    examples = list(proposal.edits.values_list("train_index", "example_id"))
    proposals.set_weights(proposal=proposal, examples=examples, weight=3.0, by=owner)
    tripled = predictions.predict(proposal=proposal, by=owner)[0].details["uncalibrated"]
    assert tripled == pytest.approx(-2 * raw, rel=1e-6)


def test_undo_brings_the_edits_back(small_sample, owner):
    proposal = small_sample.proposals.order_by("created_at").first()
    before = [array.tolist() for array in edits_of(proposal)]
    proposals.clear(proposal=proposal, by=owner)
    assert not proposal.edits.exists()
    proposals.undo(proposal=proposal, by=owner)
    assert [array.tolist() for array in edits_of(proposal)] == before


def test_a_locked_plan_is_canonical_and_refuses_every_change(registration):
    assert registration.plan_sha256 == canonical_sha256(registration.plan)
    assert registration.plan_text == canonical_json(json.loads(registration.plan_text)).decode()
    assert not set(registration.seeds) & set(registration.proposal.baseline.seeds)
    key, proposal = registration.pk, registration.proposal_id
    refused(f"UPDATE curation_registration SET plan = '{{}}' WHERE id = '{key}'")
    refused(f"DELETE FROM curation_registration WHERE id = '{key}'")
    refused(f"UPDATE curation_edit SET weight = 2 WHERE proposal_id = '{proposal}'")
    refused(f"DELETE FROM curation_edit WHERE proposal_id = '{proposal}'")
    refused(f"UPDATE curation_proposal SET state = 'draft' WHERE id = '{proposal}'")
    refused("UPDATE curation_behaviour SET kind = 'mean_loss'")


def test_a_frozen_proposal_says_how_to_go_on(registration, owner):
    with pytest.raises(ValidationError, match="copy it"):
        proposals.clear(proposal=registration.proposal, by=owner)
    copied = proposals.copy(proposal=registration.proposal, name="Second try", by=owner)
    assert copied.edits.count() == registration.proposal.edits.count()


def test_the_log_of_what_happened_and_recorded_deviations_are_append_only(registration, owner):
    registrations.record_deviation(registration=registration, description="Started late.", by=owner)
    refused("UPDATE curation_deviation SET description = 'nothing'")
    refused("DELETE FROM curation_deviation")
    assert AuditEntry.objects.filter(action="deviation recorded").exists()
    refused("UPDATE curation_auditentry SET action = 'nothing'")
    refused("DELETE FROM curation_auditentry")


def test_registration_names_every_blocker(small_sample, owner):
    proposal = Proposal.objects.first()
    Proposal.objects.filter(pk=proposal.pk).update(hypothesis="")
    proposal.refresh_from_db()
    proposals.clear(proposal=proposal, by=owner)
    proposal.refresh_from_db()
    with pytest.raises(ValidationError) as refusal:
        registrations.register(
            proposal=proposal,
            primary_behaviour=proposal.baseline.behaviours.first(),
            number_of_seeds=2,
            smallest_effect=0.0,
            by=owner,
        )
    named = {message.partition(":")[0] for message in refusal.value.messages}
    assert {"Edits", "Hypothesis", "Predictions"} <= named


def test_the_verdict_comes_once_when_every_arm_of_every_seed_is_there(registration, owner):
    jobs = registrations.start(registration=registration, by=owner)
    assert verdicts.conclude(registration=registration) == []
    run_jobs(registration.project)
    registration.refresh_from_db()
    assert registration.state == RegistrationState.COMPLETE
    assert registration.verdicts.count() == len(registration.plan["predictions"])
    arms = Retrain.objects.values_list("arm", "seed")
    assert sorted(arms) == sorted((arm, seed) for arm in Arm for seed in registration.seeds)
    assert registration.bank_edits.count() == 1
    before = list(registration.verdicts.values_list("pk", "outcome", "actual"))
    run_job(str(jobs[0].pk))
    assert list(registration.verdicts.values_list("pk", "outcome", "actual")) == before
    with pytest.raises(ValidationError, match="already been started"):
        registrations.start(registration=registration, by=owner)


def test_an_abandoned_test_keeps_its_reason(registration, owner):
    with pytest.raises(ValidationError, match="why"):
        registrations.abandon(registration=registration, reason=" ", by=owner)
    registrations.abandon(registration=registration, reason="The data was wrong.", by=owner)
    registration.refresh_from_db()
    assert registration.state == RegistrationState.ABANDONED
    with pytest.raises(ValidationError, match="ended"):
        registrations.abandon(registration=registration, reason="Again.", by=owner)
