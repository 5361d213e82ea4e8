"""Deleting, restoring and purging: what an owner deletes is hidden with all that goes with it, can
be restored for the grace time, and is then purged. A project with registered plans is archived."""

import logging
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import ProtectedError, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from curation.models import (
    AuditEntry,
    Baseline,
    Dataset,
    DatasetVersion,
    Deletable,
    Deletion,
    Model,
    Project,
    Proposal,
)
from curation.queries.access import project_of
from curation.queries.deletions import affected_by, hindrance
from curation.services import audit

logger = logging.getLogger(__name__)

CHILDREN_FIRST: tuple[type[Deletable], ...] = (
    Proposal,
    Baseline,
    Model,
    DatasetVersion,
    Dataset,
    Project,
)


def grace() -> timedelta:
    """How long what was deleted can be restored."""
    return timedelta(seconds=settings.DELETION_GRACE_SECONDS)


@transaction.atomic
def delete(*, target: Deletable, by: Any) -> Deletion:
    """Hide the target and all that goes with it until it is restored or purged.

    Raises:
        ValidationError: jobs work on it, registered plans depend on it, or dataset versions that
            stay were made from it; of a project only the first.
    """
    project = _locked(project_of(target))
    affected = affected_by(target)
    if reason := hindrance(affected):
        raise ValidationError(reason)
    kind = str(target._meta.verbose_name)
    archived = affected.registrations().exists()
    deletion: Deletion = Deletion.objects.create(
        project=project,
        object_kind=kind,
        object_id=target.pk,
        name=str(target)[:255],
        counts=affected.counts(),
        deleted_by=by,
        purge_after=None if archived else timezone.now() + grace(),
    )
    # All keys first: each list of rows is found through parents that are hidden a moment later.
    keys = [(rows.model, list(rows.values_list("pk", flat=True))) for rows in affected.rows]
    for model, found in keys:
        model.everything.filter(pk__in=found).update(deletion=deletion)
    audit.record(
        action=f"{kind} {'archived' if archived else 'deleted'}",
        actor=by,
        project=project,
        target=target,
        name=deletion.name,
        with_it=deletion.counts,
    )
    return deletion


@transaction.atomic
def restore(*, deletion: Deletion, by: Any) -> None:
    """Bring back what was deleted; a name that was taken meanwhile gets "(restored)" behind it.

    Raises:
        ValidationError: it is purged already, or what it belongs to is itself deleted.
    """
    _locked(deletion.project)
    if not _still_there(deletion):
        raise ValidationError("It was purged or restored already.")
    if missing := _deleted_parent(deletion):
        raise ValidationError(f"Restore the {missing} first.")
    for model in CHILDREN_FIRST:
        _free_names(_of(model, deletion))
        _of(model, deletion).update(deletion=None)
    audit.record(
        action=f"{deletion.object_kind} restored",
        actor=by,
        project=deletion.project,
        name=deletion.name,
    )
    Deletion.objects.filter(pk=deletion.pk).delete()


def purge_due() -> int:
    """Remove for good what was deleted longer than the grace time ago; returns how many. Their
    files are then needed by nothing, and are deleted as such."""
    due = Deletion.objects.filter(purge_after__lte=Now()).order_by("purge_after")
    return sum(_purge(deletion) for deletion in due)


def _purge(deletion: Deletion) -> bool:
    """False: something still needs it; it stays hidden, and is tried again."""
    try:
        with transaction.atomic():
            project = _locked(deletion.project)
            if not _still_there(deletion):
                return False
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL hunch.purging = 'on'")
            whole = deletion.object_id == project.pk
            if whole:
                AuditEntry.objects.filter(project=project).update(project=None)
            for model in CHILDREN_FIRST:
                _remove(_of_project(model, project) if whole else _of(model, deletion))
            audit.record(
                action=f"{deletion.object_kind} purged",
                actor=None,
                project=None if whole else project,
                object=str(deletion.object_id),
                name=deletion.name,
            )
            Deletion.objects.filter(pk=deletion.pk).delete()
    except ProtectedError:
        logger.warning("deletion %s is not purged yet: something still needs it", deletion.pk)
        return False
    return True


def _still_there(deletion: Deletion) -> bool:
    """Whether nobody was faster; asked under the project's lock."""
    return Deletion.objects.filter(pk=deletion.pk).exists()


def _of(model: type[Deletable], deletion: Deletion) -> QuerySet[Any]:
    return model.everything.filter(deletion=deletion)


def _of_project(model: type[Deletable], project: Project) -> QuerySet[Any]:
    if model is Project:
        return Project.everything.filter(pk=project.pk)
    path = "dataset__project" if model is DatasetVersion else "project"
    return model.everything.filter(**{path: project})


def _remove(rows: QuerySet[Any]) -> None:
    if rows.model is Proposal:
        DatasetVersion.everything.filter(
            deletion__isnull=False, from_proposal__in=rows.values("pk")
        ).update(from_proposal=None)
    if rows.model is DatasetVersion:
        rows.update(parent=None)
    rows.delete()


def _locked(project: Project) -> Project:
    """Whatever adds to the project waits for this transaction, and so does claiming its jobs."""
    locked: Project = Project.everything.select_for_update().get(pk=project.pk)
    return locked


def _deleted_parent(deletion: Deletion) -> str:
    """The first thing that a row of this deletion belongs to and that another one holds."""
    ways: tuple[tuple[type[Deletable], tuple[str, ...]], ...] = (
        (Dataset, ("project",)),
        (DatasetVersion, ("dataset__project", "dataset", "parent", "from_proposal")),
        (Model, ("project",)),
        (Baseline, ("project", "dataset_version", "model")),
        (Proposal, ("project", "baseline")),
    )
    for model, parents in ways:
        for parent in parents:
            held = _of(model, deletion).filter(**{f"{parent}__deletion__isnull": False})
            row = held.exclude(**{f"{parent}__deletion": deletion.pk}).first()
            if row is not None:
                found: Any = row
                for name in parent.split("__"):
                    found = getattr(found, name)
                return f"{found._meta.verbose_name} {found}"
    return ""


def _free_names(rows: QuerySet[Any]) -> None:
    scope = "baseline" if rows.model is Proposal else "project"
    if rows.model in (Project, DatasetVersion):
        return
    for row in rows:
        siblings = rows.model.objects.filter(**{scope: getattr(row, f"{scope}_id")})
        taken = set(siblings.values_list("name", flat=True))
        name, number = row.name, 1
        while name in taken:
            ending = f" (restored{f' {number}' if number > 1 else ''})"
            name, number = row.name[: 120 - len(ending)] + ending, number + 1
        if name != row.name:
            rows.model.everything.filter(pk=row.pk).update(name=name)
