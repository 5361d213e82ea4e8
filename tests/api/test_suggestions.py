"""Suggested edits, likely label errors and the choice of methods, by the API."""

import math
from uuid import uuid4

import pytest

from curation.models import Job, JobKind, LabelCheck, MethodChoices, Proposal, Suggestion
from tests.api.world import TRAIN
from workers.evidence.selection import MethodChoice

pytestmark = pytest.mark.django_db


def test_a_request_starts_a_job_and_waits_for_what_it_finds(api, world):
    body = {"number_of_edits": 3, "new_weight": 0}
    path = f"/behaviours/{world.behaviour.pk}/suggestions"
    answer = api.post(path, body, Idempotency_Key="once")
    assert answer.status_code == 202
    made = answer.data["suggestion"]
    assert (made["number_found"], made["predicted_change"], made["guards"]) == (None, None, [])
    job = Job.objects.get(pk=answer.data["job"])
    assert (job.kind, job.payload) == (JobKind.SUGGEST, {"suggestion": made["id"]})
    assert api.post(path, body, Idempotency_Key="once").data == answer.data
    assert [one["id"] for one in api.get(path).data["items"]] == [
        made["id"],
        str(world.objects["suggestion_id"]),
    ]
    assert api.get(f"/suggestions/{made['id']}/edits").data == {"items": [], "next": None}
    assert api.post(f"/suggestions/{made['id']}/proposal", {"name": "n"}).status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"number_of_edits": TRAIN}, "body.number_of_edits"),
        ({"new_weight": 1}, "body.new_weight"),
        ({"new_weight": 101}, "body.new_weight"),
        ({"guards": ["own"]}, "body.guards"),
        ({"guards": ["other", "other"]}, "body.guards"),
        ({"guards": ["other"]}, ""),
        ({"method": "unheard_of"}, ""),
    ],
)
def test_requests_that_are_refused_leave_nothing(api, world, body, field):
    known = {"own": str(world.behaviour.pk), "other": str(world.baseline.pk)}
    if "guards" in body:
        body = {"guards": [{"behaviour": known[name]} for name in body["guards"]]}
    answer = api.post(f"/behaviours/{world.behaviour.pk}/suggestions", body)
    assert answer.status_code == 422
    assert answer.data["errors"][0]["field"] == field
    assert Suggestion.objects.count() == 1


def test_suggested_edits_come_in_pages_and_become_a_proposal(api, world):
    path = f"/suggestions/{world.objects['suggestion_id']}"
    suggestion = api.get(path).data
    assert suggestion["number_found"] == 2
    assert suggestion["corrected_change"] <= suggestion["predicted_change"]
    first = api.get(f"{path}/edits?limit=1").data
    second = api.get(f"{path}/edits?limit=1&cursor={first['next']}").data
    edits = first["items"] + second["items"]
    assert second["next"] is None
    assert [edit["example_id"] for edit in edits] == [f"e{TRAIN - 1}", f"e{TRAIN - 2}"]
    assert edits[0]["gain"] >= edits[1]["gain"] > 0
    made = api.post(f"{path}/proposal", {"name": "suggested", "hypothesis": "It helps."})
    assert made.status_code == 201
    weights = Proposal.objects.get(pk=made.data["id"]).edits.values_list("example_id", "weight")
    assert dict(weights) == {edit["example_id"]: edit["weight"] for edit in edits}


def test_likely_label_errors_are_null_until_checked_then_the_worst_come_first(api, world):
    path = f"/baselines/{world.baseline.pk}/label-check"
    assert api.get(path).data is None
    started = api.post(path)
    assert started.status_code == 202
    assert Job.objects.get(pk=started.data["job"]).payload == {"label_check": True}
    assert "being checked" in api.post(path).data["detail"]
    own = {"encoder": str(world.baseline.model_id)}
    assert "uploaded encoder" in str(api.post(path, own).data)
    assert api.post(path, {"encoder": str(uuid4())}).status_code == 404
    worst = [
        {"train_index": index, "score": score, "agreement": 1.0, "reasons": ["It is odd."],
         "likely_label": "up", "likely_target": None, "probability": 0.9}
        for index, score in ((4, 0.8), (2, 0.7))
    ]  # fmt: skip
    LabelCheck.objects.create(
        baseline=world.baseline, score_file=world.influence.scores_file, worst=worst
    )
    found = api.get(path).data["likely_errors"]
    assert [(one["example_id"], one["label"]) for one in found] == [("e4", "down"), ("e2", "down")]
    assert found[0]["reasons"] == ["It is odd."]
    assert api.get(path).data["encoder"] is None
    assert len(api.get(f"{path}?count=1").data["likely_errors"]) == 1


def test_the_newest_choice_of_methods_is_shown_with_its_evidence(api, world):
    path = f"/baselines/{world.baseline.pk}/method-choices"
    assert api.get(path).data == []
    for method in ("replay", "similarity"):
        choice = MethodChoice(
            behaviour="margin", method=method, weights={method: 1.0},
            errors={method: 0.5, "nothing": math.nan}, advantages={method: 0.0},
            advantage_errors={method: math.inf}, number_of_edits=12, reason="It errs least.",
        )  # fmt: skip
        MethodChoices.objects.create(
            baseline=world.baseline, methods=[method], number_of_edits=12,
            choices={str(world.behaviour.pk): choice.to_json()},
        )  # fmt: skip
    (shown,) = api.get(path).data
    assert (shown["behaviour_id"], shown["method"]) == (str(world.behaviour.pk), "similarity")
    assert shown["errors"] == {"similarity": 0.5, "nothing": None}
    assert shown["advantage_errors"] == {"similarity": None}
