"""The life of a job: claimed once, kept alive, ended once, swept when its worker falls silent."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from curation.models import Job, JobKind, JobState
from curation.services import jobs, projects


@pytest.fixture
def project(owner):
    return projects.create_project(name="Tweets", by=owner)


@pytest.fixture
def job(project, owner) -> Job:
    return jobs.enqueue(
        project=project, kind=JobKind.INSPECT_DATASET, target_id=uuid4(), created_by=owner
    )


def silence(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def test_a_job_is_claimed_by_one_worker_only(job):
    assert jobs.claim(job_id=job.pk, worker="first") is not None
    assert jobs.claim(job_id=job.pk, worker="second") is None


def test_a_silent_workers_job_is_taken_over_and_the_first_worker_can_no_longer_end_it(job):
    first = jobs.claim(job_id=job.pk, worker="first")
    silence(job)
    second = jobs.claim(job_id=job.pk, worker="second")
    assert not jobs.heartbeat(job=first)
    assert not jobs.end(job=first, state=JobState.FAILED, error="late")
    assert jobs.end(job=second, state=JobState.SUCCEEDED)
    job.refresh_from_db()
    assert (job.state, job.attempts, job.error) == (JobState.SUCCEEDED, 2, "")


def test_an_ended_job_is_never_claimed_again(job):
    claimed = jobs.claim(job_id=job.pk, worker="first")
    jobs.end(job=claimed, state=JobState.SUCCEEDED)
    silence(job)
    assert jobs.claim(job_id=job.pk, worker="second") is None


def test_a_project_runs_no_more_jobs_at_once_than_its_share(project, owner):
    queued = [
        jobs.enqueue(project=project, kind=JobKind.RETRAIN, target_id=uuid4(), created_by=owner)
        for _ in range(project.max_running_jobs + 1)
    ]
    claims = [jobs.claim(job_id=job.pk, worker=f"worker {n}") for n, job in enumerate(queued)]
    assert [claim is not None for claim in claims] == [True, True, False]
    jobs.end(job=claims[0], state=JobState.SUCCEEDED)
    assert jobs.claim(job_id=queued[-1].pk, worker="worker 9") is not None


def test_cancelling_a_queued_job_ends_it_at_once(job, owner):
    assert jobs.cancel(job=job, by=owner).state == JobState.CANCELLED


def test_cancelling_a_running_job_stops_its_heartbeat(job, owner):
    claimed = jobs.claim(job_id=job.pk, worker="first")
    jobs.cancel(job=job, by=owner)
    assert not jobs.heartbeat(job=claimed)


def test_only_an_unsuccessful_job_can_be_tried_again(job, owner):
    with pytest.raises(ValidationError):
        jobs.retry(job=job, by=owner)
    again = jobs.retry(job=jobs.cancel(job=job, by=owner), by=owner)
    assert (again.state, again.retry_of) == (JobState.QUEUED, job)


def test_the_longer_a_job_waits_the_rarer_it_is_sent_again(job):
    def ago(minutes: int) -> datetime:
        return timezone.now() - timedelta(minutes=minutes)

    for created, sent, again in [(8, 3, 0), (8, 5, 1), (60, 9, 0), (60, 11, 1)]:
        Job.objects.filter(pk=job.pk).update(created_at=ago(created), sent_at=ago(sent))
        assert jobs.sweep()["sent"] == again, (created, sent)


def test_the_sweep_sends_what_was_queued_too_long_and_gives_up_what_fell_silent_too_often(job):
    Job.objects.filter(pk=job.pk).update(sent_at=timezone.now() - timedelta(hours=1))
    assert jobs.sweep()["sent"] == 1
    jobs.claim(job_id=job.pk, worker="first")
    silence(job)
    assert jobs.sweep() == {"sent": 1, "ended": 0}
    Job.objects.filter(pk=job.pk).update(attempts=jobs.MAX_ATTEMPTS)
    assert jobs.sweep()["ended"] == 1
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "fell silent" in job.error
