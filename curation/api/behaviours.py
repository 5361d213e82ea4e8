"""Behaviours of a baseline, and the influence scores that were computed for them."""

import tempfile
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import quote_etag
from ninja import Query, Schema
from pydantic import Field

from curation.api.datasets import ExampleOut, ExampleQuery, example, page_of_examples
from curation.api.pagination import Input, Name, Page
from curation.api.problems import Problem
from curation.api.router import ApiRouter, not_modified
from curation.downloads import download
from curation.models import Baseline, Behaviour, BehaviourKind, Better, Influence, Scope
from curation.queries.access import Right, get_for
from curation.queries.influence import extreme_examples
from curation.queries.predictions import DEFAULT_METHOD
from curation.queries.scores import matrix_sha256, score_slice, write_matrix
from curation.queries.token_influence import scored_examples
from curation.services import behaviours
from curation.services.pasted_examples import (
    LONGEST_TEXT,
    LONGEST_WORD,
    MAX_PASTED,
    MAX_WORDS,
)
from curation.services.token_influence import request_token_influence

router = ApiRouter(tags=["Behaviours"])
scores_router = ApiRouter(tags=["Influence scores"])
Method = Annotated[
    str,
    Field(
        description="An influence method: replay, curvature, ekfac, unrolled, projected, …",
        max_length=40,
        pattern=r"^[a-z0-9_]+$",
        examples=["replay"],
    ),
]
PARQUET = "application/vnd.apache.parquet"


class AllProbe(Input):
    selection: Literal["all"]


class OneClass(Input):
    selection: Literal["class"]
    label: str = Field(max_length=200)


class Slice(Input):
    selection: Literal["slice"]
    search: str = Field("", max_length=500)
    label: str = Field("", max_length=200)
    attribute: str = Field("", max_length=200)
    value: str = Field("", max_length=500)


class NamedExamples(Input):
    selection: Literal["examples"]
    example_ids: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        min_length=1, max_length=100_000
    )


class SavedProbeSet(Input):
    """Its examples are copied: a later deletion changes no behaviour."""

    selection: Literal["probe_set"]
    probe_set: UUID


class PastedExample(Input):
    text: str = Field(min_length=1, max_length=LONGEST_TEXT)
    label: str = Field(max_length=200)


class PastedCompletion(Input):
    """For a language model: a prompt and what it goes on with; `alternative` for a preference,
    neither for the probability of words."""

    prompt: str = Field("", max_length=LONGEST_TEXT)
    completion: str = Field("", max_length=LONGEST_TEXT)
    alternative: str = Field("", max_length=LONGEST_TEXT)


class PastedExamples(Input):
    selection: Literal["pasted"]
    examples: list[PastedExample | PastedCompletion] = Field(min_length=1, max_length=MAX_PASTED)
    words: list[Annotated[str, Field(min_length=1, max_length=LONGEST_WORD)]] = Field(
        default_factory=list,
        max_length=MAX_WORDS,
        description="For the probability of words: each as it would go on, with its space before.",
    )
    ends: bool = Field(
        False, description="Whether a completion counts with the token that ends a text."
    )


Definition = Annotated[
    AllProbe | OneClass | Slice | NamedExamples | SavedProbeSet | PastedExamples,
    Field(discriminator="selection"),
]


class BehaviourIn(Input):
    name: Name
    kind: BehaviourKind
    definition: Definition = Field(description="Which probe examples it reads.")
    label: str = Field("", max_length=200, description="For the probability of a label.")
    better: Better | None = Field(None, description="Left out, the usual direction of the kind.")


class BehaviourOut(Schema):
    id: UUID
    baseline_id: UUID
    name: str
    kind: BehaviourKind
    definition: dict[str, Any]
    label: str
    unit: str
    better: Better
    number_of_examples: int
    values: dict[str, float | None] = Field(description="Seed to value on the baseline's runs.")
    prompt_values: dict[str, list[float | None]] = Field(
        description="Seed to the value on each pasted example alone, in their order."
    )
    created_at: datetime

    @staticmethod
    def resolve_number_of_examples(behaviour: Behaviour) -> int:
        return len(behaviour.probe_indices) or len(behaviour.pasted_examples)


class AttributeIn(Input):
    method: Method = DEFAULT_METHOD


class StartedJob(Schema):
    job: UUID


class InfluenceOut(Schema):
    id: UUID
    baseline_id: UUID
    behaviour_id: UUID
    method: str
    seeds: list[int]
    left_out: list[Any] = Field(description="Seeds that were refused, with the reason.")
    diagnostics: dict[str, Any]
    scores_sha256: str
    created_at: datetime

    @staticmethod
    def resolve_scores_sha256(influence: Influence) -> str:
        return str(influence.scores_file_id)


class ScoredTokenOut(Schema):
    text: str
    score: float = Field(description="In the behaviour's unit per unit of the token's weight.")


class ExampleTokens(Schema):
    example_id: str
    train_index: int
    score: float = Field(description="The sum of its tokens' scores.")
    tokens: list[ScoredTokenOut]


class ScoreSlice(Schema):
    start: int
    total: int
    example_ids: list[str]
    scores: list[float | None] = Field(description="In the behaviour's unit per unit of weight.")


@router.read("/baselines/{baseline_id}/behaviours", response=list[BehaviourOut])
def list_behaviours(request: HttpRequest, baseline_id: UUID) -> Any:
    baseline = get_for(Baseline, baseline_id, request.user)
    return baseline.behaviours.filter(archived_at=None)


@router.create("/baselines/{baseline_id}/behaviours", response={201: BehaviourOut})
def add_behaviour(request: HttpRequest, baseline_id: UUID, body: BehaviourIn) -> Behaviour:
    """Define a behaviour on probe examples. What it measures never changes afterwards."""
    baseline = get_for(Baseline, baseline_id, request.user, Right.WRITE)
    return behaviours.add_behaviour(
        baseline=baseline,
        name=body.name,
        kind=body.kind,
        definition=body.definition.model_dump(),
        better=body.better or "",
        label=body.label,
        by=request.user,
    )


@router.read("/behaviours/{behaviour_id}", response=BehaviourOut)
def show_behaviour(request: HttpRequest, behaviour_id: UUID) -> Behaviour:
    return get_for(Behaviour, behaviour_id, request.user)


@scores_router.create(
    "/behaviours/{behaviour_id}/token-influence", response={202: StartedJob}, scope=Scope.RUN
)
def score_tokens(request: HttpRequest, behaviour_id: UUID) -> dict[str, Any]:
    """Split the influence of the most helpful and most harmful examples among their tokens."""
    behaviour = get_for(Behaviour, behaviour_id, request.user, Right.WRITE)
    return {"job": request_token_influence(behaviour=behaviour, by=request.user).pk}


@scores_router.read("/behaviours/{behaviour_id}/token-influence", response=list[ExampleTokens])
def list_token_influence(request: HttpRequest, behaviour_id: UUID) -> Any:
    """Tokens with their scores, the most helpful examples first; empty until they are scored."""
    return scored_examples(get_for(Behaviour, behaviour_id, request.user))


@scores_router.create(
    "/baselines/{baseline_id}/influence", response={202: StartedJob}, scope=Scope.RUN
)
def compute_influence(request: HttpRequest, baseline_id: UUID, body: AttributeIn) -> dict[str, Any]:
    """Start computing the scores of the behaviours that lack them."""
    baseline = get_for(Baseline, baseline_id, request.user, Right.WRITE)
    job = behaviours.attribute(baseline=baseline, by=request.user, method=body.method)
    return {"job": job.pk}


@scores_router.read("/baselines/{baseline_id}/influence", response=list[InfluenceOut])
def list_influences(
    request: HttpRequest, baseline_id: UUID, method: str = Query("", max_length=40)
) -> Any:
    """The scores that a baseline has: one entry for each behaviour and method."""
    rows = get_for(Baseline, baseline_id, request.user).influences.order_by("created_at")
    return rows.filter(method=method) if method else rows


@scores_router.read("/influences/{influence_id}", response=InfluenceOut)
def show_influence(request: HttpRequest, influence_id: UUID) -> Influence:
    return get_for(Influence, influence_id, request.user)


@scores_router.read("/influences/{influence_id}/top", response=list[ExampleOut])
def list_top_examples(
    request: HttpRequest,
    influence_id: UUID,
    direction: Query[Literal["helpful", "harmful"]] = "harmful",
    count: int = Query(50, ge=1, le=10_000),
) -> Any:
    """The training examples whose weight moves the behaviour most, for better or for worse."""
    influence = get_for(Influence, influence_id, request.user)
    rows = extreme_examples(
        behaviour=influence.behaviour,
        method=influence.method,
        helpful=direction == "helpful",
        count=count,
    )
    return [{"split": "train", "probe_index": None, **example(row)} for row in rows]


@scores_router.read("/influences/{influence_id}/examples", response=Page[ExampleOut])
def list_scored_examples(
    request: HttpRequest, influence_id: UUID, query: Query[ExampleQuery]
) -> Any:
    """Examples with their scores, filtered and sorted; `sort=influence` or `sort=magnitude`."""
    influence = get_for(Influence, influence_id, request.user)
    return page_of_examples(influence.baseline.dataset_version, query, influence)


@scores_router.read("/influences/{influence_id}/scores", response=ScoreSlice)
def show_score_slice(
    request: HttpRequest,
    influence_id: UUID,
    start: int = Query(0, ge=0, lt=2**31),
    count: int = Query(1000, ge=1, le=100_000),
) -> dict[str, Any]:
    """Scores of `count` training examples from train index `start` on."""
    return score_slice(get_for(Influence, influence_id, request.user), start, count)


@scores_router.read(
    "/baselines/{baseline_id}/scores.parquet",
    openapi_extra={
        "responses": {
            200: {
                "description": "A row for each training example, a column for each behaviour.",
                "content": {PARQUET: {"schema": {"type": "string", "format": "binary"}}},
            },
            302: {"description": "Where object storage has the file, for five minutes."},
        }
    },
)
def download_scores(
    request: HttpRequest,
    baseline_id: UUID,
    method: str = Query(DEFAULT_METHOD, max_length=40, pattern=r"^[a-z0-9_]+$"),
) -> HttpResponseBase:
    """The whole matrix, examples × behaviours, as Parquet."""
    baseline = get_for(Baseline, baseline_id, request.user)
    influences = list(
        baseline.influences.filter(method=method, behaviour__archived_at=None)
        .select_related("behaviour", "scores_file")
        .order_by("behaviour__position", "behaviour__created_at")
    )
    if not influences:
        raise Problem(404, "There are no influence scores by this method.")
    etag = quote_etag(matrix_sha256(influences)[:32])
    unchanged: HttpResponse | None = not_modified(request, etag)
    if unchanged is not None:
        return unchanged
    stream = tempfile.TemporaryFile()  # noqa: SIM115  the answer closes it
    try:
        write_matrix(baseline, influences, stream)
    except ValueError as error:
        raise ValidationError(str(error)) from error
    return download(
        stream, file_name=f"scores-{method}.parquet", media_type=PARQUET, headers={"ETag": etag}
    )
