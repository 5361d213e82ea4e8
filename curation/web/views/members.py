"""Members of a project and its audit log."""

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from curation.models import Project
from curation.queries.access import Right, get_for, require
from curation.services import projects
from curation.web.audit_targets import targets_of
from curation.web.forms.projects import MemberForm
from curation.web.views.helpers import attempt, page_of, project_page, status_of, tell


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def members(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user)
    form = MemberForm(request.POST or None)
    if request.method == "POST":
        require(request.user, project, Right.MANAGE)
    if request.method == "POST" and form.is_valid():
        saved = attempt(
            form,
            lambda: projects.set_member(
                project=project,
                user=form.cleaned_data["username"],
                role=form.cleaned_data["role"],
                by=request.user,
            ),
        )
        if saved:
            messages.success(request, "The member was saved.")
            return redirect("members", project.pk)
    return project_page(
        request,
        "projects/members.html",
        project,
        tab="members",
        form=form,
        memberships=project.memberships.select_related("user").order_by("created_at"),
        status=status_of(form),
    )


@require_POST
@login_required
def remove_member(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user, Right.MANAGE)
    leaving = get_object_or_404(
        get_user_model(), username=request.POST.get("username", ""), memberships__project=project
    )
    tell(
        request,
        lambda: projects.remove_member(project=project, user=leaving, by=request.user),
        f"{leaving.get_username()} is no longer a member.",
    )
    return redirect("members", project.pk)


@require_safe
@login_required
def audit_log(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user)
    entries = page_of(request, project.audit_entries.select_related("actor"))
    return project_page(
        request,
        "projects/audit.html",
        project,
        tab="members",
        trail=[("Audit log", "")],
        page_obj=entries,
        targets=targets_of(entries),
    )
