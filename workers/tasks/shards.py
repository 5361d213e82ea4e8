"""The Celery tasks of a job that is cut into shards: each computes a range of blocks, and the last
one joins them.

The job's row stays the truth. Every shard holds its lease and stops when it is cancelled, and the
finished blocks lie in a store by content, so that a shard that is lost or comes twice changes
nothing: when no shard reports any more the lease runs out, and the sweep sends the job again, which
shares out what is missing.
"""

from uuid import UUID

from curation.models import Job, JobState
from workers.celery import app
from workers.tasks.influence import Attribute
from workers.tasks.report import JobReport
from workers.tasks.run import carry_out
from workers.tasks.sharing import projected_method, runs_of


@app.task(name="workers.tasks.shards.compute_shard", ignore_result=False)
def compute_shard(job_id: str, attempt: int, start: int, stop: int) -> None:
    """Compute the missing blocks among units `start` to `stop` of a running job."""
    job = running(job_id, attempt)
    if job is None:
        return
    handler = Attribute(job)
    handler.goes_on = True

    def work(report: JobReport) -> None:
        method, runs = projected_method(), runs_of(job)
        total = method.number_of_units(runs)

        def progress(*_: int) -> None:
            # Of all shards together; every one counts what lies in the folder.
            report(total - len(method.missing_units(runs)), total)

        progress()
        method.fill(runs, range(start, min(stop, total)), progress)

    carry_out(job, handler, work)


@app.task(name="workers.tasks.shards.join_shards")
def join_shards(job_id: str, attempt: int) -> None:
    """Compute the scores from all shards' gradients and end the job.

    A block that this worker does not see, since a shard was lost or the folder is not shared, it
    computes itself.
    """
    job = running(job_id, attempt)
    if job is not None:
        handler = Attribute(job)
        carry_out(job, handler, handler.finish)


def running(job_id: str, attempt: int) -> Job | None:
    """The job, unless it has ended or was taken up anew since the message was sent."""
    found = Job.objects.select_related("project").filter(
        pk=UUID(job_id), state=JobState.RUNNING, attempts=attempt
    )
    return found.first()
