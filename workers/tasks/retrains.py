"""The job that runs confirmatory retrains: three arms for each fresh seed, one result per (arm,
seed)."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from curation.models import Arm, Baseline, Behaviour, Registration, RegistrationState, Retrain
from curation.queries.predictions import edits_of
from curation.services import bank, verdicts
from workers.tasks.handler import Handler
from workers.tasks.loading import LoadedBaseline, example_weights, load_baseline
from workers.tasks.measuring import measure_parameters, planned_behaviours
from workers.tasks.recalibration import recalibrate
from workers.tasks.report import JobReport
from workers.training.batched import train_many

Edits = tuple[NDArray[np.int64], NDArray[np.float64]]
RUNS_AT_A_TIME = 24


class RetrainArms(Handler):
    def run(self, report: JobReport) -> None:
        registration = Registration.objects.select_related("proposal__baseline").get(
            pk=self.job.target_id
        )
        baseline: Baseline = registration.proposal.baseline
        if registration.state == RegistrationState.COMPLETE:  # killed between verdict and bank
            learn_from(registration)
            return
        if registration.state != RegistrationState.RUNNING:
            return
        report.stage("Encoding examples")
        loaded = load_baseline(baseline.pk)
        behaviours = planned_behaviours(registration)
        pending = self._pending(registration)
        total = len(pending) * loaded.problem.number_of_steps
        report.stage(f"Retraining {len(pending)} runs", total)
        edits = edits_of(registration.proposal)
        for first in range(0, len(pending), RUNS_AT_A_TIME):
            before = first * loaded.problem.number_of_steps
            chunk = pending[first : first + RUNS_AT_A_TIME]
            self._train(registration, loaded, behaviours, edits, chunk, report, before, total)
        if verdicts.conclude(registration=registration):
            learn_from(registration)

    def _pending(self, registration: Registration) -> list[tuple[str, int]]:
        finished = set(registration.retrains.values_list("arm", "seed"))
        wanted = [(arm.value, seed) for seed in self.job.payload["seeds"] for arm in Arm]
        return [run for run in wanted if run not in finished]

    def _train(
        self,
        registration: Registration,
        loaded: LoadedBaseline,
        behaviours: list[Behaviour],
        edits: Edits,
        runs: list[tuple[str, int]],
        report: JobReport,
        before: int,
        total: int,
    ) -> None:
        count = len(loaded.problem.train)
        weights = torch.stack(
            [
                example_weights(count, arm_edits(arm, seed, edits, count, registration))
                for arm, seed in runs
            ]
        )
        scale = len(runs) * loaded.problem.number_of_steps
        parameters = train_many(
            loaded.problem,
            [seed for _, seed in runs],
            weights,
            progress=lambda done, of: report(before + round(done / max(of, 1) * scale), total),
        )
        values = measure_parameters(loaded, behaviours, parameters)
        Retrain.objects.bulk_create(
            [
                Retrain(
                    registration=registration,
                    arm=arm,
                    seed=seed,
                    job=self.job,
                    values=row,
                )
                for (arm, seed), row in zip(runs, values, strict=True)
            ],
            ignore_conflicts=True,
        )


def learn_from(registration: Registration) -> None:
    """Let a complete test's retrains serve later predictions; again after a kill does no harm."""
    bank.absorb(registration=registration)
    recalibrate(registration.proposal.baseline)


def arm_edits(arm: str, seed: int, edits: Edits, count: int, registration: Registration) -> Edits:
    """The edits of one arm. The placebo gives the same weights to random other examples, anew for
    each seed."""
    if arm == Arm.UNEDITED:
        return np.empty(0, np.int64), np.empty(0)
    if arm == Arm.EDITED:
        return edits
    indices, weights = edits
    digest = hashlib.sha256(f"{registration.plan_sha256} placebo {seed}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8]))
    others = np.setdiff1d(np.arange(count), indices)
    if len(others) < len(indices):
        others = np.arange(count)
    return generator.choice(others, len(indices), replace=False), weights
