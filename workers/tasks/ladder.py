"""The job that explains a miss: every rung between an influence estimate and a complete test's
retrains."""

import numpy as np

from curation.models import Arm, Ladder, Registration, RegistrationState
from curation.queries.predictions import edits_of
from curation.services.verdicts import arm_values
from workers.influence.ladder import measure_rungs
from workers.tasks.handler import Handler
from workers.tasks.loading import (
    baseline_runs,
    example_weights,
    load_baseline,
    measured_behaviours,
)
from workers.tasks.measuring import planned_behaviours
from workers.tasks.report import JobReport


class MeasureLadder(Handler):
    def run(self, report: JobReport) -> None:
        registration = Registration.objects.select_related("proposal__baseline").get(
            pk=self.job.target_id
        )
        if (
            registration.state != RegistrationState.COMPLETE
            or Ladder.objects.filter(registration=registration).exists()
        ):
            return
        report.stage("Encoding examples")
        baseline = registration.proposal.baseline
        loaded = load_baseline(baseline.pk)
        behaviours = planned_behaviours(registration)
        report.stage("Climbing from the influence estimate to retraining")
        measured = measure_rungs(
            baseline_runs(baseline, loaded),
            example_weights(len(loaded.problem.train), edits_of(registration.proposal)),
            measured_behaviours(loaded, behaviours),
            progress=report,
        )
        arms = arm_values(registration)
        fresh = arms[Arm.EDITED] - arms[Arm.UNEDITED]
        effects = {
            str(behaviour.pk): {
                name: rows[:, column].tolist()
                for name, rows in {**measured.effects, "fresh_seeds": fresh}.items()
                if np.isfinite(rows[:, column]).all()
            }
            for column, behaviour in enumerate(behaviours)
        }
        Ladder.objects.get_or_create(
            registration=registration,
            defaults={
                "effects": effects,
                "notes": list(measured.notes),
                "damping": list(measured.damping),
            },
        )
