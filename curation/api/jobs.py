"""Jobs: state, log, waiting for the end, cancel, retry."""

import hashlib
import threading
import time
from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from curation.api.pagination import Page, PageQuery, by_number, newest_first
from curation.api.router import ApiRouter
from curation.models import Job, JobKind, JobState, Project, Scope
from curation.queries.access import Right, get_for
from curation.services import jobs

router = ApiRouter(tags=["Jobs"])
MAX_WAIT_SECONDS = 25
LOOK_EVERY_SECONDS = 0.25
# A waiting request holds one of the (four) threads of this process; above the limit it is answered
# at once, so that waiting programs leave threads for everybody else.
waiting_requests = threading.BoundedSemaphore(2)


class JobOut(Schema):
    id: UUID
    project_id: UUID
    kind: JobKind
    target_id: UUID
    state: JobState
    stage: str
    done: int
    total: int
    attempts: int
    cancel_requested: bool
    error: str
    estimate_seconds: float | None
    retry_of_id: UUID | None
    revision: str = Field(description="Changes whenever the job does; pass it on as `seen`.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @staticmethod
    def resolve_revision(job: Job) -> str:
        return revision(job)


class LogLineOut(Schema):
    id: int
    created_at: datetime
    text: str


@router.read("/projects/{project_id}/jobs", response=Page[JobOut])
def list_jobs(
    request: HttpRequest,
    project_id: UUID,
    page: Query[PageQuery],
    state: JobState | None = None,
    kind: JobKind | None = None,
    target: UUID | None = None,
) -> dict[str, Any]:
    rows = get_for(Project, project_id, request.user).jobs.all()
    filters = {"state": state, "kind": kind, "target_id": target}
    return newest_first(
        rows.filter(**{name: value for name, value in filters.items() if value}), page
    )


@router.read("/jobs/{job_id}", response=JobOut)
def show_job(
    request: HttpRequest,
    job_id: UUID,
    wait: int = Query(
        0, ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the job to end or to change."
    ),
    seen: str = Query(
        "",
        max_length=16,
        description="`revision` as you saw it last: then any change ends the wait.",
    ),
) -> Job:
    """A job. With `wait`, the answer comes when it ends, or differs from `seen`, or time is up."""
    job = get_for(Job, job_id, request.user)
    if wait and not _news(job, seen) and waiting_requests.acquire(blocking=False):
        try:
            _wait(job, seen, time.monotonic() + wait)
        finally:
            waiting_requests.release()
    return job


def _wait(job: Job, seen: str, until: float) -> None:
    while not _news(job, seen) and time.monotonic() < until:
        time.sleep(LOOK_EVERY_SECONDS)
        job.refresh_from_db()


def _news(job: Job, seen: str) -> bool:
    return job.has_ended or (bool(seen) and revision(job) != seen)


def revision(job: Job) -> str:
    parts = [job.state, job.stage, job.done, job.total, job.attempts, job.cancel_requested]
    return hashlib.sha256(repr([str(part) for part in parts]).encode()).hexdigest()[:16]


@router.read("/jobs/{job_id}/log", response=Page[LogLineOut])
def list_log_lines(request: HttpRequest, job_id: UUID, page: Query[PageQuery]) -> dict[str, Any]:
    """The job's log, oldest line first."""
    return by_number(get_for(Job, job_id, request.user).log_lines.all(), page, descending=False)


@router.create("/jobs/{job_id}/cancel", response=JobOut, scope=Scope.RUN)
def cancel_job(request: HttpRequest, job_id: UUID) -> Job:
    """Ask a job to stop; it ends within seconds and leaves nothing half-written."""
    job = get_for(Job, job_id, request.user, Right.WRITE)
    return jobs.cancel(job=job, by=request.user)


@router.create("/jobs/{job_id}/retry", response={202: JobOut}, scope=Scope.RUN)
def retry_job(request: HttpRequest, job_id: UUID) -> Job:
    """Queue the same work again, as a new job."""
    job = get_for(Job, job_id, request.user, Right.WRITE)
    return jobs.retry(job=job, by=request.user)
