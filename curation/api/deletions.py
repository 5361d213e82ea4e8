"""Deleting what a project holds or the project itself, and restoring it within the grace time."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from curation.api import datasets, projects, proposals, training
from curation.api.pagination import Page, PageQuery, newest_first
from curation.api.router import ApiRouter
from curation.models import Baseline, Dataset, DatasetVersion, Deletion, Model, Project, Proposal
from curation.queries.access import Right, get_for
from curation.queries.deletions import restorable_by
from curation.services import deletions

router = ApiRouter(tags=["Deletions"])


class DeletionOut(Schema):
    id: UUID
    project_id: UUID
    object_kind: str
    object_id: UUID
    name: str
    counts: dict[str, int] = Field(description="What went with it, by kind.")
    created_at: datetime
    purge_after: datetime | None = Field(
        description="Until when it can be restored; null for an archived project, which is kept."
    )


# A path has one router: those that delete stand with the others of their noun.


def _delete(request: HttpRequest, kind: Any, pk: UUID) -> Deletion:
    target = get_for(kind, pk, request.user, Right.MANAGE)
    return deletions.delete(target=target, by=request.user)


@projects.router.remove("/projects/{project_id}", response={200: DeletionOut})
def delete_project(request: HttpRequest, project_id: UUID) -> Deletion:
    """Delete a project with all it holds; with registered plans it is archived instead."""
    return _delete(request, Project, project_id)


@datasets.router.remove("/datasets/{dataset_id}", response={200: DeletionOut})
def delete_dataset(request: HttpRequest, dataset_id: UUID) -> Deletion:
    """Delete a dataset, its versions, and the baselines and proposals that stand on them."""
    return _delete(request, Dataset, dataset_id)


@datasets.router.remove("/versions/{version_id}", response={200: DeletionOut})
def delete_version(request: HttpRequest, version_id: UUID) -> Deletion:
    """Delete a dataset version, and the baselines and proposals that stand on it."""
    return _delete(request, DatasetVersion, version_id)


@training.router.remove("/models/{model_id}", response={200: DeletionOut})
def delete_model(request: HttpRequest, model_id: UUID) -> Deletion:
    """Delete a model, and the baselines and proposals that stand on it."""
    return _delete(request, Model, model_id)


@training.router.remove("/baselines/{baseline_id}", response={200: DeletionOut}, tags=["Baselines"])
def delete_baseline(request: HttpRequest, baseline_id: UUID) -> Deletion:
    """Delete a baseline with its scores, bank, behaviours and proposals."""
    return _delete(request, Baseline, baseline_id)


@proposals.router.remove("/proposals/{proposal_id}", response={200: DeletionOut})
def delete_proposal(request: HttpRequest, proposal_id: UUID) -> Deletion:
    """Delete a proposal that no registered plan and no dataset version depends on."""
    return _delete(request, Proposal, proposal_id)


@router.read("/deletions", response=Page[DeletionOut])
def list_deletions(request: HttpRequest, page: Query[PageQuery]) -> dict[str, Any]:
    """What was deleted in the projects that you own and can be restored."""
    return newest_first(restorable_by(request.user), page)


@router.create("/deletions/{deletion_id}/restore", response={204: None})
def restore_deletion(request: HttpRequest, deletion_id: UUID) -> None:
    """Bring it back with all that went with it. Owners only."""
    deletion = get_for(Deletion, deletion_id, request.user, Right.MANAGE)
    deletions.restore(deletion=deletion, by=request.user)
