"""How the work of one job on projected gradients is cut into shards and handed to workers. What the
shards do when they arrive is in `shards`."""

from pathlib import Path

import numpy as np
from celery import chord, signature
from django.conf import settings

from curation.models import Baseline, Job
from workers.influence.gradient_store import prune
from workers.influence.projected import Projected
from workers.tasks.loading import baseline_runs, load_baseline
from workers.tasks.report import JobReport
from workers.training.trainer import TrainingRun

UNITS_OF_A_SHARD = 4
"""Blocks that are worth a message of their own."""
MOST_SHARDS = 64


def projected_method() -> Projected:
    """The method with its gradients in the folder that the workers share."""
    return Projected(folder=Path(settings.GRADIENTS_ROOT))


def runs_of(job: Job) -> list[TrainingRun]:
    """The finished runs of the job's baseline."""
    baseline = Baseline.objects.get(pk=job.target_id)
    return baseline_runs(baseline, load_baseline(baseline.pk))


def share_out(job: Job, report: JobReport) -> bool:
    """Send the missing blocks of gradients as a chord of shards, whose end ends the job.

    False when there are too few to be worth it: the caller computes them itself. The job's payload
    may say how many `shards` there should be.
    """
    method, runs = projected_method(), runs_of(job)
    names = [method.store_of(run).folder.name for run in runs]
    prune(Path(settings.GRADIENTS_ROOT), settings.GRADIENTS_MAX_BYTES, keep=names)
    missing = method.missing_units(runs)
    number = job.payload.get("shards") or min(MOST_SHARDS, len(missing) // UNITS_OF_A_SHARD)
    ranges = contiguous_ranges(missing, number)
    if len(ranges) < 2:
        return False
    report.stage(f"Projecting gradients in {len(ranges)} shards", method.number_of_units(runs))
    shards = [
        signature(
            "workers.tasks.shards.compute_shard",
            args=(str(job.pk), job.attempts, start, stop),
            immutable=True,
            queue=job.queue,
        )
        for start, stop in ranges
    ]
    join = signature(
        "workers.tasks.shards.join_shards",
        args=(str(job.pk), job.attempts),
        immutable=True,
        queue=job.queue,
    )
    chord(shards)(join)
    return True


def contiguous_ranges(units: list[int], number: int) -> list[tuple[int, int]]:
    """(start, stop) of at most `number` ranges that together hold the ascending `units`, about as
    many of them each."""
    parts = np.array_split(units, max(1, number))
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]
