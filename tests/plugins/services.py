"""Gives every test session its own PostgreSQL and Valkey, before Django reads its settings.

Loaded by `addopts = "-p tests.plugins.services"`: a conftest.py would come too late. Servers that
`DATABASE_URL` and `REDIS_URL` name are used instead. Under pytest-xdist the controller starts the
servers; each worker has its own test database (pytest-django), Valkey database and `HUNCH_VAR`.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from embedded.services import service_processes
from embedded.supervisor import Supervisor
from embedded.urls import service_urls, with_redis_database

PREFIX = "hunch-tests-"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        give_own_services(worker)
    else:
        start_services(early_config)
    return (yield)


def start_services(config: pytest.Config) -> None:
    """Start both servers unless the environment names some, and set the variables for all."""
    remove_leftovers()
    var = Path(tempfile.mkdtemp(prefix=PREFIX))
    config.add_cleanup(lambda: shutil.rmtree(var, ignore_errors=True))
    if service_urls(var).embedded:
        supervisor = Supervisor(var)
        config.add_cleanup(supervisor.stop)
        supervisor.start(*service_processes(var, durable=False))
    os.environ.update(service_urls(var).environment(), HUNCH_VAR=str(var))
    (var / "static").mkdir()  # whitenoise warns of a missing one
    os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "0" * 40)


def remove_leftovers() -> None:
    """Remove the folders of sessions that were killed more than a day ago."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if time.time() - folder.stat().st_mtime > 86_400:
            shutil.rmtree(folder, ignore_errors=True)


def give_own_services(worker: str) -> None:
    """Keep one xdist worker's cache, queues and files apart from the others'."""
    number = int(re.sub(r"\D", "", worker)) + 1
    os.environ["REDIS_URL"] = with_redis_database(os.environ["REDIS_URL"], number)
    var = Path(os.environ["HUNCH_VAR"]) / worker
    (var / "static").mkdir(parents=True, exist_ok=True)
    os.environ["HUNCH_VAR"] = str(var)
