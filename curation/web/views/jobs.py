"""Jobs: the list of a project's, one job's page with live progress, cancel and retry."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from curation.models import Job, JobKind, Project
from curation.queries.access import Right, get_for
from curation.services import jobs
from curation.web.views.helpers import page_of, project_page, tell

# The page of what a job works on, by kind.
TARGET_PAGES = {
    JobKind.INSPECT_DATASET: "version",
    JobKind.IMPORT_DATASET: "version",
    JobKind.CHECK_MODEL: "model",
    JobKind.TRAIN_BASELINE: "baseline",
    JobKind.ATTRIBUTE: "baseline",
    JobKind.EXTEND_BANK: "baseline",
    JobKind.PREDICT: "proposal",
    JobKind.SUGGEST: "baseline",
    JobKind.RETRAIN: "registration",
    JobKind.LADDER: "registration",
    JobKind.TOKEN_INFLUENCE: "token-influence",
    JobKind.MEASURE_EXAMPLES: "baseline",
}


def target_address(job: Job) -> str:
    return reverse(TARGET_PAGES[JobKind(job.kind)], args=[job.target_id])


def elapsed_seconds(job: Job) -> float | None:
    if job.started_at is None:
        return None
    return ((job.ended_at or timezone.now()) - job.started_at).total_seconds()


def seconds_left(job: Job) -> float | None:
    """Elapsed time scaled to what is left of the current stage; None before it can be known."""
    elapsed = elapsed_seconds(job)
    if job.has_ended or not elapsed or not job.total or job.done * 20 < job.total:
        return None
    return elapsed * (job.total - job.done) / job.done


def progress_context(job: Job) -> dict[str, Any]:
    return {
        "job": job,
        "elapsed": elapsed_seconds(job),
        "left": seconds_left(job),
        "target": target_address(job),
    }


@require_safe
@login_required
def job_list(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user)
    rows = project.jobs.select_related("created_by").order_by("-created_at")
    return project_page(
        request, "jobs/list.html", project, tab="jobs", page_obj=page_of(request, rows)
    )


@require_safe
@login_required
def job(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Job, pk, request.user)
    return project_page(
        request,
        "jobs/job.html",
        found.project,
        tab="jobs",
        trail=[("Jobs", reverse("jobs", args=[found.project_id])), (found.get_kind_display(), "")],
        log_lines=found.log_lines.all()[:500],
        **progress_context(found),
    )


@require_safe
@login_required
def progress(request: HttpRequest, pk: str) -> HttpResponse:
    """The live part of a job's page. When the job has ended the whole page is loaded anew."""
    found = get_for(Job, pk, request.user)
    response = render(
        request,
        "components/job_bar.html" if "bar" in request.GET else "jobs/progress.html",
        {"log_lines": found.log_lines.all()[:500], **progress_context(found)},
    )
    if found.has_ended:
        response["HX-Refresh"] = "true"
    return response


@require_POST
@login_required
def cancel(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Job, pk, request.user, Right.WRITE)
    tell(
        request,
        lambda: jobs.cancel(job=found, by=request.user),
        "The job was asked to stop; a running one ends within seconds.",
    )
    return redirect("job", found.pk)


@require_POST
@login_required
def retry(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Job, pk, request.user, Right.WRITE)
    again: list[Job] = []
    tell(
        request,
        lambda: again.append(jobs.retry(job=found, by=request.user)),
        "The job was queued again.",
    )
    return redirect("job", again[0].pk if again else found.pk)
