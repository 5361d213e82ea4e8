"""How a running job speaks: stage, progress, log, heartbeat; and how it learns that it should
stop."""

import threading
import time
from typing import Any

from django.db import connection

from curation.models import Job
from curation.services import jobs


class JobStopped(Exception):
    """The job was cancelled, or its lease went to another worker; whatever was begun is left as
    it was."""


class JobReport:
    """Passed to every handler. Calling it with (done, total) is the `progress` of the learning
    code.

    A thread extends the lease while the work runs, so that long steps without progress stay alive.
    """

    def __init__(self, job: Job, heartbeat_seconds: float, save_every_seconds: float = 0.5) -> None:
        self.job = job
        self._heartbeat_seconds = heartbeat_seconds
        self._save_every = save_every_seconds
        self._saved_at = 0.0
        self._stopped = threading.Event()
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat {job.pk}", daemon=True)

    def __enter__(self) -> "JobReport":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._finished.set()
        self._thread.join()

    def __call__(self, done: int, total: int) -> None:
        """Save progress, at most twice a second. Raises JobStopped when the work should end."""
        self.check()
        now = time.monotonic()
        if done >= total or now - self._saved_at >= self._save_every:
            self._saved_at = now
            self._save(done=done, total=total)

    def stage(self, name: str, total: int = 0) -> None:
        """Begin a named stage. Raises JobStopped when the work should end."""
        self.log(name)
        self._save(stage=name, done=0, total=total)

    def log(self, text: str) -> None:
        jobs.log(job=self.job, text=text)

    def check(self) -> None:
        """Raise JobStopped when the work should end."""
        if self._stopped.is_set():
            raise JobStopped

    def _save(self, **progress: Any) -> None:
        if not jobs.heartbeat(job=self.job, **progress):
            self._stopped.set()
            raise JobStopped

    def _beat(self) -> None:
        try:
            while not self._finished.wait(self._heartbeat_seconds):
                if not jobs.heartbeat(job=self.job):
                    self._stopped.set()
                    return
        finally:
            connection.close()
