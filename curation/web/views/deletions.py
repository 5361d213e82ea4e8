"""Deleting with a page that says what goes with it, and what was deleted, to restore."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from curation.models import Baseline, Dataset, DatasetVersion, Deletion, Model, Project, Proposal
from curation.queries.access import Right, get_for, project_of
from curation.queries.deletions import affected_by, hindrance, restorable_by
from curation.services import deletions
from curation.web.forms.projects import ConfirmDeletion
from curation.web.views.helpers import attempt, page_of, project_page, status_of, tell

# Of each kind the page of one, and the tab and page of all.
PAGES: dict[Any, tuple[str, str, str]] = {
    Project: ("project", "overview", ""),
    Dataset: ("dataset", "datasets", "datasets"),
    DatasetVersion: ("version", "datasets", "datasets"),
    Model: ("model", "models", "models"),
    Baseline: ("baseline", "baselines", "baselines"),
    Proposal: ("proposal", "proposals", "proposals"),
}


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def delete(request: HttpRequest, pk: str, kind: Any) -> HttpResponse:
    """What goes with it, and the button; a project's name must be typed."""
    target = get_for(kind, pk, request.user, Right.MANAGE)
    project = project_of(target)
    is_project = kind is Project
    sent = request.POST if request.method == "POST" else None
    form = ConfirmDeletion(sent, name=target.name if is_project else "")
    if request.method == "POST" and form.is_valid():
        deletion = attempt(form, lambda: deletions.delete(target=target, by=request.user))
        if deletion:
            done = "archived" if deletion.is_archived else "deleted"
            messages.success(request, f"{deletion.name} was {done}. It can be restored below.")
            return redirect("deleted")
    page, tab, lists = PAGES[kind]
    affected = affected_by(target)
    address = reverse(page, args=[target.pk])
    trail = [(tab.capitalize(), reverse(lists, args=[project.pk]))] if lists else []
    return project_page(
        request,
        "deletions/confirm.html",
        project,
        tab=tab,
        trail=[*trail, *([(str(target), address)] if lists else []), ("Delete", "")],
        form=form,
        target=target,
        address=address,
        what=target._meta.verbose_name,
        counts=affected.counts(),
        hindrance=hindrance(affected),
        archives=is_project and affected.registrations().exists(),
        days=deletions.grace().total_seconds() / 86_400,
        status=status_of(form),
    )


@require_safe
@login_required
def deleted(request: HttpRequest) -> HttpResponse:
    """What was deleted in the user's own projects."""
    page = page_of(request, restorable_by(request.user))
    return render(request, "deletions/list.html", {"page_obj": page})


@require_POST
@login_required
def restore(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Deletion, pk, request.user, Right.MANAGE)
    tell(
        request,
        lambda: deletions.restore(deletion=found, by=request.user),
        f"{found.name} was restored.",
    )
    return redirect("deleted")
