"""Suggested edits for a behaviour, and train examples whose label is likely wrong. Both are
hypotheses to look at and test, never changes."""

from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from curation.api.behaviours import Method, StartedJob
from curation.api.pagination import Input, Page, PageQuery, newest_first, offset_page, start_of
from curation.api.proposals import ProposalIn, ProposalOut, Weight
from curation.api.router import ApiRouter
from curation.models import (
    Baseline,
    Behaviour,
    LabelCheck,
    Model,
    Proposal,
    Scope,
    Suggestion,
)
from curation.queries.access import Right, get_for
from curation.queries.examples import ExampleTable
from curation.queries.predictions import DEFAULT_METHOD
from curation.queries.scores import ids_of_indices
from curation.services import suggestions

router = ApiRouter(tags=["Suggestions"])
MOST_GUARDS = 100


class GuardIn(Input):
    behaviour: UUID
    tolerance: float = Field(
        0.0, ge=0, le=1e12, description="The largest predicted harm allowed, in its unit."
    )


class SuggestionIn(Input):
    number_of_edits: int = Field(40, ge=1, le=suggestions.MAX_EDITS, description="At most so many.")
    new_weight: Weight = 0.0
    guards: list[GuardIn] = Field(
        [], max_length=MOST_GUARDS, description="Other behaviours that must not get worse."
    )
    method: Method = DEFAULT_METHOD


class GuardOut(Schema):
    behaviour: UUID
    tolerance: float
    predicted_change: float | None = Field(
        None, description="In the behaviour's unit; null until the edits are found."
    )
    binding: bool | None = Field(
        None, description="Without this guard the suggestion might help more."
    )


class SuggestionOut(Schema):
    """A hypothesis, never a guarantee: make a proposal of it and test that."""

    id: UUID
    behaviour_id: UUID
    method: str
    number_of_edits: int = Field(description="The most edits asked for.")
    new_weight: float
    guards: list[GuardOut]
    number_found: int | None = Field(description="How many are suggested; null until found.")
    predicted_change: float | None = Field(
        description="Of the behaviour, as the scores say, in its unit."
    )
    corrected_change: float | None = Field(
        description="What to expect once the luck of the top is taken back."
    )
    created_at: datetime

    @staticmethod
    def resolve_guards(suggestion: Suggestion) -> Any:
        if suggestion.result is not None:
            return suggestion.result["guards"]
        return [{"behaviour": key, "tolerance": value} for key, value in suggestion.guards.items()]

    @staticmethod
    def resolve_number_found(suggestion: Suggestion) -> int | None:
        return None if suggestion.result is None else len(suggestion.result["train_indices"])

    @staticmethod
    def resolve_predicted_change(suggestion: Suggestion) -> Any:
        return (suggestion.result or {}).get("predicted_change")

    @staticmethod
    def resolve_corrected_change(suggestion: Suggestion) -> Any:
        return (suggestion.result or {}).get("corrected_change")


class StartedSuggestion(Schema):
    suggestion: SuggestionOut
    job: UUID = Field(description="The job that searches for the edits.")


class SuggestedEditOut(Schema):
    example_id: str
    train_index: int
    weight: float
    gain: float = Field(description="Predicted improvement by this edit, after shrinkage.")
    group: int = Field(description="Near-duplicates share one and are suggested together.")


class LikelyLabelErrorOut(Schema):
    example_id: str
    train_index: int
    label: str | None
    target: float | None
    score: float = Field(description="Larger is more suspicious.")
    agreement: float = Field(description="Share of the signals that agree.")
    reasons: list[str]
    likely_label: str | None = Field(description="What models trained without the example say.")
    likely_target: float | None
    probability: float | None = Field(description="Of the likely label.")


class LabelCheckIn(Input):
    encoder: UUID | None = Field(
        None,
        description="An uploaded model of the project whose features of the texts are looked at "
        "besides; a check with one replaces a check without.",
    )


class LabelCheckOut(Schema):
    id: UUID
    baseline_id: UUID
    encoder: UUID | None = Field(
        description="The uploaded model that was looked at; null for none."
    )
    likely_errors: list[LikelyLabelErrorOut] = Field(
        description="The most suspicious train examples, the worst first."
    )
    created_at: datetime


@router.read("/behaviours/{behaviour_id}/suggestions", response=Page[SuggestionOut])
def list_suggestions(
    request: HttpRequest, behaviour_id: UUID, page: Query[PageQuery]
) -> dict[str, Any]:
    behaviour = get_for(Behaviour, behaviour_id, request.user)
    return newest_first(Suggestion.objects.filter(behaviour=behaviour), page)


@router.create(
    "/behaviours/{behaviour_id}/suggestions", response={202: StartedSuggestion}, scope=Scope.RUN
)
def suggest_edits(request: HttpRequest, behaviour_id: UUID, body: SuggestionIn) -> dict[str, Any]:
    """Search for the edits that should improve the behaviour most without harm to the guards."""
    behaviour = get_for(Behaviour, behaviour_id, request.user, Right.WRITE)
    guards = {guard.behaviour: guard.tolerance for guard in body.guards}
    if len(guards) < len(body.guards):
        raise ValidationError({"guards": "Name each behaviour once."})
    suggestion = suggestions.request_suggestion(
        behaviour=behaviour,
        number_of_edits=body.number_of_edits,
        new_weight=body.new_weight,
        guards=guards,
        method=body.method,
        by=request.user,
    )
    return {"suggestion": suggestion, "job": suggestions.job_of(suggestion).pk}


@router.read("/suggestions/{suggestion_id}", response=SuggestionOut)
def show_suggestion(request: HttpRequest, suggestion_id: UUID) -> Suggestion:
    return get_for(Suggestion, suggestion_id, request.user)


@router.read("/suggestions/{suggestion_id}/edits", response=Page[SuggestedEditOut])
def list_suggested_edits(
    request: HttpRequest, suggestion_id: UUID, page: Query[PageQuery]
) -> dict[str, Any]:
    """The suggested edits, the most helpful first; empty until they are found."""
    suggestion = get_for(Suggestion, suggestion_id, request.user)
    result = suggestion.result or {"train_indices": [], "weights": [], "gains": [], "group_ids": []}
    start = start_of(page)
    part = slice(start, start + page.limit)
    indices = result["train_indices"][part]
    ids = ids_of_indices(suggestion.behaviour.baseline.dataset_version, indices)
    found = [
        {
            "example_id": ids[index],
            "train_index": index,
            "weight": weight,
            "gain": gain,
            "group": group,
        }
        for index, weight, gain, group in zip(
            indices,
            result["weights"][part],
            result["gains"][part],
            result["group_ids"][part],
            strict=True,
        )
    ]
    return offset_page(found, page, len(result["train_indices"]))


@router.create("/suggestions/{suggestion_id}/proposal", response={201: ProposalOut})
def propose_suggestion(request: HttpRequest, suggestion_id: UUID, body: ProposalIn) -> Proposal:
    """Make a draft proposal of the suggested edits, to look at, change and test."""
    suggestion = get_for(Suggestion, suggestion_id, request.user, Right.WRITE)
    return suggestions.propose(
        suggestion=suggestion, name=body.name, hypothesis=body.hypothesis, by=request.user
    )


@router.create("/baselines/{baseline_id}/label-check", response={202: StartedJob}, scope=Scope.RUN)
def check_labels(
    request: HttpRequest, baseline_id: UUID, body: LabelCheckIn | None = None
) -> dict[str, Any]:
    """Rank the train examples by how likely their label is wrong; once for a baseline, and once
    more with an encoder."""
    baseline = get_for(Baseline, baseline_id, request.user, Right.WRITE)
    encoder = (
        None if body is None or body.encoder is None else get_for(Model, body.encoder, request.user)
    )
    job = suggestions.request_label_check(baseline=baseline, encoder=encoder, by=request.user)
    return {"job": job.pk}


@router.read("/baselines/{baseline_id}/label-check", response=LabelCheckOut | None)
def show_label_check(
    request: HttpRequest,
    baseline_id: UUID,
    count: int = Query(100, ge=1, le=500),
) -> dict[str, Any] | None:
    """The `count` most suspicious labels with the reasons; null until they are checked."""
    baseline = get_for(Baseline, baseline_id, request.user)
    check = LabelCheck.objects.filter(baseline=baseline).first()
    if check is None:
        return None
    worst = check.worst[:count]
    with ExampleTable(baseline.dataset_version) as table:
        rows = table.by_train_index(np.array([one["train_index"] for one in worst], np.int64))
    return {
        "id": check.pk,
        "baseline_id": baseline.pk,
        "encoder": check.encoder_id,
        "created_at": check.created_at,
        "likely_errors": [{"target": None, **rows[one["train_index"]], **one} for one in worst],
    }
