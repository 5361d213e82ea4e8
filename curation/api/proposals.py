"""Proposals and their edits, saved predictions, and predictions of edits that are not saved."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import numpy as np
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import BaseModel, ConfigDict, Field

from curation.api.behaviours import Method
from curation.api.pagination import Input, Name, Page, PageQuery, by_number, newest_first
from curation.api.problems import Problem
from curation.api.router import ApiRouter
from curation.models import (
    Baseline,
    BaselineState,
    Estimate,
    Prediction,
    Project,
    Proposal,
    ProposalState,
    Question,
)
from curation.queries.access import Right, get_for
from curation.queries.combinations import chosen_effects
from curation.queries.examples import ExampleFilter, ExampleTable
from curation.queries.predictions import (
    DEFAULT_LEVEL,
    PredictedEffect,
    predict_first_order,
)
from curation.queries.scores import ids_of_indices, indices_of_ids
from curation.services import edits, predictions, proposals

router = ApiRouter(tags=["Proposals"])
predictions_router = ApiRouter(tags=["Predictions"])
ExampleId = Annotated[str, Field(min_length=1, max_length=200)]
Weight = Annotated[
    float, Field(ge=0, le=proposals.MAX_WEIGHT, description="0 removes, 1 leaves, 3 triples.")
]


class EditIn(BaseModel):
    """A new weight of one training example."""

    # Not a `Schema`: its attribute look-ups cost more than the checks, times 10,000 edits.
    model_config = ConfigDict(extra="forbid")

    example_id: ExampleId | None = Field(None, description="Either this or `train_index`.")
    train_index: int | None = Field(None, ge=0, lt=2**31)
    weight: Weight


class EditsIn(Input):
    edits: list[EditIn] = Field(min_length=1, max_length=edits.MAX_EDITS_AT_ONCE)
    description: str = Field("", max_length=300)


class SelectionIn(Input):
    """All training examples that match, with one weight."""

    search: str = Field("", max_length=500)
    label: str = Field("", max_length=200)
    attribute: str = Field("", max_length=200)
    value: str = Field("", max_length=500)
    weight: Weight
    description: str = Field("", max_length=300)


class ProposalIn(Input):
    name: Name
    hypothesis: str = Field("", max_length=4000, description="What you expect, and why, in words.")


class HypothesisIn(Input):
    hypothesis: str = Field(max_length=4000)


class CopyIn(Input):
    name: Name


class ProposalOut(Schema):
    id: UUID
    project_id: UUID
    baseline_id: UUID
    name: str
    hypothesis: str
    state: ProposalState
    revision: int
    edits_sha256: str
    frozen_at: datetime | None
    created_at: datetime


class EditOut(Schema):
    example_id: str
    train_index: int
    weight: float


METHOD_LEFT_OUT = (
    "An influence method; left out or null: for each behaviour the method, or combination of "
    "methods, that predicts held-out edits of the bank best."
)
COMBINED = (
    "The weights of the methods' calibrated predictions that a combination adds up; empty for a "
    "single method."
)


class WhatIfIn(Input):
    edits: list[EditIn] = Field(min_length=1, max_length=edits.MAX_EDITS_AT_ONCE)
    method: Method | None = Field(None, description=METHOD_LEFT_OUT)
    level: float = Field(DEFAULT_LEVEL, gt=0, lt=1)


class EffectOut(Schema):
    """A hypothesis, never a guarantee: retraining decides."""

    behaviour_id: UUID
    behaviour: str
    unit: str
    better: str
    method: str
    value: float
    low: float
    high: float
    level: float
    calibrated: bool
    uncalibrated: float = Field(description="The plain sum of scores, before calibration.")
    improves: bool
    per_seed: list[float]
    seed_noise: float | None
    warnings: list[str]
    combined: dict[str, float] = Field(description=COMBINED)


class PredictIn(Input):
    method: Method | None = Field(None, description=METHOD_LEFT_OUT)
    level: float = Field(DEFAULT_LEVEL, gt=0, lt=1)


class PredictionOut(Schema):
    id: UUID
    proposal_id: UUID
    behaviour_id: UUID
    behaviour: str
    unit: str
    better: str
    method: str
    estimate: Estimate
    question: Question
    revision: int
    value: float
    low: float
    high: float
    level: float
    calibrated: bool
    warnings: list[str]
    combined: dict[str, float] = Field(description=COMBINED)
    created_at: datetime

    @staticmethod
    def resolve_combined(prediction: Prediction) -> Any:
        return prediction.details.get("combined", {})

    @staticmethod
    def resolve_behaviour(prediction: Prediction) -> str:
        return prediction.behaviour.name

    @staticmethod
    def resolve_unit(prediction: Prediction) -> str:
        return prediction.behaviour.unit

    @staticmethod
    def resolve_better(prediction: Prediction) -> str:
        return prediction.behaviour.better


@router.read("/projects/{project_id}/proposals", response=Page[ProposalOut])
def list_proposals(
    request: HttpRequest,
    project_id: UUID,
    page: Query[PageQuery],
    state: ProposalState | None = None,
    name: str = Query("", max_length=120),
) -> dict[str, Any]:
    rows = get_for(Project, project_id, request.user).proposals.filter(archived_at=None)
    rows = rows.filter(state=state) if state else rows
    return newest_first(rows.filter(name=name) if name else rows, page)


@router.create("/baselines/{baseline_id}/proposals", response={201: ProposalOut})
def create_proposal(request: HttpRequest, baseline_id: UUID, body: ProposalIn) -> Proposal:
    """Make an empty draft on a trained baseline."""
    baseline = get_for(Baseline, baseline_id, request.user, Right.WRITE)
    return proposals.create_proposal(
        baseline=baseline, name=body.name, hypothesis=body.hypothesis, by=request.user
    )


@router.read("/proposals/{proposal_id}", response=ProposalOut)
def show_proposal(request: HttpRequest, proposal_id: UUID) -> Proposal:
    return get_for(Proposal, proposal_id, request.user)


@router.read("/proposals/{proposal_id}/edits", response=Page[EditOut])
def list_edits(request: HttpRequest, proposal_id: UUID, page: Query[PageQuery]) -> dict[str, Any]:
    return by_number(
        get_for(Proposal, proposal_id, request.user).edits.all(), page, descending=False
    )


@router.create("/proposals/{proposal_id}/edits", response=ProposalOut)
def set_edits(request: HttpRequest, proposal_id: UUID, body: EditsIn) -> Proposal:
    """Set weights of named training examples: one step of undo. Weight 1 takes an edit away."""
    proposal = get_for(Proposal, proposal_id, request.user, Right.WRITE)
    return edits.set_edits(
        proposal=proposal,
        weights=resolve(proposal.baseline, body.edits),
        by=request.user,
        description=body.description,
    )


@router.create("/proposals/{proposal_id}/edits/matching", response=ProposalOut)
def set_matching_edits(request: HttpRequest, proposal_id: UUID, body: SelectionIn) -> Proposal:
    """Give every matching training example one weight, however many match: one step of undo."""
    proposal = get_for(Proposal, proposal_id, request.user, Right.WRITE)
    wanted = ExampleFilter(
        search=body.search,
        label=body.label,
        attributes={f"attribute_{body.attribute.removeprefix('attribute_')}": body.value}
        if body.attribute
        else {},
    )
    with ExampleTable(proposal.baseline.dataset_version) as table:
        try:
            found = table.select(wanted, split="train")
        except KeyError as error:
            raise ValidationError(
                {"attribute": f"The dataset has no attribute {error}."}
            ) from error
    return proposals.set_weights(
        proposal=proposal,
        examples=found,
        weight=body.weight,
        by=request.user,
        description=body.description,
    )


@router.create("/proposals/{proposal_id}/undo", response=ProposalOut)
def undo_edits(request: HttpRequest, proposal_id: UUID) -> Proposal:
    """Take the last change of the edits back."""
    proposal = get_for(Proposal, proposal_id, request.user, Right.WRITE)
    return proposals.undo(proposal=proposal, by=request.user)


@router.remove("/proposals/{proposal_id}/edits")
def clear_edits(request: HttpRequest, proposal_id: UUID) -> None:
    """Take every edit away; can be undone."""
    proposal = get_for(Proposal, proposal_id, request.user, Right.WRITE)
    proposals.clear(proposal=proposal, by=request.user)


@router.create("/proposals/{proposal_id}/freeze", response=ProposalOut)
def freeze_proposal(request: HttpRequest, proposal_id: UUID) -> Proposal:
    """Freeze the edits for good."""
    proposal = get_for(Proposal, proposal_id, request.user, Right.WRITE)
    return proposals.freeze(proposal=proposal, by=request.user)


@router.create("/proposals/{proposal_id}/copy", response={201: ProposalOut})
def copy_proposal(request: HttpRequest, proposal_id: UUID, body: CopyIn) -> Proposal:
    """Make a draft with the same edits."""
    proposal = get_for(Proposal, proposal_id, request.user, Right.WRITE)
    return proposals.copy(proposal=proposal, name=body.name, by=request.user)


@predictions_router.ask("/baselines/{baseline_id}/what-if", response=list[EffectOut])
def predict_what_if(request: HttpRequest, baseline_id: UUID, body: WhatIfIn) -> list[Any]:
    """Predict at once what edits would change, without saving anything."""
    baseline = get_for(
        Baseline, baseline_id, request.user, with_related=("dataset_version__examples_file",)
    )
    resolved = resolve(baseline, body.edits, with_ids=False)
    train_indices = np.fromiter(resolved, np.int64, len(resolved))
    weights = np.array([weight for _, weight in resolved.values()])
    if body.method is None:
        effects = chosen_effects(
            baseline=baseline, train_indices=train_indices, weights=weights, level=body.level
        )
    else:
        effects = predict_first_order(
            baseline=baseline,
            train_indices=train_indices,
            weights=weights,
            method=body.method,
            level=body.level,
        )
    return [effect_out(effect) for effect in effects]


@predictions_router.create("/proposals/{proposal_id}/predictions", response=list[PredictionOut])
def predict_proposal(request: HttpRequest, proposal_id: UUID, body: PredictIn) -> list[Prediction]:
    """Predict every scored behaviour for the proposal's current edits, and save it."""
    proposal = get_for(Proposal, proposal_id, request.user, Right.WRITE)
    return predictions.predict(
        proposal=proposal, by=request.user, method=body.method, level=body.level
    )


@predictions_router.read("/proposals/{proposal_id}/predictions", response=list[PredictionOut])
def list_predictions(request: HttpRequest, proposal_id: UUID, all_revisions: bool = False) -> Any:
    """Saved predictions of the current edits, or of every revision of them."""
    proposal = get_for(Proposal, proposal_id, request.user)
    rows = proposal.predictions.select_related("behaviour").order_by(
        "revision", "behaviour__position", "behaviour__created_at", "method", "estimate"
    )
    return rows if all_revisions else rows.filter(revision=proposal.revision)


def resolve(
    baseline: Baseline, wanted: Sequence[EditIn], *, with_ids: bool = True
) -> dict[int, tuple[str, float]]:
    """Train index to (example id, weight), each checked against the train split.

    Without `with_ids`, ids of edits that name a train index stay empty and are not read.

    Raises:
        ValidationError: an edit names no training example, or one is named twice.
        Problem: the baseline is not trained yet.
    """
    version = baseline.dataset_version
    if version.examples_file is None or baseline.state != BaselineState.READY:
        raise Problem(409, "The baseline is not trained yet.")
    ids = [edit.example_id for edit in wanted if edit.example_id is not None]
    indices = [edit.train_index for edit in wanted if edit.train_index is not None]
    by_id = indices_of_ids(version, ids) if ids else {}
    by_index = ids_of_indices(version, indices) if indices and with_ids else {}
    resolved: dict[int, tuple[str, float]] = {}
    for number, edit in enumerate(wanted):
        field = f"edits.{number}"
        if (edit.example_id is None) == (edit.train_index is None):
            raise ValidationError({field: "Give either an example id or a train index."})
        index = edit.train_index if edit.example_id is None else by_id.get(edit.example_id)
        if index is None or index >= version.train_count:
            raise ValidationError({field: "The train split has no such example."})
        if index in resolved:
            raise ValidationError({field: "This example is named twice."})
        resolved[index] = (edit.example_id or by_index.get(index, ""), edit.weight)
    return resolved


def effect_out(effect: PredictedEffect) -> dict[str, Any]:
    return {
        "behaviour_id": effect.behaviour.pk,
        "behaviour": effect.behaviour.name,
        "unit": effect.behaviour.unit,
        "better": effect.behaviour.better,
        "method": effect.method,
        "value": effect.value,
        "low": effect.low,
        "high": effect.high,
        "level": effect.level,
        "calibrated": effect.calibrated,
        "uncalibrated": effect.uncalibrated,
        "improves": effect.is_improvement,
        "per_seed": effect.per_seed,
        "seed_noise": effect.seed_noise,
        "warnings": effect.warnings,
        "combined": effect.combined,
    }
