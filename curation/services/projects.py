"""Making projects and managing their members."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import Membership, Project, Role
from curation.services import audit


@transaction.atomic
def create_project(
    *, name: str, by: Any, description: str = "", is_sample: bool = False
) -> Project:
    """A new project whose owner is `by`."""
    project = Project(name=name.strip(), description=description.strip(), is_sample=is_sample)
    project.full_clean()
    project.save()
    Membership.objects.create(project=project, user=by, role=Role.OWNER)
    audit.record(action="project created", actor=by, project=project, target=project)
    return project


@transaction.atomic
def update_project(*, project: Project, name: str, description: str, by: Any) -> Project:
    """Rename a project or describe it anew."""
    project.name, project.description = name.strip(), description.strip()
    project.full_clean()
    project.save(update_fields=["name", "description"])
    audit.record(action="project changed", actor=by, project=project, target=project)
    return project


@transaction.atomic
def set_member(*, project: Project, user: Any, role: str, by: Any) -> Membership:
    """Add a member or change a role.

    Raises:
        ValidationError: the project would be left without an owner, or the role is unknown.
    """
    Project.objects.select_for_update().get(pk=project.pk)
    membership = Membership.objects.filter(project=project, user=user).first() or Membership(
        project=project, user=user
    )
    if membership.role == Role.OWNER and role != Role.OWNER:
        _keep_an_owner(project, user)
    membership.role = role
    membership.full_clean()
    membership.save()
    audit.record(
        action="member set",
        actor=by,
        project=project,
        target=project,
        member=user.get_username(),
        role=role,
    )
    return membership


@transaction.atomic
def remove_member(*, project: Project, user: Any, by: Any) -> None:
    """Take a member out of the project.

    Raises:
        ValidationError: the member is the last owner.
    """
    Project.objects.select_for_update().get(pk=project.pk)
    _keep_an_owner(project, user)
    Membership.objects.filter(project=project, user=user).delete()
    audit.record(
        action="member removed",
        actor=by,
        project=project,
        target=project,
        member=user.get_username(),
    )


def _keep_an_owner(project: Project, leaving: Any) -> None:
    others = project.memberships.filter(role=Role.OWNER).exclude(user=leaving)
    if not others.exists():
        raise ValidationError(
            "A project needs at least one owner; make another member an owner first."
        )
