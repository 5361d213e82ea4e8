"""The life of a job: enqueue, claim, heartbeat, end, cancel, retry, sweep. What a job does is in
workers/tasks.

Every time that is stored or compared here is the database's: the clocks of workers may jump and
differ.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, F, Max, Min, Q, Value
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Greatest, Least, Now

from curation.models import ENDED, Job, JobKind, JobLogLine, JobState, Project
from curation.services import audit, job_targets

logger = logging.getLogger(__name__)

QUEUE_OF_KIND = {
    JobKind.INSPECT_DATASET: "predict",
    JobKind.IMPORT_DATASET: "predict",
    JobKind.CHECK_MODEL: "predict",
    JobKind.PREDICT: "predict",
    JobKind.SUGGEST: "predict",
    JobKind.TRAIN_BASELINE: "train",
    JobKind.ATTRIBUTE: "train",
    JobKind.EXTEND_BANK: "train",
    JobKind.RETRAIN: "train",
    JobKind.LADDER: "train",
    JobKind.TOKEN_INFLUENCE: "train",
    JobKind.MEASURE_EXAMPLES: "train",
}
MAX_ATTEMPTS = 5
LONGEST_SILENCE = timedelta(minutes=10)  # until a waiting job is sent again


def lease_end() -> CombinedExpression:
    """When a lease that is taken or extended now runs out."""
    return Now() + timedelta(seconds=settings.JOB_LEASE_SECONDS)


def enqueue(
    *,
    project: Project,
    kind: str,
    target_id: UUID,
    payload: dict[str, Any] | None = None,
    created_by: Any = None,
    estimate_seconds: float | None = None,
    retry_of: Job | None = None,
) -> Job:
    """Save the job's row and send it to a worker once the transaction commits."""
    job = Job(
        project=project,
        kind=kind,
        queue=QUEUE_OF_KIND[JobKind(kind)],
        target_id=target_id,
        payload=payload or {},
        created_by=created_by,
        estimate_seconds=estimate_seconds,
        retry_of=retry_of,
    )
    job.full_clean()
    job.save()
    transaction.on_commit(lambda: send(job))
    return job


def send(job: Job) -> None:
    """Hand the job to the broker. A broker that is away only delays it: the sweep sends it
    again."""
    from workers.celery import app

    Job.objects.filter(pk=job.pk).update(sent_at=Now())
    try:
        app.send_task(
            "workers.tasks.run.run_job",
            args=[str(job.pk)],
            kwargs={"fairly": True},
            queue=job.queue,
            retry=False,
        )
    except Exception as error:  # any broker failure: the row is the truth, the message only a hint
        logger.warning(
            "job %s could not be sent (%s); the sweep will send it", job.pk, type(error).__name__
        )


def claim(*, job_id: UUID, worker: str) -> Job | None:
    """Take a queued job, or one whose worker fell silent, by one conditional UPDATE.

    Returns None when another worker has it, it has ended, or its project already runs its share.
    """
    with transaction.atomic():
        project = Project.objects.select_for_update().filter(jobs=job_id).first()
        if project is None:
            return None
        running = Job.objects.filter(
            project=project, state=JobState.RUNNING, lease_until__gte=Now()
        ).exclude(pk=job_id)
        if running.count() >= project.max_running_jobs:
            Job.objects.filter(pk=job_id, state=JobState.QUEUED).update(sent_at=None)
            return None
        claimed = (
            Job.objects.filter(pk=job_id)
            .filter(
                Q(state=JobState.QUEUED)
                | Q(state=JobState.RUNNING, lease_until__lt=Now(), attempts__lt=MAX_ATTEMPTS)
            )
            .update(
                state=JobState.RUNNING,
                worker=worker,
                attempts=F("attempts") + 1,
                lease_until=lease_end(),
                started_at=Now(),
                error="",
            )
        )
    return Job.objects.select_related("project").get(pk=job_id) if claimed else None


def claim_fairly(*, job_id: UUID, worker: str) -> Job | None:
    """Take the queued job whose turn it is, of the queue that this job was sent to.

    A message is a permission to run one job, not this very one: of the waiting projects the one
    with the fewest running jobs goes first, then the one that has waited longest for its turn, so
    that a project with hundreds of jobs holds nobody up. A job that its worker left is taken up by
    its own message.
    """
    named = Job.objects.filter(pk=job_id).only("queue", "state").first()
    if named is None:
        return None
    if named.state == JobState.RUNNING and (claimed := claim(job_id=job_id, worker=worker)):
        return claimed
    for candidate in _in_turn(named.queue):
        if claimed := claim(job_id=candidate, worker=worker):
            return claimed
    return None


def _in_turn(queue: str, most: int = 20) -> list[UUID]:
    """The oldest waiting job of each project, in the order of the projects' turns."""
    waiting = Job.objects.filter(queue=queue, state=JobState.QUEUED).values_list("project")
    since = dict(waiting.annotate(oldest=Min("created_at")))
    recent = Job.objects.filter(project__in=since, started_at__gte=Now() - timedelta(days=1))
    rows = recent.values_list("project").annotate(
        running=Count("pk", filter=Q(state=JobState.RUNNING, lease_until__gte=Now())),
        last=Max("started_at"),
    )
    turns = {project: (running, last) for project, running, last in rows}
    never = datetime.min.replace(tzinfo=UTC)
    order = sorted(since, key=lambda project: (*turns.get(project, (0, never)), since[project]))
    queued = Job.objects.filter(queue=queue, state=JobState.QUEUED).order_by("created_at")
    oldest = (queued.filter(project=project).first() for project in order[:most])
    return [job.pk for job in oldest if job is not None]


def is_wanted(*, job: Job) -> bool:
    """Whether the job is still this worker's and nobody asked it to stop; a cheap read.

    A row that cannot be seen, since a transaction that is still open made it, is no reason to stop.
    """
    found = (
        Job.objects.filter(pk=job.pk)
        .values_list("state", "worker", "attempts", "cancel_requested")
        .first()
    )
    return found is None or found == (JobState.RUNNING, job.worker, job.attempts, False)


def hand_back(*, job: Job) -> bool:
    """Give a running job back unharmed, for another worker: this one is shutting down."""
    returned = Job.objects.filter(
        pk=job.pk, state=JobState.RUNNING, worker=job.worker, attempts=job.attempts
    ).update(
        state=JobState.QUEUED,
        worker="",
        lease_until=None,
        attempts=F("attempts") - 1,
        sent_at=None,
    )
    if returned:
        transaction.on_commit(lambda: send(job))
    return bool(returned)


def heartbeat(*, job: Job, **progress: Any) -> bool:
    """Extend the lease and save progress. False: the job was cancelled or another worker has it."""
    updated = Job.objects.filter(
        pk=job.pk,
        state=JobState.RUNNING,
        worker=job.worker,
        attempts=job.attempts,
        cancel_requested=False,
    ).update(lease_until=lease_end(), **progress)
    return bool(updated)


def end(*, job: Job, state: str, error: str = "") -> bool:
    """Move a running job to its end, once. False: it is no longer this worker's to end."""
    with transaction.atomic():
        ended = Job.objects.filter(
            pk=job.pk, state=JobState.RUNNING, worker=job.worker, attempts=job.attempts
        ).update(state=state, error=error, ended_at=Now(), lease_until=None)
        if ended and state != JobState.SUCCEEDED:
            job_targets.mark_unsuccessful(job=job, reason=error)
        if ended:
            transaction.on_commit(lambda: send_waiting(project_id=job.project_id))
    return bool(ended)


def send_waiting(*, project_id: UUID) -> None:
    """Send the oldest jobs that were held back because their project ran its share."""
    for job in Job.objects.filter(
        project_id=project_id, state=JobState.QUEUED, sent_at=None
    ).order_by("created_at")[:2]:
        send(job)


def log(*, job: Job, text: str) -> None:
    JobLogLine.objects.create(job=job, text=text[:1000])


def cancel(*, job: Job, by: Any) -> Job:
    """Ask a job to stop: a queued one ends at once, a running one at its next report (within
    seconds)."""
    with transaction.atomic():
        Job.objects.filter(pk=job.pk).exclude(state__in=ENDED).update(cancel_requested=True)
        reason = "Cancelled before it started."
        if Job.objects.filter(pk=job.pk, state=JobState.QUEUED).update(
            state=JobState.CANCELLED, ended_at=Now(), error=reason
        ):
            job_targets.mark_unsuccessful(job=job, reason=reason)
        audit.record(action="job cancelled", actor=by, project=job.project, target=job)
    job.refresh_from_db()
    return job


def retry(*, job: Job, by: Any) -> Job:
    """Queue the same work again as a new job.

    Raises:
        ValidationError: the job has not failed or been cancelled.
    """
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise ValidationError("Only a job that failed or was cancelled can be tried again.")
    with transaction.atomic():
        audit.record(action="job retried", actor=by, project=job.project, target=job)
        return enqueue(
            project=job.project,
            kind=job.kind,
            target_id=job.target_id,
            payload=job.payload,
            created_by=by,
            estimate_seconds=job.estimate_seconds,
            retry_of=job,
        )


def sweep() -> dict[str, int]:
    """Send again what was queued too long; end what fell silent too often. Safe to run anywhere,
    any time."""
    counts = {"sent": 0, "ended": 0}
    silent = Job.objects.filter(state=JobState.RUNNING, lease_until__lt=Now())
    for job in silent.filter(attempts__gte=MAX_ATTEMPTS):
        reason = f"Its worker fell silent {MAX_ATTEMPTS} times; the job was given up."
        counts["ended"] += end(job=job, state=JobState.FAILED, error=reason)
    for job in silent.filter(cancel_requested=True):
        reason = "Cancelled; its worker had fallen silent."
        counts["ended"] += end(job=job, state=JobState.CANCELLED, error=reason)
    # The longer it has waited the rarer: otherwise messages of a long queue pile up.
    soonest = timedelta(seconds=settings.JOB_REQUEUE_AFTER_SECONDS)
    waited = F("sent_at") - F("created_at")
    pause = Least(Greatest(waited, Value(soonest)), Value(max(soonest, LONGEST_SILENCE)))
    waiting = Job.objects.filter(state=JobState.QUEUED).filter(
        Q(sent_at=None) | Q(sent_at__lt=Now() - pause)
    )
    for job in list(waiting.order_by("created_at")[:500]) + list(silent):
        send(job)
        counts["sent"] += 1
    return counts
