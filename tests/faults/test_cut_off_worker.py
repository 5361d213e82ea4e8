"""Two workers in networks of their own share one broker and one database over TCP, and one
experiment. One is cut off in the middle of it; the other finishes, with the right numbers."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from curation.models import Arm, Job, JobState, Project, Registration, RegistrationState
from curation.services import jobs, registrations, sample_project
from tests.faults.checks import differences_from_recomputing
from tests.faults.complete_job import CompleteJob
from tests.faults.networks import Network, NoNetworks, networks
from tests.running import run_jobs

PROJECT = Path(__file__).resolve().parents[2]
FRESH_SEEDS = 16  # two jobs of eight
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def registration(user, monkeypatch) -> Registration:
    """A small experiment, locked and not yet started; training takes seconds."""
    monkeypatch.setattr(jobs, "send", lambda job: None)
    monkeypatch.setattr(sample_project, "BANK_EDITS", 4)
    monkeypatch.setattr(sample_project, "NUMBER_OF_SEEDS", 1)
    monkeypatch.setattr(sample_project, "BEHAVIOURS", sample_project.BEHAVIOURS[2:3])
    monkeypatch.setitem(sample_project.RECIPE, "epochs", 4)
    project: Project = sample_project.load_sample_project(by=user, rows=120)
    assert [job.error for job in run_jobs(project) if job.error] == []
    proposal = project.proposals.order_by("created_at")[0]
    behaviour = proposal.baseline.behaviours.get(name__startswith="Negative")
    monkeypatch.undo()
    return registrations.register(
        proposal=proposal,
        primary_behaviour=behaviour,
        number_of_seeds=FRESH_SEEDS,
        smallest_effect=0.0,
        by=user,
    )


def addresses(network: Network) -> dict[str, str]:
    """The test's database and broker as seen from a network."""
    database = connection.settings_dict
    broker = re.fullmatch(r"unix://(.+)\?db=(\d+)", os.environ["REDIS_URL"])
    if not database["HOST"].startswith("/") or broker is None:
        pytest.skip("The servers of this run are not the embedded ones.")
    host = network.host
    to_database = network.port_to(f"{database['HOST']}/.s.PGSQL.5432")
    to_broker = network.port_to(broker[1])
    return {
        "DATABASE_URL": f"postgresql://hunch@{host}:{to_database}/{database['NAME']}",
        "REDIS_URL": f"redis://{host}:{to_broker}/{broker[2]}",
        "JOB_LEASE_SECONDS": "6",
        "LOG_LEVEL": "WARNING",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def workers(tmp_path) -> Iterator[list[tuple[Network, subprocess.Popen[bytes], Path]]]:
    """One in each of two networks."""
    try:
        with networks(2) as made:
            started = [start(network, tmp_path) for network in made]
            try:
                yield started
            finally:
                for _, process, _ in started:
                    process.kill()
                    process.wait()
    except NoNetworks as reason:
        pytest.skip(f"Networks cannot be made here: {reason}.")


def start(network: Network, folder: Path) -> tuple[Network, subprocess.Popen[bytes], Path]:
    command = network.command(
        *(sys.executable, "-m", "celery", "--app", "workers.celery", "worker"),
        *("--hostname", f"{network.name}@hunch", "--queues", "predict,train,maintenance"),
        *("--pool", "solo", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
    )
    log = folder / f"{network.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **addresses(network)},
            stdout=output,
            stderr=output,
        )
    return network, process, log


def wait_for(condition: Any, logs: list[Path], pause: float = 0.02) -> Any:
    until = time.monotonic() + 180.0
    while not (found := condition()):
        assert time.monotonic() < until, "\n".join(log.read_text()[-3000:] for log in logs)
        time.sleep(pause)
    return found


def test_one_of_two_workers_is_cut_off_and_the_experiment_ends_right(registration, workers, user):
    logs = [log for _, _, log in workers]
    wait_for(lambda: all("ready." in log.read_text() for log in logs), logs)
    registrations.start(registration=registration, by=user)
    running = Job.objects.filter(target_id=registration.pk, state=JobState.RUNNING)
    first = wait_for(running.first, logs)
    owner = next(
        network for network, process, _ in workers if first.worker.endswith(f":{process.pid}")
    )
    owner.pull_the_cable()

    def swept_and_complete() -> bool:
        jobs.sweep()
        registration.refresh_from_db()
        return registration.state == RegistrationState.COMPLETE

    wait_for(swept_and_complete, logs, pause=1.0)
    first.refresh_from_db()
    assert first.attempts == 2
    results = registration.retrains.values_list("arm", "seed")
    assert len(results) == len(set(results)) == len(Arm) * FRESH_SEEDS
    done = CompleteJob("cut off", registration=str(registration.pk))
    assert differences_from_recomputing(done) == []
