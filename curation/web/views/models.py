"""Models and recipes: choose a built-in network, upload a model, write a recipe."""

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from curation.models import DatasetVersion, JobKind, Model, Project, Recipe, VersionState
from curation.queries.access import Right, get_for
from curation.services import files, training_setup, uploads
from curation.web.forms.architectures import title_of
from curation.web.forms.models import ModelForm, ModelUploadForm, RecipeForm
from curation.web.views.datasets import latest_job
from curation.web.views.helpers import Trail, attempt, project_page, status_of
from curation.web.views.jobs import progress_context


def _trail(project: Project, *rest: tuple[str, str]) -> Trail:
    return [("Models and recipes", reverse("models", args=[project.pk])), *rest]


@require_safe
@login_required
def model_list(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user)
    models = list(project.models.order_by("-created_at"))
    return project_page(
        request,
        "models/list.html",
        project,
        tab="models",
        models=[(model, title_of(model.architecture)) for model in models],
        recipes=project.recipes.order_by("-created_at"),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_model(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user, Right.WRITE)
    latest = (
        DatasetVersion.objects.filter(dataset__project=project, state=VersionState.READY)
        .order_by("-created_at")
        .first()
    )
    form = ModelForm(
        request.POST if request.method == "POST" else None, task=latest.task if latest else ""
    )
    if request.method == "POST" and form.is_valid():
        created = attempt(
            form,
            lambda: training_setup.create_model(
                project=project,
                name=form.cleaned_data["name"],
                architecture=form.architecture(),
                by=request.user,
            ),
        )
        if created:
            return redirect("models", project.pk)
    return project_page(
        request,
        "models/new.html",
        project,
        tab="models",
        trail=_trail(project, ("Built-in model", "")),
        form=form,
        task=latest.task if latest else "",
        task_title=latest.get_task_display() if latest else "",
        status=status_of(form),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def upload_model(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user, Right.WRITE)
    form = ModelUploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        created = attempt(form, lambda: _upload(project, form, request.user))
        if created:
            return redirect("model", created.pk)
    return project_page(
        request,
        "models/upload.html",
        project,
        tab="models",
        trail=_trail(project, ("Upload a model", "")),
        form=form,
        status=status_of(form),
    )


def _upload(project: Project, form: ModelUploadForm, by: Any) -> Model:
    uploaded = form.cleaned_data["model_files"]
    with uploads.room_for(project=project, size=sum(file.size for file in uploaded)):
        stored = {
            file.name: files.store_chunks(
                chunks=file.chunks(), max_bytes=settings.UPLOAD_MAX_BYTES
            ).sha256
            for file in uploaded
        }
        model, _ = training_setup.upload_model(
            project=project,
            name=form.cleaned_data["name"],
            files=stored,
            **form.choices(),
            by=by,
        )
    return model


@require_safe
@login_required
def model(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Model, pk, request.user)
    job = latest_job(found.pk, JobKind.CHECK_MODEL)
    context = progress_context(job) if job and not job.has_ended else {}
    return project_page(
        request,
        "models/model.html",
        found.project,
        tab="models",
        trail=_trail(found.project, (found.name, "")),
        model=found,
        title=title_of(found.architecture),
        settings=[(k, v) for k, v in found.architecture.items() if k != "name"],
        last_job=job,
        baselines=found.baselines.order_by("-created_at"),
        **context,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_recipe(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user, Right.WRITE)
    form = RecipeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        created = attempt(
            form,
            lambda: training_setup.create_recipe(
                project=project,
                name=form.cleaned_data["name"],
                settings=form.settings(),
                by=request.user,
            ),
        )
        if created:
            return redirect("models", project.pk)
    return project_page(
        request,
        "models/new_recipe.html",
        project,
        tab="models",
        trail=_trail(project, ("New recipe", "")),
        form=form,
        status=status_of(form),
    )


@require_safe
@login_required
def recipe(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Recipe, pk, request.user)
    return project_page(
        request,
        "models/recipe.html",
        found.project,
        tab="models",
        trail=_trail(found.project, (found.name, "")),
        recipe=found,
        settings=sorted(found.settings.items()),
        baselines=found.baselines.order_by("-created_at"),
    )
