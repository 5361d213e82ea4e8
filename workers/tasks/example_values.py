"""The job that measures every example under a baseline, and what its training measures by the
way."""

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from curation.models import Baseline, ExampleValues
from curation.services.files import local_path
from workers.influence.interface import LeftOutSeed, NoUsableSeed
from workers.influence.self_influence import self_influence, sparse_trajectory
from workers.tasks.handler import Handler
from workers.tasks.loading import LoadedBaseline, baseline_runs, load_baseline, store_array
from workers.tasks.report import JobReport
from workers.training.evaluation import losses_and_confidences
from workers.training.trainer import train

Values = NDArray[np.float32]


class MeasureExamples(Handler):
    """Adds self-influence, and loss and confidence to a baseline trained before they were kept."""

    def run(self, report: JobReport) -> None:
        baseline = Baseline.objects.get(pk=self.job.target_id)
        report.stage("Encoding examples")
        loaded = load_baseline(baseline.pk)
        found = keep_losses(baseline, loaded, report)
        if found.self_influence_file_id is not None:
            return
        own, left_out = _self_influence(baseline, loaded, report)
        stored = store_array(_in_upload_order(baseline, own, None))
        ExampleValues.objects.filter(pk=found.pk, self_influence_file=None).update(
            self_influence_file=stored,
            left_out=[{"seed": one.seed, "reason": one.reason} for one in left_out],
        )


def keep_losses(baseline: Baseline, loaded: LoadedBaseline, report: JobReport) -> ExampleValues:
    """Each example's loss and confidence, mean over the baseline's finished runs, measured once:
    a forward pass over both splits for each seed."""
    known = ExampleValues.objects.filter(baseline=baseline).first()
    if known is not None:
        return known
    runs = baseline_runs(baseline, loaded)
    report.stage("Measuring each example", 2 * len(runs))
    losses, confidences = [], []
    for split, examples in enumerate((loaded.problem.train, loaded.probe)):
        found = []
        for number, run in enumerate(runs):
            found.append(losses_and_confidences(run, examples))
            report(split * len(runs) + number + 1, 2 * len(runs))
        losses.append(torch.stack([loss for loss, _ in found]).mean(0).numpy())
        known_each = [each for _, each in found if each is not None]
        if known_each:
            confidences.append(torch.stack(known_each).mean(0).numpy())
    return ExampleValues.objects.get_or_create(
        baseline=baseline,
        defaults={
            "loss_file": store_array(_in_upload_order(baseline, *losses)),
            "confidence_file": store_array(_in_upload_order(baseline, *confidences))
            if confidences
            else None,
            "seeds": [run.seed for run in runs],
        },
    )[0]


def _self_influence(
    baseline: Baseline, loaded: LoadedBaseline, report: JobReport
) -> tuple[Values, list[LeftOutSeed]]:
    """(N,) mean over the seeds whose values are finite. Every seed is trained again, since of a
    run only its end is kept; half of the progress is training, half the gradients."""
    steps = loaded.problem.number_of_steps
    total = 2 * steps * len(baseline.seeds)
    report.stage(f"Following {len(baseline.seeds)} training runs", total)
    kept: list[Values] = []
    left_out: list[LeftOutSeed] = []
    for number, seed in enumerate(baseline.seeds):

        def trained(done: int, _: int, before: int = 2 * number * steps) -> None:
            report(before + done, total)

        def followed(done: int, of: int, before: int = (2 * number + 1) * steps) -> None:
            report(before + steps * done // of, total)

        record = sparse_trajectory(loaded.problem)
        run = train(loaded.problem, seed, trajectory=record, progress=trained)
        own = self_influence(run, followed).numpy()
        if np.isfinite(own).all():
            kept.append(own)
        else:
            left_out.append(LeftOutSeed(seed, "its self-influence is not finite"))
    if not kept:
        raise NoUsableSeed(left_out)
    return np.mean(kept, axis=0), left_out


def _in_upload_order(baseline: Baseline, train: Values, probe: Values | None) -> Values:
    """(rows,) float32 from the values of the two splits; without `probe`, not a number there."""
    stored = baseline.dataset_version.examples_file
    assert stored is not None
    table = pq.read_table(local_path(stored), columns=["train_index", "probe_index"])
    values = np.full(len(table), np.nan, np.float32)
    for name, split in (("train_index", train), ("probe_index", probe)):
        column = table[name]
        if split is not None:
            rows = np.flatnonzero(column.is_valid().to_numpy())
            values[rows] = split[column.drop_null().to_numpy()]
    return values
