"""The thread beside a running job: it extends the lease and says when the work has to stop.

The work stops at its next report. Code that does not report is interrupted, and a process that
cannot be interrupted is ended, so that a cancelled job frees its memory within seconds.
"""

import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from curation.models import Job
from curation.queries.disk_usage import room_left
from curation.services import jobs
from workers.shutdown import SHUTTING_DOWN

logger = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)
SHARE_OF_MEMORY = 0.8
QUOTA_LOOK_SECONDS = 15.0
SLACK_BYTES = 256 * 2**20  # stacks of threads, and what is freed but not given back
GPU_DRIVER = Path("/dev/nvidiactl")


class Stop(StrEnum):
    """Why a job stops before its work is done."""

    CANCELLED = "cancelled"
    LOST = "its lease went to another worker"
    TIME = "time"
    MEMORY = "memory"
    QUOTA = "quota"
    SHUTDOWN = "the worker shuts down"


class JobStopped(Exception):
    """The work has to end; whatever was begun is left as it was."""

    def __init__(self, reason: Stop) -> None:
        self.reason = reason
        super().__init__(reason.value)


@dataclass(frozen=True)
class JobLimits:
    """How long a job may run and how much memory its process and children may hold."""

    seconds: float
    memory_bytes: int

    @classmethod
    def from_settings(cls) -> "JobLimits":
        memory = settings.JOB_MEMORY_LIMIT_BYTES or int(SHARE_OF_MEMORY * machine_memory())
        return cls(settings.JOB_TIME_LIMIT_SECONDS, memory)

    def message(self, reason: Stop) -> str:
        """The end of a job that met a limit, for its page."""
        return {
            Stop.TIME: f"The job ran longer than its limit of {self.seconds:,.0f} seconds.",
            Stop.MEMORY: "The job needed more memory than its limit of "
            f"{self.memory_bytes / 2**30:,.1f} GiB.",
            Stop.QUOTA: "The project's disk quota is used up; delete what is not needed or ask "
            "the operator for more.",
        }[reason]


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's if less."""
    limits = [int(psutil.virtual_memory().total)]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        if path.exists() and (text := path.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def memory_in_use() -> int:
    """Resident bytes of this process and its children."""
    process = psutil.Process()
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


@contextmanager
def bounded_memory(limit: int) -> Iterator[None]:
    """Let the system refuse one allocation that goes far beyond `limit` bytes: it would take the
    machine down before the watch has looked. What the process holds already does not count.

    Linux only, and not beside a GPU, whose driver reserves addresses without end.
    """
    if sys.platform != "linux" or GPU_DRIVER.exists():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = psutil.Process().memory_info().data + limit + SLACK_BYTES
    hard = before[1]
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


class JobWatch:
    """Looks once every `look_seconds` whether the job may go on.

    Work that has not stopped `patience` seconds later is interrupted by a signal, where the job
    runs in the main thread; after three times that `give_up(reason)` is called, if it is set.
    """

    def __init__(
        self,
        job: Job,
        limits: JobLimits,
        lease_seconds: float,
        *,
        look_seconds: float = 1.0,
        patience: float = 4.0,
    ) -> None:
        self.job = job
        self.limits = limits
        self.reason: Stop | None = None
        self.interrupted = False
        self._lease_seconds = lease_seconds
        self._look_seconds = min(look_seconds, lease_seconds / 6)
        self._patience = patience
        self.give_up: Callable[[Stop], None] | None = None
        self._started = self._held_at = time.monotonic()
        self._quota_at = self._started
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {job.pk}", daemon=True)
        self._previous: Any = None

    def start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGUSR2, self._interrupt)
        self._thread.start()

    def finish(self) -> None:
        self._finished.set()
        self._thread.join()
        if self._previous is not None:
            signal.signal(signal.SIGUSR2, self._previous)

    def check(self) -> None:
        """Raise JobStopped when the work should end."""
        if self.reason is not None:
            raise JobStopped(self.reason)

    def stop(self, reason: Stop) -> None:
        self.reason = self.reason or reason

    def held(self) -> None:
        """The lease was just extended."""
        self._held_at = time.monotonic()

    def database_is_away(self) -> None:
        """Work may go on until the lease would have run out."""
        if time.monotonic() - self._held_at > self._lease_seconds:
            self.stop(Stop.LOST)

    def _run(self) -> None:
        try:
            while self.reason is None:
                if self._finished.wait(self._look_seconds):
                    return
                self._look()
            self._insist()
        except DATABASE_AWAY:
            logger.warning("the database is away; job %s ends by its lease", self.job.pk)
        finally:
            connection.close()

    def _look(self) -> None:
        now = time.monotonic()
        if SHUTTING_DOWN.is_set():
            self.stop(Stop.SHUTDOWN)
        elif now - self._started > self.limits.seconds:
            self.stop(Stop.TIME)
        elif memory_in_use() > self.limits.memory_bytes:
            self.stop(Stop.MEMORY)
        else:
            try:
                self._ask_database(now)
            except DATABASE_AWAY:
                connection.close()
                self.database_is_away()

    def _ask_database(self, now: float) -> None:
        if now - self._held_at >= self._lease_seconds / 3:
            jobs.heartbeat(job=self.job)
            self.held()
        if not jobs.is_wanted(job=self.job):
            self.stop(Stop.LOST if self._was_not_cancelled() else Stop.CANCELLED)
        elif now - self._quota_at > QUOTA_LOOK_SECONDS:
            self._quota_at = now
            if room_left(self.job.project) < 0:
                self.stop(Stop.QUOTA)

    def _was_not_cancelled(self) -> bool:
        return not Job.objects.filter(pk=self.job.pk, cancel_requested=True).exists()

    def _insist(self) -> None:
        for _ in range(3):
            if self._finished.wait(self._patience):
                return
            if self._previous is not None and hasattr(signal, "pthread_kill"):
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGUSR2)
        if not self._finished.wait(self._patience) and self.give_up and self.reason:
            self.give_up(self.reason)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and not self._finished.is_set():
            self.interrupted = True
            raise JobStopped(self.reason)


def end_process() -> None:
    """End this pool process at once; the worker starts another and the memory is free."""
    logger.error("a job could not be interrupted; its process ends")
    logging.shutdown()
    os._exit(1)
