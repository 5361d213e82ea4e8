"""A whole site of its own in a folder (PostgreSQL, Valkey, web server, workers, clock) and the ways
to hurt it. For a process of its own: the site's addresses go into its environment."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from embedded.services import service_processes
from embedded.site import SiteSettings, free_port, site_processes, web_process, worker_process
from embedded.supervisor import Process, Supervisor
from embedded.urls import service_urls

QUICK = {
    "JOB_LEASE_SECONDS": "6",
    "JOB_REQUEUE_AFTER_SECONDS": "3",
    "JOB_SWEEP_SECONDS": "2",
    "API_REQUESTS_PER_MINUTE": "1000000",
    "API_STARTS_PER_MINUTE": "1000000",
    "LOG_LEVEL": "WARNING",
}


def use_folder(var: Path) -> None:
    """Make this process and its children one site on `var`, with short leases. Call it before
    Django is set up."""
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    os.environ.update(QUICK, HUNCH_VAR=str(var), DJANGO_SETTINGS_MODULE="curation.settings")


class PrivateSite:
    """The running processes by name: postgres, valkey, web, worker-…, clock."""

    def __init__(self, supervisor: Supervisor, address: str, var: Path) -> None:
        self.supervisor = supervisor
        self.address = address
        self._var = var

    def pids(self, name: str) -> list[int]:
        """Process ids of the children whose name begins so."""
        return [
            child.pid
            for child in self.supervisor.children()
            if child.process.name.startswith(name) and child.alive()
        ]

    def faults(self) -> dict[str, Callable[[random.Random], bool]]:
        """Every fault by name; calling one with a source of chance inflicts it, and says whether
        there was anything to hurt."""
        return {
            "worker killed": lambda draw: kill(draw, self.pids("worker")),
            "worker's process killed": lambda draw: kill(draw, below(self.pids("worker"))),
            "web server killed": lambda draw: kill(draw, self.pids("web")),
            "web server's process killed": lambda draw: kill(draw, below(self.pids("web"))),
            "broker killed": lambda draw: kill(draw, self.pids("valkey")),
            "broker emptied": lambda draw: self._empty_broker(),
            "database killed": lambda draw: kill(draw, self.pids("postgres")),
            "database session killed": lambda draw: kill(draw, below(self.pids("postgres"))),
            "clock killed": lambda draw: kill(draw, self.pids("clock")),
        }

    def _empty_broker(self) -> bool:
        import redis

        try:
            with redis.from_url(service_urls(self._var).redis_url) as client:
                return bool(client.flushall())
        except redis.RedisError:
            return False


def below(pids: list[int]) -> list[int]:
    """The child processes of these."""
    found = []
    for pid in pids:
        try:
            found += [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            continue
    return found


def kill(draw: random.Random, pids: list[int]) -> bool:
    """`kill -9` one of them."""
    if not pids:
        return False
    try:
        os.kill(draw.choice(sorted(pids)), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def private_site(var: Path, *, small: bool) -> Iterator[PrivateSite]:
    """Start everything and stop it at the end; `use_folder` and `django.setup` come before.

    `small` has one worker for all queues and one web process. What dies is started again whenever
    `site.supervisor.check()` is called.
    """
    from django.core.management import call_command

    settings = SiteSettings(var=var, web_processes=1 if small else 2)
    with Supervisor(var) as supervisor:
        supervisor.start(*revived(service_processes(var)))
        call_command("migrate", verbosity=0)
        (var / "static").mkdir(exist_ok=True)
        port = free_port(8700)
        processes = site_processes(settings, port)
        if small:
            every_queue = ("predict", "train", "maintenance")
            worker = worker_process(settings, "all", every_queue, 2)
            processes = [web_process(settings, port), worker, processes[-1]]
        supervisor.start(*revived(processes))
        yield PrivateSite(supervisor, f"http://127.0.0.1:{port}", var)


def revived(processes: list[Process]) -> list[Process]:
    """The same, however often they are killed."""
    return [replace(process, most_restarts=1_000_000) for process in processes]
