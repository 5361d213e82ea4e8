"""Projects, their members and their audit log; and who the caller is."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from curation.api.pagination import Input, Name, Page, PageQuery, by_number, newest_first
from curation.api.problems import Problem
from curation.api.router import ApiRouter
from curation.models import Membership, Project, Role, Scope, Token
from curation.queries.access import Right, get_for, visible
from curation.services import projects, tokens

router = ApiRouter(tags=["Projects"])


class ProjectIn(Input):
    name: Name
    description: str = Field("", max_length=4000)


class ProjectOut(Schema):
    id: UUID
    name: str
    description: str
    is_sample: bool
    disk_quota_bytes: int
    max_running_jobs: int
    created_at: datetime


class MemberIn(Input):
    username: str = Field(min_length=1, max_length=150)
    role: Role


class MemberOut(Schema):
    username: str
    role: Role
    created_at: datetime

    @staticmethod
    def resolve_username(member: Membership) -> str:
        return member.user.get_username()


class AuditOut(Schema):
    id: int
    actor: str | None
    action: str
    object_kind: str
    object_id: str
    detail: dict[str, Any]
    created_at: datetime

    @staticmethod
    def resolve_actor(entry: Any) -> str | None:
        return entry.actor.get_username() if entry.actor else None


class TokenOut(Schema):
    id: UUID
    name: str
    prefix: str = Field(description="The part of the token that is not secret.")
    scopes: list[Scope]
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


class MeOut(Schema):
    username: str
    token: TokenOut


@router.read("/me", response=MeOut, tags=["Tokens"])
def show_me(request: HttpRequest) -> dict[str, Any]:
    """Whose token this is and what it may do."""
    token: Token = request.auth  # type: ignore[attr-defined]
    return {"username": token.user.get_username(), "token": token}


@router.read("/tokens", response=Page[TokenOut], tags=["Tokens"])
def list_tokens(request: HttpRequest, page: Query[PageQuery]) -> dict[str, Any]:
    """Your own tokens. They are made on the account page, where the secret is shown once."""
    return newest_first(_own_tokens(request), page)


@router.remove("/tokens/{token_id}", tags=["Tokens"])
def revoke_token(request: HttpRequest, token_id: UUID) -> None:
    """End one of your own tokens at once."""
    token = _own_tokens(request).filter(pk=token_id).first()
    if token is None:
        raise Problem(404, "No such token.")
    tokens.revoke_token(token=token, by=request.user)


def _own_tokens(request: HttpRequest) -> QuerySet[Token]:
    token: Token = request.auth  # type: ignore[attr-defined]
    return Token.objects.filter(user_id=token.user_id)


@router.read("/projects", response=Page[ProjectOut])
def list_projects(
    request: HttpRequest, page: Query[PageQuery], name: str = Query("", max_length=120)
) -> dict[str, Any]:
    """The projects that you are a member of; `name` keeps those with exactly this name."""
    rows = visible(Project, request.user).filter(archived_at=None)
    return newest_first(rows.filter(name=name) if name else rows, page)


@router.create("/projects", response={201: ProjectOut})
def create_project(request: HttpRequest, body: ProjectIn) -> Project:
    """Make a project; you become its owner."""
    return projects.create_project(name=body.name, description=body.description, by=request.user)


@router.read("/projects/{project_id}", response=ProjectOut)
def show_project(request: HttpRequest, project_id: UUID) -> Project:
    return get_for(Project, project_id, request.user)


@router.change("/projects/{project_id}", method="PUT", response=ProjectOut)
def change_project(request: HttpRequest, project_id: UUID, body: ProjectIn) -> Project:
    """Rename a project or describe it anew. Owners only."""
    project = get_for(Project, project_id, request.user, Right.MANAGE)
    return projects.update_project(
        project=project, name=body.name, description=body.description, by=request.user
    )


@router.read("/projects/{project_id}/members", response=list[MemberOut])
def list_members(request: HttpRequest, project_id: UUID) -> Any:
    project = get_for(Project, project_id, request.user)
    return project.memberships.select_related("user").order_by("created_at", "pk")[:1000]


@router.change("/projects/{project_id}/members", method="PUT", response=MemberOut)
def set_member(request: HttpRequest, project_id: UUID, body: MemberIn) -> Membership:
    """Add a member or change a role. Owners only."""
    project = get_for(Project, project_id, request.user, Right.MANAGE)
    return projects.set_member(
        project=project, user=_user(body.username), role=body.role, by=request.user
    )


@router.remove("/projects/{project_id}/members/{user_name}")
def remove_member(request: HttpRequest, project_id: UUID, user_name: str) -> None:
    """Take a member out of the project. Owners only."""
    project = get_for(Project, project_id, request.user, Right.MANAGE)
    membership = (
        project.memberships.select_related("user").filter(user__username=user_name[:150]).first()
        if "\0" not in user_name
        else None
    )
    if membership is None:
        raise Problem(404, "No such member.")
    projects.remove_member(project=project, user=membership.user, by=request.user)


@router.read("/projects/{project_id}/audit", response=Page[AuditOut])
def list_audit_entries(
    request: HttpRequest, project_id: UUID, page: Query[PageQuery]
) -> dict[str, Any]:
    """Who did what in this project, the newest first."""
    project = get_for(Project, project_id, request.user)
    return by_number(project.audit_entries.select_related("actor"), page, descending=True)


def _user(username: str) -> Any:
    users = get_user_model()
    found = users._default_manager.filter(username=username, is_active=True).first()
    if found is None:
        raise Problem(422, "There is no active user with this name.")
    return found
