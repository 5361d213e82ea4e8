"""Writing the audit log: one call beside each change that a person or a token makes."""

from typing import Any

from django.db.models import Model as DjangoModel

from curation.models import AuditEntry, Project


def record(
    *,
    action: str,
    actor: Any,
    project: Project | None = None,
    target: DjangoModel | None = None,
    **detail: Any,
) -> AuditEntry:
    """Append one entry; `detail` holds names and counts, never example text or secrets."""
    return AuditEntry.objects.create(
        project=project,
        actor=actor if getattr(actor, "pk", None) else None,
        action=action,
        object_kind=str(target._meta.verbose_name) if target is not None else "",
        object_id=str(target.pk) if target is not None else "",
        detail=detail,
    )
