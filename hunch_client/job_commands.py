"""Commands about jobs: what the site is working on."""

from typing import Annotated

import typer

from hunch_client.output import emit, work_bars
from hunch_client.records import Job
from hunch_client.shared_options import (
    JsonOption,
    ProjectOption,
    connect,
    project_of,
    reports_errors,
)

app = typer.Typer()
job_app = typer.Typer(no_args_is_help=True, help="What the site is working on.")
app.add_typer(job_app, name="job", rich_help_panel="Looking after things")
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Its id.")]


@job_app.command("list")
@reports_errors
def job_list(
    state: Annotated[str, typer.Option(help="queued, running, succeeded, failed, cancelled")] = "",
    count: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """List a project's jobs, the newest first."""
    with connect() as hunch:
        found = hunch.jobs(project_of(hunch, project), state=state or None)
        jobs = [job for job, _ in zip(found, range(count), strict=False)]
    emit(jobs, as_json, "\n".join(_line(job) for job in jobs))


@job_app.command("show")
@reports_errors
def job_show(job: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job."""
    with connect() as hunch:
        found = hunch.job(job)
    emit(found, as_json, _line(found) + (f"\n{found.error}" if found.error else ""))


@job_app.command("log")
@reports_errors
def job_log(job: JobArgument, as_json: JsonOption = False) -> None:
    """Print a job's log."""
    with connect() as hunch:
        lines = list(hunch.job_log(job))
    emit(lines, as_json, "\n".join(lines))


@job_app.command("wait")
@reports_errors
def job_wait(job: JobArgument, as_json: JsonOption = False) -> None:
    """Wait for a job's end; ends with 1 unless it succeeded."""
    with connect() as hunch, work_bars() as bars:
        found = hunch.wait_for(job, watcher=bars.job)
    emit(found, as_json, _line(found))


@job_app.command("cancel")
@reports_errors
def job_cancel(job: JobArgument, as_json: JsonOption = False) -> None:
    """Ask a job to stop; it leaves nothing half-written."""
    with connect() as hunch:
        found = hunch.cancel(job)
    emit(found, as_json, "It will stop within seconds." if not found.has_ended else _line(found))


@job_app.command("retry")
@reports_errors
def job_retry(job: JobArgument, as_json: JsonOption = False) -> None:
    """Queue the same work again, as a new job."""
    with connect() as hunch:
        found = hunch.retry(job)
    emit(found, as_json, _line(found))


def _line(job: Job) -> str:
    count = f" {job.done:,} of {job.total:,}" if job.total else ""
    stage = f" ({job.stage}{count})" if job.stage and not job.has_ended else ""
    return f"{job.id}  {job.kind.replace('_', ' ')}: {job.state}{stage}"
