"""Jobs: what the site is working on; waiting for the end, stopping and trying again."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from hunch_client.errors import JobFailed
from hunch_client.lookups import Lookups
from hunch_client.records import Job, Project

WAIT_SECONDS = 20
ANSWERED_AT_ONCE = 1.0
PAUSE_SECONDS = 2.0
JobWatcher = Callable[[Job], object]


def no_watcher(job: Job) -> None:
    """The default: say nothing."""


class Jobs(Lookups):
    def jobs(self, project: Project, **filters: Any) -> Iterator[Job]:
        """The newest first, filtered by `state`, `kind` or `target`, the id of its object."""
        pages = self.transport.pages(f"/projects/{project.id}/jobs", **filters)
        return (Job.from_json(item) for item in pages)

    def job(self, job_id: str, *, wait: int = 0, seen: str = "") -> Job:
        """With `wait`, once it has ended, differs from `seen`, or so many seconds have passed."""
        return Job.from_json(self._get(f"/jobs/{job_id}", wait=wait, seen=seen or None))

    def wait_for(self, job_id: str, *, watcher: JobWatcher = no_watcher) -> Job:
        """Wait for its end; `watcher` sees each change. Raises JobFailed unless it succeeded."""
        job = self.job(job_id)
        watcher(job)
        while not job.has_ended:
            asked, before = time.monotonic(), job
            job = self.job(job_id, wait=WAIT_SECONDS, seen=before.revision)
            if job != before:
                watcher(job)
            elif time.monotonic() - asked < ANSWERED_AT_ONCE:
                self.transport.pause(PAUSE_SECONDS)  # the site holds as many waiters as it can
        if job.state != "succeeded":
            raise JobFailed(job.id, job.state, job.error)
        return job

    def job_log(self, job_id: str) -> Iterator[str]:
        """The lines of its log, the oldest first."""
        return (line["text"] for line in self.transport.pages(f"/jobs/{job_id}/log"))

    def cancel(self, job_id: str) -> Job:
        """Ask it to stop; it ends within seconds and leaves nothing half-written."""
        return Job.from_json(self._post(f"/jobs/{job_id}/cancel"))

    def retry(self, job_id: str) -> Job:
        """Queue the same work again, as a new job."""
        return Job.from_json(self._post(f"/jobs/{job_id}/retry"))
