"""Messages that come twice, late, out of order or not at all, connections that break, clocks that
jump: the job's row stays the truth, and its work is done once."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import redis
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone
from kombu import pools

from curation.models import DatasetVersion, Job, JobKind, JobLogLine, JobState, VersionState
from curation.services import datasets, files, jobs
from embedded.supervisor import Supervisor
from embedded.urls import celery_url
from embedded.valkey import Valkey
from tests.running import run_jobs
from workers.celery import app
from workers.tasks import run
from workers.tasks.handler import Handler
from workers.tasks.report import JobReport

pytestmark = pytest.mark.django_db(transaction=True)
PROJECT = Path(__file__).resolve().parents[2]


class Counting(Handler):
    """Writes one line a run, in a transaction of its own, and meets what the test prepared."""

    runs: list[Job] = []
    meet = staticmethod(lambda: None)

    def run(self, report: JobReport) -> None:
        Counting.runs.append(self.job)
        with transaction.atomic():
            JobLogLine.objects.get_or_create(job=self.job, text="result")
            Counting.meet()


@pytest.fixture(autouse=True)
def counting(monkeypatch):
    monkeypatch.setitem(run.HANDLERS, JobKind.RETRAIN, f"{__name__}.{Counting.__name__}")
    monkeypatch.setattr(Counting, "runs", [])
    monkeypatch.setattr(Counting, "meet", staticmethod(lambda: None))


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """The messages, kept here instead of the broker."""
    messages: list[str] = []
    monkeypatch.setattr(jobs, "send", lambda job: messages.append(str(job.pk)))
    return messages


@pytest.fixture
def make_job(project, user):
    def make() -> Job:
        return jobs.enqueue(
            project=project, kind=JobKind.RETRAIN, target_id=uuid4(), created_by=user
        )

    return make


def results(job: Job) -> int:
    return job.log_lines.filter(text="result").count()


def silence(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=Now() - timedelta(seconds=1))


@pytest.mark.parametrize("fairly", [False, True])
def test_a_message_that_comes_twice_does_the_work_once(make_job, sent, fairly):
    job = make_job()
    for message in sent * 2:
        run.run_job(message, fairly)
    job.refresh_from_db()
    assert (job.state, job.attempts, results(job)) == (JobState.SUCCEEDED, 1, 1)
    assert len(Counting.runs) == 1


def test_a_message_that_comes_twice_at_once_does_the_work_once(make_job, sent):
    job = make_job()
    gate = threading.Barrier(4)

    def deliver() -> None:
        gate.wait()
        run.run_job(sent[0], True)
        connection.close()

    threads = [threading.Thread(target=deliver) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Counting.runs) == results(job) == 1


def test_messages_out_of_order_do_every_job_once(make_job, sent):
    made = [make_job() for _ in range(4)]
    for message in [sent[2], sent[0], sent[2], sent[3], sent[1], sent[0]]:
        run.run_job(message, True)
    assert {job.pk for job in Counting.runs} == {job.pk for job in made}
    assert len(Counting.runs) == 4
    assert not Job.objects.exclude(state=JobState.SUCCEEDED).exists()


def test_a_message_that_comes_late_changes_nothing(make_job, sent, user):
    cancelled = jobs.cancel(job=make_job(), by=user)
    run.run_job(str(cancelled.pk), True)
    run.run_job(str(uuid4()), True)  # its job is gone
    cancelled.refresh_from_db()
    assert cancelled.state == JobState.CANCELLED
    assert Counting.runs == []


def test_the_late_result_of_a_worker_that_lost_its_job_does_not_end_it(make_job, sent):
    first = jobs.claim(job_id=make_job().pk, worker="slow")
    silence(first)
    run.run_job(sent[0])
    assert not jobs.end(job=first, state=JobState.FAILED, error="late")
    first.refresh_from_db()
    assert (first.state, first.error) == (JobState.SUCCEEDED, "")


@pytest.fixture
def own_broker(tmp_path, monkeypatch):
    """A Valkey that may be killed; the application sends to it."""

    def use(url: str) -> None:
        app.conf.broker_url = url
        app.conf.broker_write_url = app.conf.broker_read_url = url
        pools.reset()
        app._pool = app.amqp._producer_pool = None

    before = app.conf.broker_url
    valkey = Valkey(tmp_path)
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(valkey.process())
        use(celery_url(f"unix://{valkey.socket}?db=0"))
        yield supervisor, redis.Redis(unix_socket_path=str(valkey.socket))
        use(before)


def test_a_broker_that_is_lost_at_submit_only_delays_the_job(own_broker, make_job):
    supervisor, client = own_broker
    make_job()
    assert client.llen("train") == 1
    (child,) = supervisor.children()
    os.kill(child.pid, signal.SIGKILL)
    psutil.Process(child.pid).wait(10) if child.alive() else None
    lost = make_job()
    assert (lost.state, Job.objects.count()) == (JobState.QUEUED, 2)

    child.start()
    while not child.is_ready():
        time.sleep(0.02)
    client.flushall()  # whatever it held is lost as well
    Job.objects.update(sent_at=Now() - timedelta(hours=1))
    assert jobs.sweep()["sent"] == 2
    assert client.llen("train") == 2
    for job in Job.objects.all():
        run.run_job(str(job.pk), True)
    assert not Job.objects.exclude(state=JobState.SUCCEEDED).exists()


@pytest.mark.slow
def test_a_job_longer_than_the_visibility_timeout_runs_once(project, user, tmp_path):
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    client.flushdb()
    database = connection.settings_dict
    log = tmp_path / "log"
    environment = {
        **os.environ,
        "DATABASE_URL": os.environ["DATABASE_URL"].rsplit("/", 1)[0] + f"/{database['NAME']}",
        "SLOW_FOLDER": str(tmp_path),
        "JOB_VISIBILITY_TIMEOUT": "1",
    }
    command = (
        f"{sys.executable} -m celery --app tests.faults.slow_worker worker --queues train "
        "--concurrency 2 --loglevel INFO --without-gossip --without-mingle"
    )
    with log.open("wb") as output:
        worker = subprocess.Popen(
            command.split(), cwd=PROJECT, env=environment, stdout=output, stderr=output
        )
    try:
        job = jobs.enqueue(
            project=project, kind=JobKind.RETRAIN, target_id=uuid4(), created_by=user
        )
        wait_for(lambda: log.read_text().count("run_job[") >= 2, worker, log)
        (tmp_path / "go").touch()
        wait_for(lambda: not Job.objects.filter(pk=job.pk, ended_at=None).exists(), worker, log)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
    job.refresh_from_db()
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)
    assert (tmp_path / "runs").read_text().split() == [str(job.pk)]


def wait_for(condition, worker: subprocess.Popen, log: Path, seconds: float = 90.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert worker.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def cut_connection() -> None:
    """What an operator or a failing network does to the session that a transaction uses."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()

    def cut() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        connection.close()

    other = threading.Thread(target=cut)
    other.start()
    other.join()


def test_a_connection_cut_in_a_transaction_undoes_it_and_the_job_is_taken_up_again(
    make_job, sent, monkeypatch
):
    job = make_job()
    monkeypatch.setattr(Counting, "meet", staticmethod(cut_connection))
    with pytest.raises(OperationalError):
        run.run_job(sent[0])
    connection.close()
    job.refresh_from_db()
    assert (job.state, results(job)) == (JobState.RUNNING, 0)
    assert jobs.claim(job_id=job.pk, worker="early") is None, "its lease still runs"

    silence(job)
    monkeypatch.setattr(Counting, "meet", staticmethod(lambda: None))
    assert jobs.sweep()["sent"] == 1
    run.run_job(sent[-1], True)
    job.refresh_from_db()
    assert (job.state, job.attempts, results(job)) == (JobState.SUCCEEDED, 2, 1)


def test_a_connection_cut_while_the_job_ends_leaves_one_result(make_job, sent, monkeypatch):
    job = make_job()
    end = jobs.end

    def cut_and_end(**arguments: object) -> bool:
        cut_connection()
        return end(**arguments)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "end", cut_and_end)
        with pytest.raises(OperationalError):
            run.run_job(sent[0])
    connection.close()
    silence(job)
    run.run_job(sent[0])
    job.refresh_from_db()
    assert (job.state, job.attempts, results(job)) == (JobState.SUCCEEDED, 2, 1)


@pytest.mark.parametrize("hours", [-24, 24])
def test_a_worker_whose_clock_jumped_neither_takes_nor_loses_a_lease(
    make_job, sent, monkeypatch, hours
):
    job = jobs.claim(job_id=make_job().pk, worker="first")
    right = timezone.now()
    jumped = right + timedelta(hours=hours)
    monkeypatch.setattr(timezone, "now", lambda: jumped)
    monkeypatch.setattr(time, "time", jumped.timestamp)

    assert jobs.claim(job_id=job.pk, worker="second") is None
    assert jobs.sweep() == {"sent": 0, "ended": 0}
    assert jobs.heartbeat(job=job)
    job.refresh_from_db()
    assert abs(job.lease_until - right) < timedelta(hours=1)
    assert jobs.end(job=job, state=JobState.SUCCEEDED)
    job.refresh_from_db()
    assert job.started_at <= job.ended_at < right + timedelta(hours=1)


def test_a_full_disk_ends_the_job_with_that_reason_and_trying_again_goes_on(
    project, user, storage, sent, monkeypatch
):
    source = files.store_bytes(content=b"id,text,label\n" + b"".join(rows()))
    dataset = datasets.create_dataset(project=project, name="sentences", by=user)
    datasets.add_version(dataset=dataset, source_file=source, file_name="a.csv", by=user)
    run_jobs(project)
    version = DatasetVersion.objects.get()
    mapping = {
        key: value for key, value in version.inspection["suggested_mapping"].items() if value
    }
    datasets.import_version(version=version, column_mapping=mapping, by=user)

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        (job,) = run_jobs(project)
    assert (job.state, "disk is full" in job.error) == (JobState.FAILED, True)
    version.refresh_from_db()
    assert (version.state, version.error) == (VersionState.INSPECTED, job.error)
    assert [path for path in storage.rglob("*") if path.is_file()] == [
        files.local_path(version.source_file)
    ]

    jobs.retry(job=job, by=user)
    run_jobs(project)
    version.refresh_from_db()
    assert (version.state, version.error) == (VersionState.READY, "")


def rows():
    for number in range(40):
        yield f"s{number},a {'good' if number % 2 else 'bad'} day {number},{number % 2}\n".encode()
