"""The two Celery tasks: run one job, and sweep. What each kind of job does is in its own module."""

import errno
import logging
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from uuid import UUID

import psycopg
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils.module_loading import import_string

from curation.models import Job, JobKind, JobState, Project
from curation.operations.context import JOB_ID, working_for
from curation.operations.tracing import job_span
from curation.services import jobs, sample_project
from curation.services.files import LostFile, temporary_files_here
from workers.celery import app
from workers.formats.errors import FormatError
from workers.formats.resource_guard import ResourceLimitExceeded
from workers.influence.coverage import CoverageError
from workers.influence.interface import NoUsableSeed
from workers.influence.leave_one_out import NoClosedForm
from workers.influence.replay import NotReplayable
from workers.tasks.handler import Handler
from workers.tasks.report import JobReport
from workers.tasks.watch import (
    DATABASE_AWAY,
    JobLimits,
    JobStopped,
    JobWatch,
    Stop,
    bounded_memory,
    end_process,
)
from workers.training.device import DeviceError
from workers.training.networks.settings import ArchitectureError
from workers.training.recipe import RecipeError

logger = logging.getLogger(__name__)

HANDLERS = {
    JobKind.INSPECT_DATASET: "workers.tasks.datasets.InspectDataset",
    JobKind.IMPORT_DATASET: "workers.tasks.datasets.ImportDataset",
    JobKind.CHECK_MODEL: "workers.tasks.models.CheckModel",
    JobKind.TRAIN_BASELINE: "workers.tasks.baselines.TrainBaseline",
    JobKind.ATTRIBUTE: "workers.tasks.influence.Attribute",
    JobKind.PREDICT: "workers.tasks.edit_aware.PredictProposal",
    JobKind.EXTEND_BANK: "workers.tasks.bank.ExtendBank",
    JobKind.RETRAIN: "workers.tasks.retrains.RetrainArms",
    JobKind.LADDER: "workers.tasks.ladder.MeasureLadder",
    JobKind.TOKEN_INFLUENCE: "workers.tasks.token_influence.ScoreTokens",
    JobKind.MEASURE_EXAMPLES: "workers.tasks.example_values.MeasureExamples",
    JobKind.SUGGEST: "workers.tasks.suggestions.Suggest",
}


# Errors whose text is written for the user: the work cannot be done as asked.
REFUSALS = (
    ArchitectureError,
    CoverageError,
    DeviceError,
    FormatError,
    LostFile,
    NoClosedForm,
    NoUsableSeed,
    NotReplayable,
    RecipeError,
    ResourceLimitExceeded,
)


@app.task(name="workers.tasks.run.run_job", throws=DATABASE_AWAY)
def run_job(job_id: str, fairly: bool = False) -> None:
    """Claim a job and run its handler; a second delivery of the same message changes nothing.

    A message from the broker says `fairly`: it stands for one job of its queue, and the worker
    takes the one whose turn it is.
    """
    claim = jobs.claim_fairly if fairly else jobs.claim
    job = claim(job_id=UUID(job_id), worker=_worker_name())
    if job is None:
        return
    with working_for(JOB_ID, str(job.pk)), job_span(job.kind):
        started, about = time.perf_counter(), {"kind": job.kind, "queue": job.queue}
        logger.info("job taken up", extra=about)
        _run(job)
        taken = round(1000 * (time.perf_counter() - started))
        logger.info("job put down", extra=about | {"milliseconds": taken})


def _run(job: Job) -> None:
    handler = handler_of(job)
    carry_out(job, handler, handler.run)


def handler_of(job: Job) -> Handler:
    found: Handler = import_string(HANDLERS[JobKind(job.kind)])(job)
    return found


def carry_out(job: Job, handler: Handler, work: Callable[[JobReport], None]) -> None:
    """Do a claimed job's work and end its row, unless the handler says that it goes on."""
    watch = watch_over(job)
    try:
        with (
            temporary_files_here(),
            bounded_memory(watch.limits.memory_bytes),
            JobReport(job, watch) as report,
        ):
            work(report)
    except JobStopped as stop:
        if watch.interrupted and not connection.in_atomic_block:
            connection.close()  # the signal may have come in the middle of a query
        _end_stopped(job, watch, stop.reason)
    except REFUSALS as error:
        _fail(job, str(error))
    except ValidationError as error:
        _fail(job, " ".join(error.messages))
    except (*DATABASE_AWAY, psycopg.OperationalError):
        raise  # the lease runs out and the job is taken up again
    except Exception as error:
        if message := _shortage(error, watch):
            _fail(job, message)
            return
        logger.exception("job %s failed", job.pk)
        _fail(
            job,
            f"An unexpected error ended the job; the operator's log names it as job {job.pk}.",
        )
    else:
        if not handler.goes_on:
            _succeed(job)


def watch_over(job: Job) -> JobWatch:
    """The watch of a job; in a pool process it may end the process, which the worker replaces."""
    watch = JobWatch(job, JobLimits.from_settings(), settings.JOB_LEASE_SECONDS)
    if multiprocessing.current_process().name != "MainProcess":

        def give_up(reason: Stop) -> None:
            _end_stopped(job, watch, reason)
            end_process()

        watch.give_up = give_up
    return watch


@app.task(name="workers.tasks.run.sweep_jobs", throws=DATABASE_AWAY)
def sweep_jobs() -> None:
    jobs.sweep()


def _worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _succeed(job: Job) -> None:
    """End the job and start a sample project's next step in one transaction: a worker killed
    between the two would leave the project waiting for ever."""
    with transaction.atomic():
        if job.project.is_sample:  # before the job's row, in the order of `jobs.claim`
            Project.objects.select_for_update().get(pk=job.project_id)
        if jobs.end(job=job, state=JobState.SUCCEEDED) and job.project.is_sample:
            try:
                with transaction.atomic():
                    sample_project.advance(project=job.project)
            except ValidationError:
                logger.exception("the sample project %s does not go on", job.project_id)


def _fail(job: Job, message: str) -> None:
    jobs.end(job=job, state=JobState.FAILED, error=message)


def _end_stopped(job: Job, watch: JobWatch, reason: Stop) -> None:
    if reason == Stop.SHUTDOWN:
        jobs.hand_back(job=job)
    elif reason == Stop.CANCELLED:
        jobs.end(job=job, state=JobState.CANCELLED, error="Cancelled.")
    elif reason != Stop.LOST:
        _fail(job, watch.limits.message(reason))


def _shortage(error: Exception, watch: JobWatch) -> str:
    """What the user is told when memory, time or the disk ran out; empty for other errors."""
    out_of_memory = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
    if out_of_memory:
        return "The job needed more memory than this worker may use."
    if isinstance(error, SoftTimeLimitExceeded):
        return watch.limits.message(Stop.TIME)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; tell the operator, then try the job again."
    return ""
