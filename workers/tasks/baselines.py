"""The job that trains a baseline: one run a seed, each kept as soon as it ends."""

import time
from typing import Any

import torch

from curation.models import Baseline, BaselineRun, BaselineState
from workers.influence.replay import NotReplayable, check_replayable, replay_cautions
from workers.tasks.example_values import keep_losses
from workers.tasks.handler import Handler
from workers.tasks.loading import LoadedBaseline, load_baseline, store_parameters
from workers.tasks.report import JobReport
from workers.training.evaluation import evaluate
from workers.training.trainer import train


class TrainBaseline(Handler):
    def run(self, report: JobReport) -> None:
        baseline = Baseline.objects.get(pk=self.job.target_id)
        Baseline.objects.filter(pk=baseline.pk).update(state=BaselineState.TRAINING)
        report.stage("Encoding examples")
        loaded = load_baseline(baseline.pk)
        finished = set(baseline.runs.values_list("seed", flat=True))
        steps = loaded.problem.number_of_steps
        total = steps * len(baseline.seeds)
        report.stage(f"Training {len(baseline.seeds)} seeds", total)
        for position, seed in enumerate(baseline.seeds):
            if seed not in finished:
                self._train(baseline, loaded, seed, report, position * steps, total)
            report((position + 1) * steps, total)
        keep_losses(baseline, loaded, report)
        self._summarise(baseline, loaded)

    def _train(
        self,
        baseline: Baseline,
        loaded: LoadedBaseline,
        seed: int,
        report: JobReport,
        before: int,
        total: int,
    ) -> None:
        started = time.monotonic()
        run = train(loaded.problem, seed, progress=lambda done, _: report(before + done, total))
        BaselineRun.objects.get_or_create(
            baseline=baseline,
            seed=seed,
            defaults={
                "parameters_file": store_parameters(run.parameters),
                "metrics": {
                    "train": evaluate(run, loaded.problem.train),
                    "probe": evaluate(run, loaded.probe),
                },
                "learning_curve": list(run.learning_curve),
                "seconds": time.monotonic() - started,
            },
        )

    def _summarise(self, baseline: Baseline, loaded: LoadedBaseline) -> None:
        network = loaded.problem.build_network(0)
        warnings = list(loaded.encoded.warnings)
        try:
            check_replayable(loaded.problem)
            replayable = True
            warnings += replay_cautions(loaded.problem)
        except NotReplayable as error:
            replayable = False
            warnings.append(str(error))
        summary: dict[str, Any] = {
            "architecture": loaded.problem.architecture,
            "trained_parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
            "all_parameters": sum(p.numel() for p in network.parameters()),
            "steps": loaded.problem.number_of_steps,
            "train_examples": len(loaded.problem.train),
            "probe_examples": len(loaded.probe),
            "torch": torch.__version__,
        }
        Baseline.objects.filter(pk=baseline.pk).update(
            state=BaselineState.READY,
            replayable=replayable,
            warnings=warnings,
            summary=summary,
            error="",
        )
