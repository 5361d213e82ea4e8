"""Influence that a real worker computes in shards, on the session's own broker: the same scores for
any number of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery.contrib.testing.worker import start_worker
from django.contrib.auth import get_user_model

from curation.models import Baseline, Influence, Job, JobKind, JobLogLine, JobState
from curation.services import bank, behaviours, jobs, sample_project
from curation.services.files import local_path
from tests.running import run_jobs
from workers.celery import app, count_shards
from workers.influence import projected
from workers.tasks.loading import load_baseline

pytestmark = pytest.mark.django_db(transaction=True)
DEADLINE = 60.0


@pytest.fixture
def baseline(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Baseline:
    """The sample project's baseline on few rows, two seeds and two behaviours, without scores;
    sixteen examples to a block."""
    settings.GRADIENTS_ROOT = tmp_path
    monkeypatch.setattr(sample_project, "NUMBER_OF_SEEDS", 2)
    monkeypatch.setattr(sample_project, "BEHAVIOURS", sample_project.BEHAVIOURS[:2])
    monkeypatch.setitem(sample_project.RECIPE, "epochs", 1)
    monkeypatch.setattr(behaviours, "attribute", lambda **_: None)
    monkeypatch.setattr(bank, "extend_bank", lambda **_: None)
    monkeypatch.setattr(projected, "block_rows", lambda dimension: 16)
    owner = get_user_model().objects.create_user("owner", password="a long pass phrase")
    project = sample_project.load_sample_project(by=owner, rows=150)
    run_jobs(project)
    project.is_sample = False
    project.save()
    load_baseline.cache_clear()
    return Baseline.objects.get(project=project)


@pytest.fixture
def worker() -> Iterator[None]:
    """A Celery worker in a thread of this process, on the queue of such jobs."""
    app.control.purge()
    count_shards()
    with start_worker(
        app, pool="solo", perform_ping_check=False, queues=["train"], loglevel="ERROR"
    ):
        yield


def request(baseline: Baseline, number_of_shards: int) -> Job:
    return jobs.enqueue(
        project=baseline.project,
        kind=JobKind.ATTRIBUTE,
        target_id=baseline.pk,
        payload={"method": "projected", "shards": number_of_shards},
    )


def wait_for_end(job: Job) -> Job:
    """The job once its row has ended."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        job.refresh_from_db()
        if job.has_ended:
            return job
        threading.Event().wait(0.05)
    raise AssertionError(f"the job is still {job.state}: {job.stage}")


def scores_of(baseline: Baseline) -> np.ndarray:
    found = Influence.objects.filter(baseline=baseline, method="projected")
    rows = found.order_by("behaviour__position")
    return np.stack([np.load(local_path(row.per_seed_file)) for row in rows])


def forget_scores(baseline: Baseline, root: Path) -> None:
    Influence.objects.filter(baseline=baseline).delete()
    for file in root.rglob("*.safetensors"):
        file.unlink()


def test_any_number_of_shards_gives_identical_scores(
    baseline: Baseline, worker: None, tmp_path: Path
) -> None:
    found = {}
    for number in (1, 2, 5):
        job = wait_for_end(request(baseline, number))
        assert (job.state, job.error) == (JobState.SUCCEEDED, "")
        lines = JobLogLine.objects.filter(job=job, text__contains="shards")
        assert [line.text for line in lines] == (
            [] if number == 1 else [f"Projecting gradients in {number} shards"]
        )
        found[number] = scores_of(baseline)
        forget_scores(baseline, tmp_path)
    assert np.abs(found[1]).max() > 0
    np.testing.assert_array_equal(found[2], found[1])
    np.testing.assert_array_equal(found[5], found[1])
