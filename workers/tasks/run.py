"""The two Celery tasks: run one job, and sweep. What each kind of job does is in its own module."""

import logging
import os
import socket
from uuid import UUID

import psycopg
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import OperationalError
from django.utils.module_loading import import_string

from curation.models import Job, JobKind, JobState
from curation.services import jobs, sample_project
from workers.celery import app
from workers.formats.errors import FormatError
from workers.formats.resource_guard import ResourceLimitExceeded
from workers.influence.interface import NoUsableSeed
from workers.influence.replay import NotReplayable
from workers.tasks.handler import Handler
from workers.tasks.report import JobReport, JobStopped
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
    JobKind.SUGGEST: "workers.tasks.suggestions.Suggest",
}


# Errors whose text is written for the user: the work cannot be done as asked.
REFUSALS = (
    ArchitectureError,
    FormatError,
    NoUsableSeed,
    NotReplayable,
    RecipeError,
    ResourceLimitExceeded,
)


@app.task(name="workers.tasks.run.run_job")
def run_job(job_id: str) -> None:
    """Claim the job and run its handler; a second delivery of the same message changes nothing."""
    job = jobs.claim(job_id=UUID(job_id), worker=_worker_name())
    if job is None:
        return
    handler = import_string(HANDLERS[JobKind(job.kind)])(job)
    try:
        with JobReport(job, heartbeat_seconds=settings.JOB_LEASE_SECONDS / 3) as report:
            handler.run(report)
    except JobStopped:
        _end_stopped(job, handler)
    except REFUSALS as error:
        _fail(job, handler, str(error))
    except ValidationError as error:
        _fail(job, handler, " ".join(error.messages))
    except (OperationalError, psycopg.OperationalError):
        raise  # the database is away: the lease runs out and the job is taken up again
    except MemoryError:
        _fail(job, handler, "The job needed more memory than this worker may use.")
    except SoftTimeLimitExceeded:
        _fail(job, handler, "The job ran longer than the limit and was ended.")
    except Exception:
        logger.exception("job %s failed", job.pk)
        _fail(
            job,
            handler,
            f"An unexpected error ended the job; the operator's log names it as job {job.pk}.",
        )
    else:
        jobs.end(job=job, state=JobState.SUCCEEDED)
        if job.project.is_sample:
            sample_project.advance(project=job.project)


@app.task(name="workers.tasks.run.sweep_jobs")
def sweep_jobs() -> None:
    jobs.sweep()


def _worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _fail(job: Job, handler: Handler, message: str) -> None:
    if jobs.end(job=job, state=JobState.FAILED, error=message):
        handler.failed(message)


def _end_stopped(job: Job, handler: Handler) -> None:
    job.refresh_from_db(fields=["cancel_requested"])
    if job.cancel_requested and jobs.end(job=job, state=JobState.CANCELLED, error="Cancelled."):
        handler.failed("Cancelled.")
