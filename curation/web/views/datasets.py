"""Datasets and their versions: upload, map the columns, read what the import found."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import Count, Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from curation.models import Dataset, DatasetVersion, Job, JobKind, Project, VersionState
from curation.queries.access import Right, get_for
from curation.services import datasets, files, uploads
from curation.web.charts.histogram import Bar, bar_list, histogram
from curation.web.forms.datasets import ColumnMappingForm, DatasetForm, FileForm
from curation.web.views.helpers import Trail, attempt, project_page, status_of
from curation.web.views.jobs import progress_context


def trail_to(version: DatasetVersion) -> Trail:
    dataset = version.dataset
    return [
        ("Datasets", reverse("datasets", args=[dataset.project_id])),
        (dataset.name, reverse("dataset", args=[dataset.pk])),
        (f"Version {version.number}", reverse("version", args=[version.pk])),
    ]


def latest_job(target_id: Any, *kinds: str) -> Job | None:
    jobs = Job.objects.filter(target_id=target_id, kind__in=kinds)
    return jobs.select_related("project").order_by("-created_at").first()


@require_safe
@login_required
def dataset_list(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user)
    rows = project.datasets.filter(archived_at=None).annotate(
        number_of_versions=Count("versions"), last_version_at=Max("versions__created_at")
    )
    return project_page(
        request,
        "datasets/list.html",
        project,
        tab="datasets",
        datasets=rows.order_by("-created_at"),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_dataset(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user, Right.WRITE)
    form = DatasetForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        version = attempt(form, lambda: _create(project, form, request.user))
        if version:
            return redirect("version", version.pk)
    return project_page(
        request,
        "datasets/new.html",
        project,
        tab="datasets",
        trail=[("Datasets", reverse("datasets", args=[project.pk])), ("New dataset", "")],
        form=form,
        most_bytes=settings.UPLOAD_MAX_BYTES,
        status=status_of(form),
    )


@transaction.atomic
def _create(project: Project, form: DatasetForm, by: Any) -> DatasetVersion:
    values = dict(form.cleaned_data)
    file = values.pop("file")
    dataset = datasets.create_dataset(project=project, by=by, **values)
    return _add_version(dataset, file, by)


def _add_version(
    dataset: Dataset, file: UploadedFile, by: Any, parent: DatasetVersion | None = None
) -> DatasetVersion:
    """Raises TooLarge where the project has no room for the file."""
    with uploads.room_for(project=dataset.project, size=file.size or 0):
        source = files.store_chunks(chunks=file.chunks(), max_bytes=settings.UPLOAD_MAX_BYTES)
        version, _ = datasets.add_version(
            dataset=dataset, source_file=source, file_name=file.name or "", by=by, parent=parent
        )
    return version


@require_safe
@login_required
def dataset(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Dataset, pk, request.user)
    return project_page(
        request,
        "datasets/dataset.html",
        found.project,
        tab="datasets",
        trail=[("Datasets", reverse("datasets", args=[found.project_id])), (found.name, "")],
        dataset=found,
        versions=found.versions.select_related("parent", "from_proposal", "created_by"),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_version(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Dataset, pk, request.user, Right.WRITE)
    form = FileForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        file = form.cleaned_data["file"]
        added = attempt(
            form,
            lambda: _add_version(
                found,
                file,
                request.user,
                parent=found.versions.filter(state=VersionState.READY).first(),
            ),
        )
        if added:
            return redirect("version", added.pk)
    return project_page(
        request,
        "datasets/new_version.html",
        found.project,
        tab="datasets",
        trail=[
            ("Datasets", reverse("datasets", args=[found.project_id])),
            (found.name, reverse("dataset", args=[found.pk])),
            ("New version", ""),
        ],
        dataset=found,
        form=form,
        most_bytes=settings.UPLOAD_MAX_BYTES,
        status=status_of(form),
    )


@require_safe
@login_required
def version(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(DatasetVersion, pk, request.user)
    job = latest_job(found.pk, JobKind.INSPECT_DATASET, JobKind.IMPORT_DATASET)
    context: dict[str, Any] = progress_context(job) if job and not job.has_ended else {}
    if found.state == VersionState.READY:
        context |= _findings(found)
    return project_page(
        request,
        "datasets/version.html",
        found.project,
        tab="datasets",
        trail=[*trail_to(found)[:-1], (f"Version {found.number}", "")],
        version=found,
        last_job=job,
        has_others=found.dataset.versions.filter(
            state=VersionState.READY, number__lt=found.number
        ).exists(),
        baselines=found.baselines.order_by("-created_at"),
        probe_sets=found.probe_sets.select_related("created_by"),
        **context,
    )


def _findings(version: DatasetVersion) -> dict[str, Any]:
    """What the import found, as charts and facts."""
    statistics = version.summary.get("statistics") or {}
    found: dict[str, Any] = {"statistics": statistics, "problems": _problems(statistics)}
    for split in ("train", "probe"):
        if statistics.get("classes"):
            found[f"{split}_classes"] = bar_list(
                [Bar(str(row["label"]), row[split]) for row in statistics["classes"]],
                identifier=f"{split}-classes",
                title=f"Classes in the {split} split",
            )
    lengths = statistics.get("text_length")
    if lengths:
        found["lengths"] = bar_list(
            _length_bars(lengths["edges"], lengths["counts"]),
            identifier="lengths",
            title="Length of the texts, in characters",
        )
    target = statistics.get("target")
    if target:
        found["target"] = histogram(
            target["histogram"]["edges"],
            target["histogram"]["counts"],
            identifier="target",
            title="Target",
            unit="target",
        )
    return found


def _length_bars(edges: list[int], counts: list[int]) -> list[Bar]:
    """One bar a range of lengths, without the empty ranges at the end."""
    last = max((k for k, number in enumerate(counts) if number), default=0)
    return [
        Bar(f"{low:,}" if high - low == 1 else f"{low:,}–{high - 1:,}", number)
        for low, high, number in zip(edges, edges[1:], counts[: last + 1], strict=False)
    ]


_PROBLEMS = {
    "exact_duplicates": (
        "Exact duplicates",
        "The same content more than once.",
    ),
    "near_duplicates": (
        "Near-duplicates",
        "Contents that differ only in little things.",
    ),
    "conflicting_labels": (
        "Conflicting labels",
        "The same content with different labels.",
    ),
}


def _problems(statistics: dict[str, Any]) -> list[dict[str, Any]]:
    """Duplicates, near-duplicates and conflicts, each with its counts and samples."""
    return [
        {"name": name, "title": title, "explanation": explanation, **statistics[name]}
        for name, (title, explanation) in _PROBLEMS.items()
        if statistics.get(name)
    ]


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def columns(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(DatasetVersion, pk, request.user, Right.WRITE)
    if found.state != VersionState.INSPECTED:
        return redirect("version", found.pk)
    form = ColumnMappingForm(found, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        job = attempt(
            form,
            lambda: datasets.import_version(
                version=found, column_mapping=form.mapping(), by=request.user
            ),
        )
        if job:
            return redirect("version", found.pk)
    return _columns_page(request, found, form)


def _columns_page(request: HttpRequest, version: DatasetVersion, form: forms.Form) -> HttpResponse:
    described = version.inspection.get("columns", [])
    return project_page(
        request,
        "datasets/columns.html",
        version.project,
        tab="datasets",
        trail=[*trail_to(version), ("Columns", "")],
        version=version,
        form=form,
        described=described,
        preview=version.inspection.get("preview", [])[:10],
        status=status_of(form),
    )
