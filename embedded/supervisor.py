"""Runs named child processes together: started in order, watched, logged, and ended together.

It knows nothing of what the processes are. One call of `start` is one tier, whose processes start
side by side; tiers stop in reverse order.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import psutil

from embedded.logs import rotate, tail
from embedded.urls import PROJECT_FOLDER

LAUNCHER = Path(__file__).with_name("launch.py")
PAUSE = 0.05  # seconds between two looks at a process
LOOKS_BEFORE_ADOPTION = 10
MINUTE = 60.0  # seconds


class ProcessFailed(Exception):
    """A supervised process did not become ready, or ended before it was asked to."""

    def __init__(self, headline: str, log: Path) -> None:
        self.headline = headline
        super().__init__(f"{headline}. The end of {log}:\n{tail(log)}")


class AlreadyRunning(Exception):
    """Another supervisor holds this folder."""


@dataclass(frozen=True)
class Process:
    """One child: what to run, how to know that it works, and how to ask it to end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # added to the supervisor's own
    prepare: Callable[[], None] | None = None  # just before the start: folders, stale locks
    ready: Callable[[], bool] | None = None  # None: ready as soon as it runs
    finish: Callable[[], None] | None = None  # once ready: first-time set-up
    running: Callable[[], int | None] | None = None  # pid of one left by an earlier run, to adopt
    user: int | None = None  # another account to run as
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals | None = None  # when the supervisor is killed; None: stop_signal
    ready_timeout: float = 60.0  # seconds
    stop_timeout: float = 15.0  # seconds, then the whole process group is killed
    most_restarts: int = 0  # within a minute; one that ends more often has failed


class Child:
    """A started or adopted process."""

    def __init__(self, process: Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.popen: subprocess.Popen[bytes] | None = None
        self.adopted: psutil.Process | None = None
        self._restarts: list[float] = []  # monotonic seconds

    def start(self) -> None:
        """Adopt what an earlier run left behind, or start a new process."""
        process = self.process
        self.adopted = adopt(process)
        if self.adopted:
            return
        if process.prepare:
            process.prepare()
        rotate(self.log)
        death_signal = process.death_signal or process.stop_signal
        user = "-" if process.user is None else str(process.user)
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                [*launcher, str(int(death_signal)), str(os.getpid()), user, *process.command],
                env={**os.environ, **process.environment},
                cwd=PROJECT_FOLDER,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends the rest
            )

    @property
    def pid(self) -> int:
        return self.popen.pid if self.popen else self.adopted.pid if self.adopted else 0

    def alive(self) -> bool:
        if self.popen:
            return self.popen.poll() is None
        return self.adopted is not None and is_alive(self.adopted)

    def restart(self) -> None:
        """Start again after an end that was not asked for; raises `ProcessFailed` if that happens
        too often. Does not wait until it is ready."""
        now = time.monotonic()
        self._restarts = [moment for moment in self._restarts if now - moment < MINUTE]
        if len(self._restarts) >= self.process.most_restarts:
            raise self.failure("ended")
        self._restarts.append(now)
        with self.log.open("a") as log:
            log.write(f"{self.failure('ended').headline}; it is started again.\n")
        self.end(now)
        self.popen = None
        self.start()

    def failure(self, what: str) -> ProcessFailed:
        code = self.popen.poll() if self.popen else None
        ending = "" if code is None else f" (exit code {code})"
        return ProcessFailed(f"{self.process.name} {what}{ending}", self.log)

    def is_ready(self) -> bool:
        """Raises `ProcessFailed` if it has ended."""
        if not self.alive():
            raise self.failure("ended before it was ready")
        return self.process.ready is None or self.process.ready()

    def ask_to_stop(self) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.process.stop_signal)

    def end(self, deadline: float) -> None:
        """Wait for the end until `deadline` (monotonic seconds), then kill what is left."""
        while self.alive() and time.monotonic() < deadline:
            time.sleep(PAUSE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.popen:  # leads its own group: the children that it left go too
                os.killpg(self.pid, signal.SIGKILL)
                self.popen.wait()
            elif self.alive():
                os.kill(self.pid, signal.SIGKILL)


class Supervisor:
    """Holds `var` for itself and runs processes in it.

    with Supervisor(var) as supervisor:
        supervisor.start(postgres, valkey)
        migrate()
        supervisor.start(web, worker)
        supervisor.watch()

    Ctrl-C, SIGTERM and SIGHUP become KeyboardInterrupt inside the block. Start from the main
    thread: the kernel counts a thread's end as the parent's death.
    """

    def __init__(self, var: Path) -> None:
        self.var = var.resolve()
        self.logs = self.var / "logs"
        self._tiers: list[list[Child]] = []
        self._lock: Any = None
        self._handlers: dict[signal.Signals, Any] = {}

    def start(self, *processes: Process) -> None:
        """Start these side by side and wait until all are ready.

        Raises `AlreadyRunning`, or `ProcessFailed` with the last lines of the log; what has been
        started then still runs, until `stop`.
        """
        self._hold_folder()
        self.logs.mkdir(parents=True, exist_ok=True)
        tier = [Child(process, self.logs / f"{process.name}.log") for process in processes]
        self._tiers.append(tier)
        for child in tier:
            child.start()
        started = time.monotonic()
        waiting = list(tier)
        while waiting:
            for child in list(waiting):
                if child.is_ready():
                    if child.process.finish:
                        child.process.finish()
                    waiting.remove(child)
                elif time.monotonic() - started > child.process.ready_timeout:
                    raise child.failure("did not become ready")
            time.sleep(PAUSE if waiting else 0)

    def describe(self, **facts: object) -> None:
        """Tell a second supervisor about this one, for example `address="http://127.0.0.1:8000"`."""
        self._hold_folder()
        self._lock.seek(0)
        self._lock.truncate()
        json.dump({"process": os.getpid(), **facts}, self._lock)
        self._lock.flush()

    def check(self) -> None:
        """Start again what has ended, or raise `ProcessFailed`; give long logs a new file."""
        for child in self.children():
            if not child.alive():
                child.restart()
            rotate(child.log)

    def watch(self) -> None:
        """Return never: raises `ProcessFailed` when one ends for good, KeyboardInterrupt on a
        signal."""
        while True:
            self.check()
            time.sleep(4 * PAUSE)

    def children(self) -> list[Child]:
        return [child for tier in self._tiers for child in tier]

    def stop(self) -> None:
        """End all in reverse order. A second Ctrl-C kills instead of waiting."""
        hurry = False
        while self._tiers:
            tier = self._tiers[-1]
            try:
                for child in tier:
                    child.ask_to_stop()
                now = time.monotonic()
                for child in tier:
                    child.end(now if hurry else now + child.process.stop_timeout)
                self._tiers.pop()
            except KeyboardInterrupt:
                hurry = True
        if self._lock:
            self._lock.close()
            self._lock = None

    def _hold_folder(self) -> None:
        if self._lock:
            return
        self.var.mkdir(parents=True, exist_ok=True)
        lock = (self.var / "supervisor.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with lock:
                raise AlreadyRunning(already_running(self.var, lock)) from None
        self._lock = lock
        self.describe()

    def __enter__(self) -> "Supervisor":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._handlers[number] = signal.signal(number, interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def adopt(process: Process) -> psutil.Process | None:
    """What an earlier run left behind, once it has been ready for half a second.

    The wait is for one whose supervisor has just been killed: it answers still and ends soon. One
    that ends meanwhile is no loss, a new one is started.
    """
    pid = process.running() if process.running else None
    if pid is None or not psutil.pid_exists(pid):
        return None
    found = psutil.Process(pid)
    deadline = time.monotonic() + process.ready_timeout
    looks = 0
    while looks < LOOKS_BEFORE_ADOPTION and time.monotonic() < deadline:
        if not is_alive(found):
            return None
        looks = looks + 1 if process.ready is None or process.ready() else 0
        time.sleep(PAUSE)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended and waits to be reaped does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def already_running(var: Path, lock: Any) -> str:
    try:
        lock.seek(0)
        facts = json.load(lock)
        process = facts["process"]
    except (ValueError, KeyError):
        return f"Another Hunch is starting in {var}."
    address = f" at {facts['address']}" if "address" in facts else ""
    return f"Hunch already runs in {var}{address} (process {process}). Stop it with: kill {process}"
