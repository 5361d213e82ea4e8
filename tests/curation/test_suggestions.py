"""Suggested edits and likely label errors, from request to proposal."""

import numpy as np
import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from curation.models import (
    Baseline,
    JobState,
    LabelCheck,
    Membership,
    ProposalState,
    Role,
    Suggestion,
)
from curation.queries.predictions import predict_first_order
from curation.services import files, projects, suggestions, training_setup
from tests.formats.models_fixtures import write_model
from tests.running import run_jobs
from workers.tasks.suggestions import duplicate_groups


@pytest.fixture
def behaviour(small_sample):
    return Baseline.objects.get(project=small_sample).behaviours.get(name__startswith="Negative")


@pytest.fixture
def stranger_project(django_user_model):
    other = django_user_model.objects.create_user("stranger")
    return projects.create_project(name="Elsewhere", by=other)


def test_a_suggestion_helps_its_behaviour_keeps_its_guards_and_becomes_a_proposal(behaviour, owner):
    baseline = behaviour.baseline
    guard = baseline.behaviours.get(name__startswith="Positive")
    suggestion = suggestions.request_suggestion(
        behaviour=behaviour, number_of_edits=12, guards={guard.pk: 0.0}, by=owner
    )
    (job,) = run_jobs(baseline.project)
    assert job.state == JobState.SUCCEEDED, job.error
    suggestion.refresh_from_db()
    result = suggestion.result
    assert 1 <= len(result["train_indices"]) <= 12
    better = 1 if behaviour.better == "higher" else -1
    assert result["corrected_change"] * better > 0
    assert abs(result["corrected_change"]) <= abs(result["predicted_change"]) * 1.001
    (report,) = result["guards"]
    assert report["behaviour"] == str(guard.pk)
    harm = -report["predicted_change"] * (1 if guard.better == "higher" else -1)
    assert harm <= 1e-9

    proposal = suggestions.propose(
        suggestion=suggestion, name="As suggested", hypothesis="It helps.", by=owner
    )
    assert proposal.state == ProposalState.DRAFT
    indices = sorted(result["train_indices"])
    assert list(proposal.edits.order_by("train_index").values_list("train_index", flat=True)) == (
        indices
    )
    effects = predict_first_order(
        baseline=baseline, train_indices=np.array(indices), weights=np.zeros(len(indices))
    )
    own = next(effect for effect in effects if effect.behaviour == behaviour)
    assert own.uncalibrated == pytest.approx(result["predicted_change"], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number_of_edits": 0}, "edits"),
        ({"number_of_edits": 10**6}, "edits"),
        ({"new_weight": 1.0}, "weight"),
        ({"new_weight": float("nan")}, "weight"),
        ({"guards": "own"}, "Guards"),
        ({"method": "unheard of"}, "Compute influence"),
    ],
)
def test_a_request_out_of_bounds_is_refused_and_leaves_nothing(behaviour, owner, change, message):
    if change.get("guards"):
        change = {"guards": {behaviour.pk: 0.1}}
    with pytest.raises(ValidationError, match=message):
        suggestions.request_suggestion(
            **{"behaviour": behaviour, "number_of_edits": 5, "by": owner, **change}
        )
    assert not Suggestion.objects.exists()


def test_likely_label_errors_are_listed_once_with_reasons(behaviour, owner):
    baseline = behaviour.baseline
    suggestions.request_label_check(baseline=baseline, by=owner)
    with pytest.raises(ValidationError, match="being checked"):
        suggestions.request_label_check(baseline=baseline, by=owner)
    (job,) = run_jobs(baseline.project)
    assert job.state == JobState.SUCCEEDED, job.error
    worst = LabelCheck.objects.get(baseline=baseline).worst
    scores = [one["score"] for one in worst]
    assert scores == sorted(scores, reverse=True)
    assert worst[0]["reasons"]
    assert {one["likely_label"] for one in worst} <= set(baseline.dataset_version.classes)
    assert len({one["train_index"] for one in worst}) == len(worst)


@pytest.fixture
def encoder(behaviour, owner, tmp_path):
    """A tiny BERT, uploaded to the baseline's project."""
    stored = {
        path.name: files.store_bytes(content=path.read_bytes()).sha256
        for path in write_model(tmp_path / "encoder").iterdir()
    }
    model, _ = training_setup.upload_model(
        project=behaviour.project, name="Tiny BERT", files=stored, by=owner
    )
    run_jobs(behaviour.project)
    model.refresh_from_db()
    return model


def test_a_check_with_an_encoder_replaces_one_without_and_not_the_other_way(
    behaviour, owner, encoder, settings
):
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    baseline = behaviour.baseline
    suggestions.request_label_check(baseline=baseline, by=owner)
    run_jobs(baseline.project)
    before = LabelCheck.objects.get(baseline=baseline)
    assert before.encoder is None
    Membership.objects.create(project=baseline.project, user=owner, role=Role.EDITOR)
    browser = Client()
    browser.force_login(owner)
    assert "Check again" in browser.get(f"/baselines/{baseline.pk}/labels/").content.decode()
    browser.post(f"/baselines/{baseline.pk}/labels/check/", {"encoder": str(encoder.pk)})
    (job,) = run_jobs(baseline.project)
    assert job.state == JobState.SUCCEEDED, job.error
    after = LabelCheck.objects.get(baseline=baseline)
    assert (after.pk, after.encoder) == (before.pk, encoder)
    assert after.score_file_id != before.score_file_id
    page = browser.get(f"/baselines/{baseline.pk}/labels/").content.decode()
    assert "Neighbours are those\n        that Tiny BERT sees" in page
    for again in (None, encoder):
        with pytest.raises(ValidationError, match="checked or being checked"):
            suggestions.request_label_check(baseline=baseline, encoder=again, by=owner)


def test_only_an_uploaded_encoder_of_the_project_can_be_looked_at(
    behaviour, owner, encoder, stranger_project
):
    built_in = behaviour.baseline.model
    encoder.project = stranger_project
    encoder.save()
    for model in (built_in, encoder):
        with pytest.raises(ValidationError, match="uploaded encoder of this project"):
            suggestions.request_label_check(baseline=behaviour.baseline, encoder=model, by=owner)


def test_examples_without_a_near_duplicate_stand_alone(behaviour):
    groups = duplicate_groups(behaviour.baseline)
    assert len(groups) == behaviour.baseline.dataset_version.train_count
    assert len(np.unique(groups)) > 0.9 * len(groups)


def test_a_person_asks_for_edits_reads_them_and_makes_a_proposal(behaviour, owner, settings):
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    baseline = behaviour.baseline
    Membership.objects.create(project=baseline.project, user=owner, role=Role.EDITOR)
    browser = Client()
    browser.force_login(owner)
    guard = baseline.behaviours.get(name__startswith="Positive")
    asked = browser.post(
        f"/behaviours/{behaviour.pk}/suggest/",
        {"number_of_edits": 5, "new_weight": 0, "guards": [str(guard.pk)]},
    )
    run_jobs(baseline.project)
    page = browser.get(asked["Location"]).content.decode()
    assert "without harm to Positive" in page
    assert "once the luck of the top is taken back" in page
    made = browser.post(asked["Location"], {"name": "Suggested", "hypothesis": "It helps."})
    assert made.status_code == 302
    assert baseline.proposals.get(name="Suggested").edits.count() <= 5
    refused = browser.post(f"/behaviours/{behaviour.pk}/suggest/", {"number_of_edits": 0})
    assert refused.status_code == 422

    browser.post(f"/baselines/{baseline.pk}/labels/check/")
    run_jobs(baseline.project)
    page = browser.get(f"/baselines/{baseline.pk}/labels/").content.decode()
    assert "More likely" in page
    assert "held-out edits" in browser.get(f"/behaviours/{behaviour.pk}/").content.decode()
