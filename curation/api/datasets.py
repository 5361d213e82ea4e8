"""Datasets, their versions and their examples."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.http import HttpRequest
from ninja import File, Form, Query, Schema, UploadedFile
from pydantic import Field

from curation.api import uploads
from curation.api.pagination import (
    Input,
    Name,
    Page,
    PageQuery,
    newest_first,
    offset_page,
    start_of,
)
from curation.api.problems import Problem
from curation.api.router import ApiRouter
from curation.models import Dataset, DatasetVersion, Job, Project, Task, VersionState
from curation.queries.access import Right, get_for
from curation.queries.example_values import VALUES, arrays_of, chosen_values, measured_baselines
from curation.queries.examples import SORTS, ExampleArrays, ExampleFilter, ExampleTable, Range
from curation.services import datasets
from curation.services.uploads import room_for

router = ApiRouter(tags=["Datasets"])


class DatasetIn(Input):
    name: Name
    description: str = Field("", max_length=4000)
    licence: str = Field("", max_length=200)
    citation: str = Field("", max_length=2000)


class DatasetOut(Schema):
    id: UUID
    project_id: UUID
    name: str
    description: str
    licence: str
    citation: str
    created_at: datetime


class VersionIn(Input):
    upload: UUID = Field(description="A completed upload of the same project.")
    parent: UUID | None = Field(None, description="The version of this dataset that it follows.")


class VersionOut(Schema):
    id: UUID
    dataset_id: UUID
    number: int
    state: VersionState
    file_name: str
    task: str
    classes: list[str]
    content_sha256: str
    train_count: int
    probe_count: int
    inspection: dict[str, Any] = Field(
        description="Columns, sample rows and the suggested mapping."
    )
    column_mapping: dict[str, Any]
    summary: dict[str, Any]
    error: str
    created_at: datetime


class StartedVersion(Schema):
    version: VersionOut
    job: UUID = Field(description="The job that inspects or imports the file.")


class ColumnMappingIn(Input):
    """Which column plays which part; columns named nowhere become attributes."""

    task: Task
    example_id: str | None = Field(None, max_length=200)
    text: str | None = Field(None, max_length=200, examples=["text"])
    features: list[str] = Field([], max_length=10_000)
    image: str | None = Field(None, max_length=200)
    image_shape: list[int] | None = Field(None, min_length=3, max_length=3)
    prompt: str | None = Field(None, max_length=200)
    completion: str | None = Field(None, max_length=200)
    messages: str | None = Field(None, max_length=200)
    label: str | None = Field(None, max_length=200, examples=["label"])
    target: str | None = Field(None, max_length=200)
    probe_label: str | None = Field(None, max_length=200)
    split: str | None = Field(None, max_length=200, examples=["split"])
    train_values: list[str] = Field([], max_length=100)
    probe_values: list[str] = Field([], max_length=100)
    probe_fraction: float = Field(0.2, gt=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**31)
    left_out: list[str] = Field([], max_length=10_000)


class ExampleOut(Schema):
    example_id: str
    split: str
    train_index: int | None
    probe_index: int | None
    label: str | None = None
    target: float | None = None
    content: str | None
    score: float | None = None
    loss: float | None = None
    confidence: float | None = None
    self_influence: float | None = None
    attributes: dict[str, Any] = {}


Bound = Annotated[float | None, Field(allow_inf_nan=False)]


class ExampleQuery(PageQuery):
    search: str = Field("", max_length=500, description="Text that the content must contain.")
    split: str = Field("", pattern="^(train|probe)?$")
    label: str = Field("", max_length=200)
    attribute: str = Field("", max_length=200, description="Name of an attribute to filter by.")
    value: str = Field("", max_length=500, description="The value that the attribute must have.")
    sort: str = Field("position", pattern=f"^({'|'.join(SORTS)})$")
    descending: bool = False
    baseline: UUID | None = Field(
        None,
        description="Whose loss, confidence and self-influence are given; without it those of the "
        "newest baseline that measured them.",
    )
    loss_from: Bound = None
    loss_to: Bound = None
    confidence_from: Bound = None
    confidence_to: Bound = None
    self_influence_from: Bound = None
    self_influence_to: Bound = None

    def ranges(self) -> dict[str, Range]:
        pairs = {
            name: (getattr(self, f"{name}_from"), getattr(self, f"{name}_to")) for name in VALUES
        }
        return {name: bounds for name, bounds in pairs.items() if bounds != (None, None)}

    def filter(self) -> ExampleFilter:
        name = (
            self.attribute
            if self.attribute.startswith("attribute_")
            else f"attribute_{self.attribute}"
        )
        return ExampleFilter(
            search=self.search,
            split=self.split,
            label=self.label,
            attributes={name: self.value} if self.attribute else {},
            ranges=self.ranges(),
        )


@router.read("/projects/{project_id}/datasets", response=Page[DatasetOut])
def list_datasets(
    request: HttpRequest,
    project_id: UUID,
    page: Query[PageQuery],
    name: str = Query("", max_length=120),
) -> dict[str, Any]:
    project = get_for(Project, project_id, request.user)
    rows = project.datasets.filter(archived_at=None)
    return newest_first(rows.filter(name=name) if name else rows, page)


@router.create("/projects/{project_id}/datasets", response={201: DatasetOut})
def create_dataset(request: HttpRequest, project_id: UUID, body: DatasetIn) -> Dataset:
    """Make an empty dataset; its examples come with a version."""
    project = get_for(Project, project_id, request.user, Right.WRITE)
    return datasets.create_dataset(project=project, by=request.user, **body.model_dump())


@router.read("/datasets/{dataset_id}", response=DatasetOut)
def show_dataset(request: HttpRequest, dataset_id: UUID) -> Dataset:
    return get_for(Dataset, dataset_id, request.user)


@router.read("/datasets/{dataset_id}/versions", response=Page[VersionOut])
def list_versions(request: HttpRequest, dataset_id: UUID, page: Query[PageQuery]) -> dict[str, Any]:
    dataset = get_for(Dataset, dataset_id, request.user)
    return newest_first(dataset.versions.all(), page)


@router.create("/datasets/{dataset_id}/versions", response={201: StartedVersion})
def create_version(request: HttpRequest, dataset_id: UUID, body: VersionIn) -> dict[str, Any]:
    """Make the next version from a completed upload; the file is then inspected by a job."""
    dataset = get_for(Dataset, dataset_id, request.user, Right.WRITE)
    upload, stored_file = uploads.completed(body.upload, request.user, dataset.project)
    parent = (
        get_for(DatasetVersion, body.parent, request.user, dataset=dataset) if body.parent else None
    )
    version, job = datasets.add_version(
        dataset=dataset,
        source_file=stored_file,
        file_name=upload.file_name,
        by=request.user,
        parent=parent,
    )
    return {"version": version, "job": job.pk}


@router.create("/datasets/{dataset_id}/versions/file", response={201: StartedVersion})
def upload_version(
    request: HttpRequest,
    dataset_id: UUID,
    file: File[UploadedFile],
    parent: Form[UUID | None] = None,
) -> dict[str, Any]:
    """Make the next version from a file in the form field `file`: one call, not resumable."""
    dataset = get_for(Dataset, dataset_id, request.user, Right.WRITE)
    before = get_for(DatasetVersion, parent, request.user, dataset=dataset) if parent else None
    with room_for(project=dataset.project, size=file.size or 0):
        version, job = datasets.add_version(
            dataset=dataset,
            source_file=uploads.stored(file.chunks()),
            file_name=file.name or "upload",
            by=request.user,
            parent=before,
        )
    return {"version": version, "job": job.pk}


@router.read("/versions/{version_id}", response=VersionOut)
def show_version(request: HttpRequest, version_id: UUID) -> DatasetVersion:
    """A version: what its file holds, and once it is ready, its classes and counts."""
    return get_for(DatasetVersion, version_id, request.user)


@router.create("/versions/{version_id}/import", response={202: StartedVersion})
def import_version(request: HttpRequest, version_id: UUID, body: ColumnMappingIn) -> dict[str, Any]:
    """Fix the column mapping and start the import. The version's `inspection` suggests one."""
    version = get_for(DatasetVersion, version_id, request.user, Right.WRITE)
    if version.state == VersionState.UPLOADED:
        raise Problem(409, "The file is still being inspected.")
    mapping = {
        name: value
        for name, value in body.model_dump(mode="json").items()
        if value not in (None, [])
    }
    job: Job = datasets.import_version(version=version, column_mapping=mapping, by=request.user)
    version.refresh_from_db()
    return {"version": version, "job": job.pk}


@router.read("/versions/{version_id}/examples", response=Page[ExampleOut])
def list_examples(
    request: HttpRequest, version_id: UUID, query: Query[ExampleQuery]
) -> dict[str, Any]:
    """Examples of a ready version, filtered and sorted."""
    version = get_for(DatasetVersion, version_id, request.user)
    return page_of_examples(version, query)


def page_of_examples(version: DatasetVersion, query: ExampleQuery, influence: Any = None) -> Any:
    if version.state != VersionState.READY:
        raise Problem(409, "The dataset version is not imported yet.")
    values = values_of(version, query, influence)
    with ExampleTable(version) as table:
        try:
            found = table.page(
                query.filter(),
                sort=query.sort,
                descending=query.descending,
                offset=start_of(query),
                limit=query.limit,
                influence=influence,
                values=values,
            )
        except KeyError as error:
            raise ValidationError(
                {"attribute": f"The dataset has no attribute {error}."}
            ) from error
    return offset_page([example(row) for row in found.rows], query, found.total)


def values_of(version: DatasetVersion, query: ExampleQuery, influence: Any = None) -> ExampleArrays:
    """What the wanted baseline measured. Raises Problem where it did not measure what is asked."""
    known = measured_baselines(version)
    if query.baseline and query.baseline not in {one.baseline_id for one in known}:
        raise Problem(404, "No baseline of this version with this id has measured its examples.")
    default = None if influence is None else influence.baseline
    values = arrays_of(chosen_values(known, str(query.baseline or ""), default))
    for name in (*query.ranges(), query.sort):
        if name in VALUES and name not in values:
            raise Problem(409, f"The {name.replace('_', '-')} of the examples is not measured.")
    return values


def example(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its attributes in one object, under the names of the upload."""
    attributes = {
        name.removeprefix("attribute_"): value
        for name, value in row.items()
        if name.startswith("attribute_")
    }
    return {**row, "attributes": attributes}
