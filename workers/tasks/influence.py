"""The job that computes influence scores of a baseline's behaviours by one method."""

from dataclasses import replace

import numpy as np

from curation.models import Baseline, Behaviour, Influence
from workers.evidence.bank_evidence import random_edit_scale
from workers.influence.damped_method import StepDampedMethod
from workers.influence.interface import InfluenceMethod, InfluenceScores
from workers.influence.projected import Projected
from workers.influence.registry import build_method
from workers.tasks.damping_choice import choose_damping
from workers.tasks.edit_aware import recorded_runs
from workers.tasks.handler import Handler
from workers.tasks.loading import (
    baseline_runs,
    load_baseline,
    measured_behaviours,
    store_array,
)
from workers.tasks.measuring import measure_baseline
from workers.tasks.recalibration import recalibrate
from workers.tasks.report import JobReport
from workers.tasks.sharing import projected_method, share_out


class Attribute(Handler):
    def run(self, report: JobReport) -> None:
        baseline = Baseline.objects.get(pk=self.job.target_id)
        name = self.job.payload["method"]
        behaviours = self._without_scores(baseline, name)
        if not behaviours:
            return
        loaded = load_baseline(baseline.pk)
        report.stage("Measuring behaviours")
        measure_baseline(baseline, loaded, behaviours)
        self.goes_on = name == Projected.name and share_out(self.job, report)
        if not self.goes_on:
            self.finish(report)

    def finish(self, report: JobReport) -> None:
        """Scores of the behaviours that lack them, and what follows from scores."""
        baseline = Baseline.objects.get(pk=self.job.target_id)
        name = self.job.payload["method"]
        behaviours = self._without_scores(baseline, name)
        if not behaviours:
            return
        loaded = load_baseline(baseline.pk)
        measured = measured_behaviours(loaded, behaviours)
        method: InfluenceMethod
        if name == Projected.name:
            method, runs = projected_method(), baseline_runs(baseline, loaded)
        else:
            method = build_method(name)
            report.stage(
                "Recording the training runs", loaded.problem.number_of_steps * len(baseline.seeds)
            )
            runs = recorded_runs(baseline, loaded, report)
        chosen: dict[str, object] = {}
        if isinstance(method, StepDampedMethod):
            report.stage("Choosing the damping")
            chosen["damping_choice"] = choose_damping(method, baseline, behaviours, runs, measured)
        report.stage(f"Computing influence by {method.title.lower()}")
        scores = method.scores(runs, measured, progress=report)
        scores = replace(scores, diagnostics={**scores.diagnostics, **chosen})
        self._save(baseline, name, behaviours, scores)
        report.stage("Calibrating predictions")
        recalibrate(baseline, name)

    @staticmethod
    def _without_scores(baseline: Baseline, method: str) -> list[Behaviour]:
        found = baseline.behaviours.filter(archived_at=None).exclude(influences__method=method)
        return list(found)

    def _save(
        self, baseline: Baseline, name: str, behaviours: list[Behaviour], scores: InfluenceScores
    ) -> None:
        aggregate = scores.aggregate()
        scales = random_edit_scale(aggregate)
        for column, behaviour in enumerate(behaviours):
            Influence.objects.get_or_create(
                behaviour=behaviour,
                method=name,
                defaults={
                    "baseline": baseline,
                    "scores_file": store_array(np.ascontiguousarray(aggregate[:, column])),
                    "per_seed_file": store_array(
                        np.ascontiguousarray(scores.per_seed[:, :, column])
                    ),
                    "seeds": list(scores.seeds),
                    "left_out": [
                        {"seed": one.seed, "reason": one.reason} for one in scores.left_out
                    ],
                    "diagnostics": {
                        **scores.diagnostics,
                        "random_edit_scale": float(scales[column]),
                    },
                },
            )
