"""The job that extends the bank: plan known edits, retrain them in batches, refit the
calibrations."""

from typing import Any

import numpy as np
import torch
from django.db import transaction

from curation.models import BankEdit, BankRetrain, Baseline, Behaviour, Influence, Job
from curation.queries.predictions import DEFAULT_METHOD
from curation.services.bank import forbidden_edits, load_edit, next_position, store_edit
from curation.services.files import local_path
from curation.services.training_setup import take_seeds
from workers.evidence.bank import plan_bank, seed_pool_size, seeds_in_turn
from workers.tasks.handler import Handler
from workers.tasks.loading import LoadedBaseline, example_weights, load_baseline, store_parameters
from workers.tasks.measuring import active_behaviours, measure_parameters
from workers.tasks.recalibration import recalibrate
from workers.tasks.report import JobReport
from workers.training.batched import train_many

RUNS_AT_A_TIME = 24
MOST_KEPT_PARAMETERS = 1_000_000


class ExtendBank(Handler):
    def run(self, report: JobReport) -> None:
        baseline = Baseline.objects.select_related("dataset_version").get(pk=self.job.target_id)
        report.stage("Planning calibration edits")
        self._plan(baseline)
        loaded = load_baseline(baseline.pk)
        behaviours = active_behaviours(baseline)
        pending = pending_retrains(baseline)
        total = len(pending) * loaded.problem.number_of_steps
        report.stage(f"Retraining {len(pending)} runs of known edits", total)
        for first in range(0, len(pending), RUNS_AT_A_TIME):
            chunk = pending[first : first + RUNS_AT_A_TIME]
            before = first * loaded.problem.number_of_steps
            retrain(baseline, loaded, behaviours, chunk, report, before, total)
        report.stage("Calibrating predictions")
        recalibrate(baseline)

    def _plan(self, baseline: Baseline) -> None:
        """Rows of the planned edits, made once however often the job is started."""
        with transaction.atomic():
            job = Job.objects.select_for_update().get(pk=self.job.pk)
            if job.payload.get("planned"):
                return
            Baseline.objects.select_for_update().get(pk=baseline.pk)
            plan = plan_bank(
                _scores(baseline),
                job.payload["number_of_edits"],
                seed=next_position(baseline),
                forbidden_edits=forbidden_edits(baseline),
                better=_better(baseline),
            )
            per_edit = job.payload["seeds_per_edit"]
            pool = take_seeds(baseline=baseline, count=seed_pool_size(len(plan), per_edit))
            start = next_position(baseline)
            BankEdit.objects.bulk_create(
                BankEdit(
                    baseline=baseline,
                    position=start + offset,
                    kind=edit.kind,
                    selection=edit.direction,
                    size_fraction=edit.size_fraction,
                    edits_file=store_edit(edit.train_indices, edit.weights),
                    edits_sha256=edit.sha256,
                    seeds=seeds_in_turn(pool, per_edit, offset),
                )
                for offset, edit in enumerate(plan)
            )
            job.payload["planned"] = True
            job.save(update_fields=["payload"])


def pending_retrains(baseline: Baseline) -> list[tuple[BankEdit | None, int]]:
    """(edit or None for unedited, seed) that the bank plans and does not hold yet."""
    edits = list(baseline.bank_edits.filter(registration=None).select_related("edits_file"))
    there = set(baseline.bank_retrains.values_list("edit_id", "seed"))
    seeds = sorted({seed for edit in edits for seed in edit.seeds})
    wanted: list[tuple[BankEdit | None, int]] = [(None, seed) for seed in seeds]
    wanted += [(edit, seed) for edit in edits for seed in edit.seeds]
    return [(edit, seed) for edit, seed in wanted if (edit.pk if edit else None, seed) not in there]


def retrain(
    baseline: Baseline,
    loaded: LoadedBaseline,
    behaviours: list[Behaviour],
    runs: list[tuple[BankEdit | None, int]],
    report: JobReport,
    before: int,
    total: int,
) -> None:
    """Train the runs in one batch and save one row each; rows that are there already stay."""
    count = len(loaded.problem.train)
    nothing = (np.empty(0, np.int64), np.empty(0))
    weights = torch.stack(
        [example_weights(count, load_edit(edit) if edit else nothing) for edit, _ in runs]
    )
    scale = len(runs) * loaded.problem.number_of_steps
    parameters = train_many(
        loaded.problem,
        [seed for _, seed in runs],
        weights,
        progress=lambda done, of: report(before + round(done / max(of, 1) * scale), total),
    )
    keep = parameters.shape[1] <= MOST_KEPT_PARAMETERS
    values = measure_parameters(loaded, behaviours, parameters)
    BankRetrain.objects.bulk_create(
        [
            BankRetrain(
                baseline=baseline,
                edit=edit,
                seed=seed,
                values=row,
                parameters_file=store_parameters(flat) if keep else None,
            )
            for (edit, seed), row, flat in zip(runs, values, parameters, strict=True)
        ],
        ignore_conflicts=True,
    )


def _columns(baseline: Baseline) -> list[Influence]:
    found = Influence.objects.filter(baseline=baseline, behaviour__archived_at=None)
    chosen = found.filter(method=DEFAULT_METHOD) or found
    return list(chosen.select_related("behaviour", "scores_file").order_by("behaviour__position"))


def _scores(baseline: Baseline) -> Any:
    columns = [
        np.load(local_path(one.scores_file), allow_pickle=False) for one in _columns(baseline)
    ]
    return np.stack(columns, axis=1)


def _better(baseline: Baseline) -> list[int]:
    return [1 if one.behaviour.better == "higher" else -1 for one in _columns(baseline)]
