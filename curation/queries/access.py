"""The one way to reach an object for a user: a stranger gets 404, a member without the right gets
403."""

from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model as DjangoModel
from django.db.models import QuerySet
from django.http import Http404

from curation import models
from curation.models import Membership, Project, Role

T = TypeVar("T", bound=DjangoModel)


class Right(StrEnum):
    READ = "read"
    WRITE = "write"
    REVIEW = "review"
    MANAGE = "manage"


ROLES_WITH_RIGHT = {
    Right.READ: frozenset(Role.values),
    Right.WRITE: frozenset({Role.OWNER, Role.EDITOR}),
    Right.REVIEW: frozenset({Role.OWNER, Role.REVIEWER}),
    Right.MANAGE: frozenset({Role.OWNER}),
}

PROJECT_PATH: dict[type[DjangoModel], str] = {
    models.Project: "",
    models.Dataset: "project",
    models.DatasetVersion: "dataset__project",
    models.Model: "project",
    models.Recipe: "project",
    models.Baseline: "project",
    models.BaselineRun: "baseline__project",
    models.Behaviour: "baseline__project",
    models.Influence: "baseline__project",
    models.Proposal: "project",
    models.Prediction: "proposal__project",
    models.Registration: "project",
    models.Retrain: "registration__project",
    models.Deviation: "registration__project",
    models.Verdict: "registration__project",
    models.Ladder: "registration__project",
    models.TokenInfluence: "behaviour__baseline__project",
    models.Suggestion: "behaviour__baseline__project",
    models.LabelCheck: "baseline__project",
    models.ExampleValues: "baseline__project",
    models.ProbeSet: "dataset_version__dataset__project",
    models.BankEdit: "baseline__project",
    models.Job: "project",
    models.AuditEntry: "project",
    models.Upload: "project",
    models.Deletion: "project",
    models.Webhook: "project",
    models.WebhookDelivery: "webhook__project",
}


def visible(model: type[T], user: Any) -> QuerySet[T]:
    """Every row of the model that belongs to one of the user's projects, and to nothing that was
    deleted."""
    path = PROJECT_PATH[model]
    lookup = f"{path}__memberships__user" if path else "memberships__user"
    return model._default_manager.filter(**{lookup: user}, **_kept(model))


def _kept(model: type[DjangoModel]) -> dict[str, None]:
    """Conditions that no parent of the row is deleted; deletions themselves are seen."""
    conditions: dict[str, None] = {}
    if model is models.Deletion:
        return conditions
    parent: Any = model
    prefix = ""
    for name in filter(None, PROJECT_PATH[model].split("__")):
        parent = parent._meta.get_field(name).related_model
        prefix += f"{name}__"
        if issubclass(parent, models.Deletable):
            conditions[f"{prefix}deletion"] = None
    return conditions


def project_of(target: DjangoModel) -> Project:
    """The project that an object belongs to."""
    value: Any = target
    for name in filter(None, PROJECT_PATH[type(target)].split("__")):
        value = getattr(value, name)
    assert isinstance(value, Project)
    return value


def role_of(user: Any, project: Project) -> str | None:
    return (
        Membership.objects.filter(project=project, user=user).values_list("role", flat=True).first()
    )


def get_for(
    model: type[T],
    pk: UUID | str,
    user: Any,
    right: Right = Right.READ,
    *,
    with_related: tuple[str, ...] = (),
    **within: Any,
) -> T:
    """The object, if the user may see it.

    `within` narrows the look-up to a parent, so that an id of another project nested in a valid
    path is not found. `with_related` names what is read by the same query.

    Raises:
        Http404: the object does not exist or belongs to a project the user is no member of.
        PermissionDenied: the user is a member without the right.
    """
    path = PROJECT_PATH[model]
    queryset = visible(model, user)
    related = (path, *with_related) if path else with_related
    if related:
        queryset = queryset.select_related(*related)
    try:
        target = queryset.get(pk=pk, **within)
    except (model.DoesNotExist, ValidationError):  # type: ignore[attr-defined]
        raise Http404(f"No such {model._meta.verbose_name}.") from None
    require(user, project_of(target), right)
    return target


def require(user: Any, project: Project, right: Right) -> None:
    """Raise PermissionDenied unless the user's role in the project gives the right."""
    if right is not Right.READ and role_of(user, project) not in ROLES_WITH_RIGHT[right]:
        raise PermissionDenied(f"Your role in this project does not allow you to {right}.")
