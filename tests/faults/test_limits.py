"""A job that must stop says why; one that its worker gives back is whole; no project starves."""

import os
import resource
import signal
import sys
import threading
from uuid import uuid4

import numpy as np
import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection

from curation.models import Baseline, Job, JobKind, JobState, StoredFile
from curation.queries.disk_usage import FILE_KEYS, file_keys_of_models
from curation.services import jobs, projects
from workers.tasks import run, watch
from workers.tasks.handler import Handler
from workers.tasks.report import JobReport
from workers.tasks.watch import JobLimits, JobStopped, JobWatch, Stop

pytestmark = pytest.mark.django_db(transaction=True)
PLENTY = JobLimits(seconds=600, memory_bytes=2**50)
SMALL = JobLimits(seconds=600, memory_bytes=2**30)


@pytest.fixture
def user():
    return get_user_model().objects.create_user("owner", password="a long pass phrase")


@pytest.fixture
def make_job(user, monkeypatch):
    monkeypatch.setattr(jobs, "send", lambda job: None)

    def make(project=None, kind=JobKind.RETRAIN) -> Job:
        project = project or projects.create_project(name=f"P {uuid4()}", by=user)
        return jobs.enqueue(project=project, kind=kind, target_id=uuid4(), created_by=user)

    return make


class Endless(Handler):
    """Reports until it is stopped; or does not even report."""

    reports = True
    began = threading.Event()

    def run(self, report: JobReport) -> None:
        Endless.began.set()
        while True:
            if self.reports:
                report(1, 2)
            else:
                sum(range(1000))


class Deaf(Endless):
    reports = False


@pytest.fixture
def run_until_stopped(monkeypatch):
    """Run a job with a handler under limits; `meanwhile` happens in a thread once it runs."""

    def run_it(job: Job, handler=Endless, limits=PLENTY, meanwhile=None) -> Job:
        Endless.began.clear()
        monkeypatch.setitem(run.HANDLERS, JobKind.RETRAIN, f"{__name__}.{handler.__name__}")
        monkeypatch.setattr(
            run,
            "watch_over",
            lambda job: JobWatch(job, limits, 60, look_seconds=0.05, patience=0.05),
        )

        def act() -> None:
            Endless.began.wait()
            meanwhile()
            connection.close()

        thread = threading.Thread(target=act) if meanwhile else None
        if thread:
            thread.start()
        run.run_job(str(job.pk))
        if thread:
            thread.join()
        job.refresh_from_db()
        return job

    return run_it


@pytest.mark.parametrize("handler", [Endless, Deaf])
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (JobLimits(seconds=0.1, memory_bytes=2**50), "longer than its limit"),
        (JobLimits(seconds=600, memory_bytes=1), "more memory than its limit"),
    ],
)
def test_a_job_beyond_its_limit_fails_and_says_which(
    make_job, run_until_stopped, handler, limits, words
):
    job = run_until_stopped(make_job(), handler, limits)
    assert job.state == JobState.FAILED
    assert words in job.error


class Greedy(Handler):
    """Asks for a hundred times its limit at once, and would then work in little of it."""

    def run(self, report: JobReport) -> None:
        np.empty(100 * SMALL.memory_bytes, np.uint8)


@pytest.mark.skipif(
    sys.platform != "linux" or watch.GPU_DRIVER.exists(), reason="see workers/tasks/watch.py"
)
def test_one_allocation_far_beyond_the_limit_is_refused_and_the_worker_lives(
    make_job, run_until_stopped
):
    before = resource.getrlimit(resource.RLIMIT_DATA)
    job = run_until_stopped(make_job(), Greedy, SMALL)
    assert (job.state, "more memory" in job.error) == (JobState.FAILED, True)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize("handler", [Endless, Deaf])
def test_a_cancelled_job_stops_even_if_it_does_not_report(
    make_job, run_until_stopped, user, handler
):
    job = make_job()
    job = run_until_stopped(job, handler, meanwhile=lambda: jobs.cancel(job=job, by=user))
    assert (job.state, job.error) == (JobState.CANCELLED, "Cancelled.")


def test_a_worker_that_shuts_down_gives_its_job_back_as_it_was(make_job, run_until_stopped):
    try:
        job = run_until_stopped(make_job(), Deaf, meanwhile=watch.SHUTTING_DOWN.set)
    finally:
        watch.SHUTTING_DOWN.clear()
    assert (job.state, job.attempts, job.lease_until) == (JobState.QUEUED, 0, None)
    assert jobs.claim(job_id=job.pk, worker="another") is not None


def test_a_project_over_its_quota_has_its_job_ended(make_job, run_until_stopped, monkeypatch):
    job = make_job()
    job.project.disk_quota_bytes = -1
    job.project.save()
    monkeypatch.setattr(watch, "QUOTA_LOOK_SECONDS", 0)
    job = run_until_stopped(job)
    assert job.state == JobState.FAILED
    assert "quota" in job.error


def test_a_database_away_for_less_than_the_lease_does_not_end_the_work(make_job, monkeypatch):
    job = jobs.claim(job_id=make_job().pk, worker="one")
    over = JobWatch(job, PLENTY, lease_seconds=60)
    report = JobReport(job, over, save_every_seconds=0)

    def away(**_: object) -> bool:
        raise OperationalError("server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "heartbeat", away)
        report(1, 4)
    report(2, 4)
    job.refresh_from_db()
    assert job.done == 2


def test_work_ends_when_the_database_is_away_longer_than_the_lease(make_job, monkeypatch):
    job = jobs.claim(job_id=make_job().pk, worker="one")
    over = JobWatch(job, PLENTY, lease_seconds=0)

    def away(**_: object) -> bool:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(jobs, "heartbeat", away)
    with pytest.raises(JobStopped) as stopped:
        JobReport(job, over, save_every_seconds=0)(1, 4)
    assert stopped.value.reason == Stop.LOST


def test_a_late_interrupt_does_nothing(make_job):
    over = JobWatch(make_job(), PLENTY, 60)
    over.start()
    over.finish()
    over.stop(Stop.TIME)
    over._interrupt(signal.SIGUSR2, None)
    assert not over.interrupted
    assert os.getpid()


def test_a_project_with_many_jobs_does_not_hold_another_up(make_job):
    first = make_job()
    many = [first] + [make_job(first.project) for _ in range(5)]
    late = make_job()
    one = jobs.claim_fairly(job_id=many[0].pk, worker="1")
    two = jobs.claim_fairly(job_id=many[1].pk, worker="2")
    assert {one.pk, two.pk} == {many[0].pk, late.pk}
    jobs.end(job=two, state=JobState.SUCCEEDED)
    three = jobs.claim_fairly(job_id=late.pk, worker="3")
    assert three.pk == many[1].pk, "the message of a job that ran serves the next that waits"
    assert jobs.claim_fairly(job_id=many[2].pk, worker="4") is None, "its share is running"


def test_two_workers_claiming_one_row_at_once_get_it_once(make_job):
    job = make_job()
    gate = threading.Barrier(8)
    claims = []

    def claim(number: int) -> None:
        gate.wait()
        claims.append(jobs.claim(job_id=job.pk, worker=f"worker {number}"))
        connection.close()

    threads = [threading.Thread(target=claim, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claimed is not None for claimed in claims) == 1


def test_a_job_given_up_marks_what_it_worked_on(user, make_job, monkeypatch):
    marked = []
    monkeypatch.setattr(
        "curation.services.job_targets.MARKS",
        {JobKind.TRAIN_BASELINE: lambda job, reason: marked.append(reason)},
    )
    job = make_job(kind=JobKind.TRAIN_BASELINE)
    jobs.cancel(job=job, by=user)
    silent = make_job(kind=JobKind.TRAIN_BASELINE)
    jobs.claim(job_id=silent.pk, worker="one")
    Job.objects.filter(pk=silent.pk).update(
        lease_until=silent.created_at, attempts=jobs.MAX_ATTEMPTS
    )
    jobs.sweep()
    assert marked[0] == "Cancelled before it started."
    assert "fell silent" in marked[1]


def test_every_key_to_a_stored_file_counts_towards_the_quota():
    counted = {(model.__name__, name) for model, names, _ in FILE_KEYS for name in names}
    assert counted == file_keys_of_models()
    assert StoredFile.objects.count() == Baseline.objects.count() == 0
