"""Influence that is computed in shards: one truth about the job, and nothing lost with a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curation.models import Baseline, Influence, Job, JobKind, JobState, Project
from curation.services import jobs
from workers.influence import projected
from workers.influence.projected import Projected
from workers.tasks import shards, sharing
from workers.tasks.run import run_job


@pytest.fixture
def baseline(
    small_sample: Project, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Baseline:
    """Two seeds, and thirty-two examples to a block."""
    settings.GRADIENTS_ROOT = tmp_path
    monkeypatch.setattr(projected, "block_rows", lambda dimension: 32)
    return Baseline.objects.get(project=small_sample)


def request(baseline: Baseline, number_of_shards: int) -> Job:
    return jobs.enqueue(
        project=baseline.project,
        kind=JobKind.ATTRIBUTE,
        target_id=baseline.pk,
        payload={"method": "projected", "shards": number_of_shards},
    )


def test_messages_hold_ids_and_numbers_only(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(sharing, "chord", lambda header: lambda body: sent.extend([*header, body]))
    job = request(baseline, 3)
    run_job(str(job.pk))
    job.refresh_from_db()
    assert job.state == JobState.RUNNING
    assert [list(one.args[:2]) for one in sent] == [[str(job.pk), 1]] * 4
    assert all(isinstance(value, int) for one in sent for value in one.args[1:])


@pytest.fixture
def shared_job(baseline: Baseline, monkeypatch: pytest.MonkeyPatch) -> tuple[Job, list[Any]]:
    """A job that was cut into three shards whose messages are here, not at the broker."""
    sent: list[Any] = []
    monkeypatch.setattr(sharing, "chord", lambda header: lambda body: sent.extend([*header, body]))
    job = request(baseline, 3)
    run_job(str(job.pk))
    job.refresh_from_db()
    return job, sent


def test_progress_counts_the_blocks_of_all_shards(shared_job: tuple[Job, list[Any]]) -> None:
    job, sent = shared_job
    blocks = 2 * -(-job_rows(job) // 32)
    assert job.total == blocks
    seen = [0]
    for one in sent[:3]:
        shards.compute_shard(*one.args)
        job.refresh_from_db()
        assert (job.state, job.total) == (JobState.RUNNING, blocks)
        seen.append(job.done)
    assert sorted(seen) == seen
    assert seen[-1] >= blocks * 2 // 3  # saved twice a second only, but by each when it begins
    shards.join_shards(*sent[3].args)
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED


def test_a_shard_that_comes_twice_changes_nothing(
    shared_job: tuple[Job, list[Any]], tmp_path: Path
) -> None:
    _, sent = shared_job
    shards.compute_shard(*sent[0].args)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    shards.compute_shard(*sent[0].args)
    after = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    assert after == before


def test_a_cancelled_job_ends_at_its_next_shard_and_the_others_do_nothing(
    shared_job: tuple[Job, list[Any]], tmp_path: Path
) -> None:
    job, sent = shared_job
    jobs.cancel(job=job, by=job.project.memberships.first().user)
    shards.compute_shard(*sent[0].args)
    job.refresh_from_db()
    assert (job.state, job.error) == (JobState.CANCELLED, "Cancelled.")
    for one in sent[1:3]:
        shards.compute_shard(*one.args)
    shards.join_shards(*sent[3].args)
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not Influence.objects.filter(method="projected").exists()


def test_a_job_whose_shards_are_lost_is_shared_out_anew(
    shared_job: tuple[Job, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job, sent = shared_job
    shards.compute_shard(*sent[1].args)  # and no more comes from that worker
    lapse(job)
    old = list(sent)
    sent.clear()
    run_job(str(job.pk))
    assert [one.args[1] for one in sent] == [2] * 4
    computed: list[int] = []
    compute = projected.ProjectedRun.compute
    monkeypatch.setattr(
        projected.ProjectedRun,
        "compute",
        lambda self, block, length: (
            None
            if self.store.is_finished(block)
            else (computed.append(block), compute(self, block, length))
        ),
    )
    for one in sent[:3]:
        shards.compute_shard(*one.args)
    start, stop = old[1].args[2:]
    assert len(computed) == job.total - (stop - start)
    shards.join_shards(*old[3].args)  # of the attempt before: nothing
    job.refresh_from_db()
    assert job.state == JobState.RUNNING
    shards.join_shards(*sent[3].args)
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED


def test_the_join_computes_blocks_that_it_does_not_see(shared_job: tuple[Job, list[Any]]) -> None:
    job, sent = shared_job
    shards.compute_shard(*sent[2].args)
    shards.join_shards(*sent[3].args)
    job.refresh_from_db()
    assert job.state == JobState.SUCCEEDED
    by_method = Influence.objects.filter(baseline=job.target_id)
    assert by_method.filter(method="projected").count() == by_method.filter(method="replay").count()


def lapse(job: Job) -> None:
    """The lease of the job runs out."""
    Job.objects.filter(pk=job.pk).update(lease_until="2000-01-01T00:00Z")


def job_rows(job: Job) -> int:
    return Baseline.objects.get(pk=job.target_id).dataset_version.train_count


def test_ranges_hold_every_unit_once() -> None:
    assert sharing.contiguous_ranges([0, 1, 2, 5, 6], 2) == [(0, 3), (5, 7)]
    assert sharing.contiguous_ranges([3], 5) == [(3, 4)]
    assert sharing.contiguous_ranges([], 5) == []
    assert sharing.contiguous_ranges([1, 2], 0) == [(1, 3)]


def test_the_method_keeps_its_gradients_where_all_workers_look(settings: Any) -> None:
    method = sharing.projected_method()
    assert isinstance(method, Projected)
    assert method.folder == Path(settings.GRADIENTS_ROOT)
