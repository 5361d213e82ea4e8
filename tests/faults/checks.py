"""After a campaign: did every job end, is every result there once, are the numbers the undisturbed
ones?"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from curation.models import (
    ENDED,
    Arm,
    BankRetrain,
    Baseline,
    BaselineRun,
    Calibration,
    Influence,
    Job,
    JobState,
    Project,
    Registration,
    RegistrationState,
    Retrain,
    Verdict,
)
from curation.services import file_upkeep, files
from tests.faults.complete_job import CompleteJob

if TYPE_CHECKING:
    from tests.faults.campaign import Outcome


def check_everything(
    outcome: Outcome, undisturbed: CompleteJob, done: list[CompleteJob], *, recompute: bool
) -> None:
    """Fill the findings of the outcome. `recompute` trains every arm of every test once more."""
    everything = list(Job.objects.all())
    outcome.jobs = len(everything)
    outcome.attempts = sum(job.attempts for job in everything)
    outcome.unfinished = [str(job) for job in everything if job.state not in ENDED]
    outcome.without_reason = [
        str(job) for job in everything if job.state != JobState.SUCCEEDED and not job.error
    ]
    outcome.twice = made_twice()
    right = numbers(undisturbed)
    for one in done:
        found = numbers(one)
        outcome.results += len(right)
        outcome.results_lost += len(right.keys() - found.keys())
        outcome.compared += len(found)
        outcome.different += [
            f"{one.name}: {name} is {found.get(name)}, undisturbed {right.get(name)}"
            for name in sorted(right.keys() | found.keys())
            if found.get(name) != right.get(name)
        ]
        if recompute:
            outcome.different += differences_from_recomputing(one)
    outcome.lost_files, outcome.orphans, outcome.cleaned = tidied()


def made_twice() -> list[str]:
    """Things that insisting on an answer made more than once."""
    found = []
    for key, count in Counter(Project.objects.values_list("name", flat=True)).items():
        found += [f"project {key}"] if count > 1 else []
    for project in Project.objects.all():
        for name in ("datasets", "models", "recipes", "baselines", "proposals", "registrations"):
            if getattr(project, name).count() != 1:
                found.append(f"{getattr(project, name).count()} {name} in {project}")
    return found


def numbers(done: CompleteJob) -> dict[str, Any]:
    """Every number that a complete job computed, under a name that is the same in each project.

    The placebo's examples are drawn from the plan's hash, which names its proposal: its values
    differ from project to project, and only their presence is compared.
    """
    baseline = Baseline.objects.get(pk=done.baseline)
    registration = Registration.objects.get(pk=done.registration)
    found: dict[str, Any] = {"state of the baseline": baseline.state}
    for run in BaselineRun.objects.filter(baseline=baseline):
        found[f"parameters of seed {run.seed}"] = run.parameters_file_id
        found[f"measures of seed {run.seed}"] = run.metrics
    for influence in Influence.objects.filter(baseline=baseline).select_related("behaviour"):
        name = f"{influence.method} of {influence.behaviour.name}"
        found[f"scores by {name}"] = (influence.scores_file_id, influence.per_seed_file_id)
    for retrain in BankRetrain.objects.filter(baseline=baseline).select_related("edit"):
        place = retrain.edit.position if retrain.edit else "none"
        found[f"bank, edit {place}, seed {retrain.seed}"] = (
            list(retrain.values.values()),
            retrain.edit and retrain.edit.edits_sha256,
        )
    found["calibrations"] = sorted(
        set(Calibration.objects.filter(baseline=baseline).values_list("method", "estimate"))
    )
    if registration.state == RegistrationState.COMPLETE:
        for retrain in Retrain.objects.filter(registration=registration):
            name = f"retrain {retrain.arm}, seed {retrain.seed}"
            is_placebo = retrain.arm == Arm.PLACEBO
            found[name] = len(retrain.values) if is_placebo else list(retrain.values.values())
        for verdict in Verdict.objects.filter(registration=registration):
            found["verdict"] = (verdict.outcome, verdict.actual, verdict.actual_low)
            found["predicted"] = (verdict.predicted, verdict.predicted_low, verdict.predicted_high)
    return found


def differences_from_recomputing(done: CompleteJob) -> list[str]:
    """Every arm of the test, the placebo's too, trained again in this process."""
    import torch

    from curation.queries.predictions import edits_of
    from workers.tasks.loading import example_weights, load_baseline
    from workers.tasks.measuring import measure_parameters, planned_behaviours
    from workers.tasks.retrains import arm_edits
    from workers.training.batched import train_many

    torch.set_num_threads(1)  # as in a worker: the order of sums depends on it
    registration = Registration.objects.get(pk=done.registration)
    loaded = load_baseline(registration.proposal.baseline_id)
    edits, count = edits_of(registration.proposal), len(loaded.problem.train)
    runs = [(arm.value, seed) for seed in registration.seeds for arm in Arm]
    weights = torch.stack(
        [
            example_weights(count, arm_edits(arm, seed, edits, count, registration))
            for arm, seed in runs
        ]
    )
    parameters = train_many(loaded.problem, [seed for _, seed in runs], weights)
    values = measure_parameters(loaded, planned_behaviours(registration), parameters)
    stored = {(one.arm, one.seed): one.values for one in registration.retrains.all()}
    return [
        f"{done.name}: {arm} of seed {seed} is {stored.get((arm, seed))}, recomputed {row}"
        for (arm, seed), row in zip(runs, values, strict=True)
        if stored.get((arm, seed)) != row
    ]


def tidied() -> tuple[list[str], list[str], int]:
    """(lost files, what is left over after cleaning, how much was cleaned)."""
    at_once = timedelta(0)
    lost = file_upkeep.compare()
    cleaned = file_upkeep.remove_abandoned_work(older_than=0)
    cleaned += file_upkeep.free_unreferenced(grace=at_once).files
    after = file_upkeep.compare()
    work = Path(settings.WORK_ROOT)
    left = [path.name for path in work.rglob("*") if path.suffix == ".part"]
    left += [path.name for path in work.glob(f"{files.WORK_PREFIX}*")]
    return (
        lost.missing + lost.changed + lost.without_row,
        after.unreferenced + after.stray + left,
        cleaned,
    )
