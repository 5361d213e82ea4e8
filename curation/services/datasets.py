"""Datasets and versions: upload, choose the column mapping, import. Reading the file is a
worker's job."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from curation.models import (
    Dataset,
    DatasetVersion,
    Job,
    JobKind,
    Project,
    Proposal,
    ProposalState,
    StoredFile,
    VersionState,
)
from curation.services import audit, jobs, proposals


@transaction.atomic
def create_dataset(
    *,
    project: Project,
    name: str,
    by: Any,
    description: str = "",
    licence: str = "",
    citation: str = "",
) -> Dataset:
    dataset = Dataset(
        project=project,
        name=name.strip(),
        description=description,
        licence=licence,
        citation=citation,
        created_by=by,
    )
    dataset.full_clean()
    dataset.save()
    audit.record(action="dataset created", actor=by, project=project, target=dataset)
    return dataset


@transaction.atomic
def add_version(
    *,
    dataset: Dataset,
    source_file: StoredFile,
    file_name: str,
    by: Any,
    parent: DatasetVersion | None = None,
) -> tuple[DatasetVersion, Job]:
    """Register an uploaded file as the next version and send it to be inspected."""
    Dataset.objects.select_for_update().get(pk=dataset.pk)
    latest = _last_number(dataset)
    version = DatasetVersion(
        dataset=dataset,
        number=latest + 1,
        parent=parent,
        source_file=source_file,
        file_name=file_name[-255:],
        created_by=by,
    )
    version.full_clean()
    version.save()
    audit.record(
        action="dataset version uploaded",
        actor=by,
        project=dataset.project,
        target=version,
        bytes=source_file.size,
    )
    job = jobs.enqueue(
        project=dataset.project, kind=JobKind.INSPECT_DATASET, target_id=version.pk, created_by=by
    )
    return version, job


@transaction.atomic
def apply_proposal(*, proposal: Proposal, by: Any) -> tuple[DatasetVersion, Job]:
    """Freeze the proposal and send its edits to become the next version of its dataset.

    Removed examples are left out and a whole weight above 1 repeats an example.

    Raises:
        ValidationError: there are no edits, or a weight is no whole number of rows.
    """
    parent = proposal.baseline.dataset_version
    weights = set(proposal.edits.values_list("weight", flat=True).distinct())
    if not weights:
        raise ValidationError("The proposal has no edits to apply.")
    broken = sorted(weight for weight in weights if weight != int(weight))
    if broken:
        raise ValidationError(
            f"A dataset version has no weights: {broken[0]:g} cannot be written as rows. "
            "Export the weighted dataset instead."
        )
    if proposal.state == ProposalState.DRAFT:
        proposal = proposals.freeze(proposal=proposal, by=by)
    Dataset.objects.select_for_update().get(pk=parent.dataset_id)
    version = DatasetVersion(
        dataset=parent.dataset,
        number=_last_number(parent.dataset) + 1,
        parent=parent,
        from_proposal=proposal,
        state=VersionState.IMPORTING,
        file_name=proposal.name[-255:],
        column_mapping=parent.column_mapping,
        created_by=by,
    )
    version.full_clean()
    version.save()
    audit.record(
        action="proposal applied",
        actor=by,
        project=proposal.project,
        target=version,
        proposal=proposal.name,
    )
    job = jobs.enqueue(
        project=proposal.project,
        kind=JobKind.IMPORT_DATASET,
        target_id=version.pk,
        created_by=by,
    )
    return version, job


@transaction.atomic
def import_version(*, version: DatasetVersion, column_mapping: dict[str, Any], by: Any) -> Job:
    """Fix the column mapping and send the version to be imported.

    Raises:
        ValidationError: the version is already imported, or is being imported.
    """
    version = (
        DatasetVersion.objects.select_for_update()
        .select_related("dataset__project")
        .get(pk=version.pk)
    )
    if version.state in (VersionState.READY, VersionState.IMPORTING):
        raise ValidationError(
            "This version is already imported or being imported; upload a new version instead."
        )
    version.column_mapping = column_mapping
    version.state = VersionState.IMPORTING
    version.error = ""
    version.save()
    audit.record(action="dataset import started", actor=by, project=version.project, target=version)
    return jobs.enqueue(
        project=version.project, kind=JobKind.IMPORT_DATASET, target_id=version.pk, created_by=by
    )


def _last_number(dataset: Dataset) -> int:
    """The highest number that a version has had; one that was deleted is not used again."""
    versions = DatasetVersion.everything.filter(dataset=dataset)
    return int(versions.aggregate(last=Max("number"))["last"] or 0)
