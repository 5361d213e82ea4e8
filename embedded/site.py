"""The site as processes on one machine: web server, one worker a kind of work, the clock.

    with Supervisor(settings.var) as supervisor:
        start_site(supervisor, settings, migrate=lambda: call_command("migrate"))
        supervisor.watch()

The processes find their database and broker as every Django process does: from the environment,
or from `HUNCH_VAR`.
"""

import contextlib
import http.client
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from embedded.services import service_processes
from embedded.supervisor import Process, Supervisor
from embedded.urls import service_urls, var_folder

HOST = "127.0.0.1"
MOST_RESTARTS = 5  # a minute
WORKER_ANSWERS_WITHIN = 2.0  # seconds


@dataclass(frozen=True)
class SiteSettings:
    """How large the site is. `port` is taken, or the next one that is free."""

    var: Path = field(default_factory=var_folder)
    port: int = 8000
    web_processes: int = 2
    web_threads: int = 4
    train_processes: int = 1
    predict_processes: int = 1


def start_site(supervisor: Supervisor, settings: SiteSettings, migrate: Callable[[], None]) -> str:
    """Start what `DATABASE_URL` and `REDIS_URL` do not name, migrate, start the site.

    Returns its address, `http://127.0.0.1:PORT`. Raises `AlreadyRunning` where another supervisor
    holds the folder and `ProcessFailed` where a process does not become ready.
    """
    embedded = service_urls(settings.var).embedded
    services = service_processes(settings.var) if embedded else []
    supervisor.start(*(replace(process, most_restarts=MOST_RESTARTS) for process in services))
    migrate()
    port = free_port(settings.port)
    address = f"http://{HOST}:{port}"
    supervisor.describe(address=address)
    supervisor.start(*site_processes(settings, port))
    return address


def site_processes(settings: SiteSettings, port: int) -> list[Process]:
    """Web server, workers and clock, started again when they die; database and broker must be
    up."""
    processes = [
        web_process(settings, port),
        worker_process(settings, "train", ("train",), settings.train_processes),
        worker_process(settings, "predict", ("predict", "maintenance"), settings.predict_processes),
        clock_process(settings),
    ]
    return [replace(process, most_restarts=MOST_RESTARTS) for process in processes]


def web_process(settings: SiteSettings, port: int) -> Process:
    return Process(
        name="web",
        command=(
            *(sys.executable, "-m", "gunicorn", "curation.wsgi:application"),
            *("--bind", f"{HOST}:{port}", "--worker-class", "gthread"),
            *("--workers", str(settings.web_processes), "--threads", str(settings.web_threads)),
            *("--graceful-timeout", "10", "--timeout", "60"),
        ),
        environment=environment(settings),
        ready=lambda: answers_http(port),
    )


def worker_process(
    settings: SiteSettings, name: str, queues: tuple[str, ...], processes: int
) -> Process:
    node = f"{name}@hunch"
    return Process(
        name=f"worker-{name}",
        command=(
            *(sys.executable, "-m", "celery", "--app", "workers.celery", "--quiet", "worker"),
            *("--hostname", node, "--queues", ",".join(queues)),
            *("--concurrency", str(processes), "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle"),
        ),
        environment=environment(settings),
        ready=lambda: answers_ping(service_urls(settings.var).celery_url, node),
        ready_timeout=120.0,
        stop_timeout=10.0,
        death_signal=signal.SIGKILL,  # jobs resume from checkpoints; SIGTERM waits for their end
    )


def clock_process(settings: SiteSettings) -> Process:
    return Process(
        name="clock",
        command=(
            *(sys.executable, "-m", "celery", "--app", "workers.celery", "--quiet", "beat"),
            *("--schedule", str(settings.var / "celerybeat-schedule")),
            *("--pidfile", "", "--loglevel", "WARNING"),
        ),
        environment=environment(settings),
    )


def environment(settings: SiteSettings) -> dict[str, str]:
    """One thread a process: a second beside a busy core slows the first down."""
    return {"HUNCH_VAR": str(settings.var), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def answers_http(port: int) -> bool:
    """Whether a web server answers on this port, whatever it says short of a failure."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def answers_ping(celery_url: str, node: str) -> bool:
    """Whether the worker named `node` answers Celery's ping."""
    from celery import Celery  # here: a site that runs only the web server need not load it

    with Celery(broker=celery_url) as app, contextlib.suppress(OSError):
        return bool(app.control.ping(destination=[node], timeout=WORKER_ANSWERS_WITHIN))
    return False


def free_port(preferred: int) -> int:
    """`preferred`, or one of the twenty after it, or any that is free."""
    for port in (*range(preferred, preferred + 20), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return int(probe.getsockname()[1])
    raise OSError(f"No port is free on {HOST}.")
