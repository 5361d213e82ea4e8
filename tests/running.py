"""Runs queued jobs in this process, in the order they were made: the same task, without a
broker."""

from curation.models import Job, JobState, Project
from workers.tasks.run import run_job


def run_jobs(project: Project) -> list[Job]:
    """Run every job of the project, and those that they start, until none is queued."""
    ran = []
    while job := (
        Job.objects.filter(project=project, state=JobState.QUEUED).order_by("created_at").first()
    ):
        run_job(str(job.pk))
        job.refresh_from_db()
        assert job.state != JobState.QUEUED, "the job was not claimed"
        ran.append(job)
    return ran
