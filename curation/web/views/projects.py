"""Home and project pages: what needs attention, what runs, what was found, and the next step."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from curation.models import Project
from curation.queries.access import Right, get_for, visible
from curation.services import projects, sample_project
from curation.web import overview
from curation.web.forms.projects import ProjectForm
from curation.web.views.helpers import attempt, project_page, status_of


@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponse:
    own = visible(Project, request.user).filter(archived_at=None)
    return render(
        request,
        "home.html",
        {
            "projects": overview.with_counts(own).order_by("-created_at"),
            "attention": overview.needs_attention(own),
            "running": overview.running_jobs(own),
            "verdicts": overview.recent_verdicts(own),
            "has_sample": own.filter(is_sample=True).exists(),
        },
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_project(request: HttpRequest) -> HttpResponse:
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        created = attempt(
            form, lambda: projects.create_project(**form.cleaned_data, by=request.user)
        )
        if created:
            return redirect("project", created.pk)
    return render(request, "projects/new.html", {"form": form}, status=status_of(form))


@require_POST
@login_required
def load_sample(request: HttpRequest) -> HttpResponse:
    """Make the sample project; its steps follow by themselves, job by job."""
    created = sample_project.load_sample_project(by=request.user)
    messages.success(request, "The sample project is being made; each step starts by itself.")
    return redirect("project", created.pk)


@require_safe
@login_required
def project(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Project, pk, request.user)
    own = Project.objects.filter(pk=found.pk)
    return project_page(
        request,
        "projects/project.html",
        found,
        tab="overview",
        steps=overview.steps(found),
        attention=overview.needs_attention(own),
        running=overview.running_jobs(own),
        verdicts=overview.recent_verdicts(own),
        members=found.memberships.select_related("user").order_by("created_at"),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def edit_project(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Project, pk, request.user, Right.MANAGE)
    form = ProjectForm(request.POST) if request.method == "POST" else ProjectForm.of(found)
    if request.method == "POST" and form.is_valid():
        saved = attempt(
            form,
            lambda: projects.update_project(project=found, **form.cleaned_data, by=request.user),
        )
        if saved:
            messages.success(request, "The project was saved.")
            return redirect("project", found.pk)
    return project_page(
        request,
        "projects/edit.html",
        found,
        tab="overview",
        trail=[("Settings", "")],
        form=form,
        status=status_of(form),
    )
