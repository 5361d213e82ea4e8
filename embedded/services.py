"""The embedded parts of one `var` folder as processes, and a way to have them for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedded.postgres import Postgres
from embedded.supervisor import AlreadyRunning, Process, Supervisor
from embedded.urls import ServiceUrls, service_urls
from embedded.valkey import Valkey


def service_processes(var: Path, *, durable: bool = True) -> list[Process]:
    """PostgreSQL and Valkey on `var`, ready to be started as one tier."""
    return [Postgres(var, durable).process(), Valkey(var, durable).process()]


@contextmanager
def running_services(var: Path, *, durable: bool = True) -> Iterator[ServiceUrls]:
    """Run both inside the block and give their addresses. Raises as `Supervisor.start` does."""
    with Supervisor(var) as supervisor:
        supervisor.start(*service_processes(var, durable=durable))
        yield service_urls(var, environment={})


@contextmanager
def services_at_hand(var: Path, *, alone: bool = False) -> Iterator[None]:
    """Have database and broker inside the block: the operator's own, those of the site that runs
    on `var`, or else embedded ones for as long as the block takes.

    With `alone` a running site raises `AlreadyRunning`.
    """
    with Supervisor(var) as supervisor:
        if service_urls(var).embedded:
            try:
                supervisor.start(*service_processes(var))
            except AlreadyRunning:
                if alone:
                    raise
        yield
