"""Probe sets, and the measuring of what examples are sorted and filtered by."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from curation.api.behaviours import StartedJob
from curation.api.datasets import ExampleQuery, values_of
from curation.api.pagination import Input, Name, Page, PageQuery, newest_first
from curation.api.router import ApiRouter
from curation.models import Baseline, DatasetVersion, ProbeSet, Scope
from curation.queries.access import Right, get_for
from curation.queries.examples import ExampleArrays, ExampleFilter
from curation.services import example_values, probe_sets

router = ApiRouter(tags=["Datasets"])


class ProbeSetIn(Input):
    """Name the examples, or leave them out and let the query's filter choose."""

    name: Name
    example_ids: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        [], max_length=probe_sets.MAX_PROBE_EXAMPLES
    )


class ProbeSetOut(Schema):
    id: UUID
    dataset_version_id: UUID
    name: str
    size: int = Field(description="How many probe examples it holds.")
    chosen: str = Field(description="How the examples were found, in words.")
    created_at: datetime


@router.read("/versions/{version_id}/probe-sets", response=Page[ProbeSetOut])
def list_probe_sets(
    request: HttpRequest, version_id: UUID, page: Query[PageQuery]
) -> dict[str, Any]:
    return newest_first(get_for(DatasetVersion, version_id, request.user).probe_sets.all(), page)


@router.create("/versions/{version_id}/probe-sets", response={201: ProbeSetOut})
def save_probe_set(
    request: HttpRequest, version_id: UUID, body: ProbeSetIn, query: Query[ExampleQuery]
) -> ProbeSet:
    """Freeze the named probe examples, or those that match the query, under a name. Train examples
    are passed over."""
    version = get_for(DatasetVersion, version_id, request.user, Right.WRITE)
    wanted = query.filter()
    values: ExampleArrays = {}
    chosen = "matching a filter of the API"
    if body.example_ids:
        wanted, chosen = ExampleFilter(example_ids=tuple(body.example_ids)), "named one by one"
    elif wanted.ranges:
        values = values_of(version, query)
    return probe_sets.save_probe_set(
        version=version,
        name=body.name,
        wanted=wanted,
        chosen=chosen,
        by=request.user,
        values=values,
    )


@router.remove("/probe-sets/{probe_set_id}")
def delete_probe_set(request: HttpRequest, probe_set_id: UUID) -> None:
    """Delete a probe set; behaviours that read it stay as they are."""
    found = get_for(ProbeSet, probe_set_id, request.user, Right.WRITE)
    probe_sets.delete_probe_set(probe_set=found, by=request.user)


@router.create(
    "/baselines/{baseline_id}/example-values",
    response={202: StartedJob},
    scope=Scope.RUN,
    tags=["Baselines"],
)
def measure_examples(request: HttpRequest, baseline_id: UUID) -> dict[str, Any]:
    """Measure what is missing of every example's loss, confidence and self-influence; they are
    then given, and sorted and filtered by, in lists of examples."""
    baseline = get_for(Baseline, baseline_id, request.user, Right.WRITE)
    job = example_values.request_example_values(baseline=baseline, by=request.user)
    return {"job": job.pk}
