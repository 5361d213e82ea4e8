"""How a running job speaks: stage, progress, log; and how it learns that it should stop."""

import time
from typing import Any

from django.db import connection

from curation.models import Job
from curation.services import jobs
from workers.tasks.watch import DATABASE_AWAY, JobWatch, Stop


class JobReport:
    """Passed to every handler. Calling it with (done, total) is the `progress` of the learning
    code. A database that is away for less than the lease does not end the work."""

    def __init__(self, job: Job, watch: JobWatch, save_every_seconds: float = 0.5) -> None:
        self.job = job
        self._watch = watch
        self._save_every = save_every_seconds
        self._saved_at = 0.0

    def __enter__(self) -> "JobReport":
        self._watch.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._watch.finish()

    def __call__(self, done: int, total: int) -> None:
        """Save progress, at most twice a second. Raises JobStopped when the work should end."""
        self.check()
        now = time.monotonic()
        if done >= total or now - self._saved_at >= self._save_every:
            self._saved_at = now
            self._save(done=done, total=total)

    def stage(self, name: str, total: int = 0) -> None:
        """Begin a named stage. Raises JobStopped when the work should end."""
        self.check()
        self.log(name)
        self._save(stage=name, done=0, total=total)

    def log(self, text: str) -> None:
        jobs.log(job=self.job, text=text)

    def check(self) -> None:
        """Raise JobStopped when the work should end."""
        self._watch.check()

    def _save(self, **progress: Any) -> None:
        try:
            held = jobs.heartbeat(job=self.job, **progress)
        except DATABASE_AWAY:
            if connection.in_atomic_block:
                raise
            connection.close()
            self._watch.database_is_away()
            self.check()
            return
        if held:
            self._watch.held()
        else:
            cancelled = Job.objects.filter(pk=self.job.pk, cancel_requested=True).exists()
            self._watch.stop(Stop.CANCELLED if cancelled else Stop.LOST)
            self.check()
