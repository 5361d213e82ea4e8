"""Pre-registration: the checklist, the lock, the start of retrains, deviations, and the end of a
test."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from curation.models import (
    Arm,
    Behaviour,
    Deviation,
    Influence,
    Job,
    JobKind,
    Prediction,
    Proposal,
    ProposalState,
    Registration,
    RegistrationState,
)
from curation.queries.combinations import instant_methods
from curation.queries.method_choices import choices_of, parse_candidate, preferred
from curation.queries.predictions import interval_for_test
from curation.services import audit, jobs, proposals
from curation.services.training_setup import take_seeds
from workers.evidence.canonical import canonical_json, canonical_sha256
from workers.evidence.verdicts import DecisionRule

MIN_SEEDS, MAX_SEEDS = 2, 64
SEEDS_PER_JOB = 8


@dataclass(frozen=True)
class ChecklistItem:
    """One condition of the lock; every unmet one blocks it."""

    name: str
    met: bool
    explanation: str


def checklist(*, proposal: Proposal, primary_behaviour: Behaviour | None) -> list[ChecklistItem]:
    """What must hold before the plan can be locked, in words."""
    predictions = current_predictions(proposal)
    return [
        ChecklistItem(
            "Edits",
            proposal.edits.exists(),
            "The proposal holds at least one edit; locking freezes them.",
        ),
        ChecklistItem(
            "Hypothesis",
            bool(proposal.hypothesis.strip()),
            "The hypothesis is written down in words.",
        ),
        ChecklistItem(
            "Probe split untouched",
            True,
            "Edits can only touch the train split; behaviours read the probe split only.",
        ),
        ChecklistItem(
            "Predictions",
            bool(predictions),
            "Every behaviour has a prediction for the current edits.",
        ),
        ChecklistItem(
            "Primary behaviour",
            primary_behaviour is not None
            and any(p.behaviour_id == primary_behaviour.pk for p in predictions),
            "One behaviour is named as the primary one, and it is predicted.",
        ),
    ]


@transaction.atomic
def register(
    *,
    proposal: Proposal,
    primary_behaviour: Behaviour,
    number_of_seeds: int,
    smallest_effect: float,
    by: Any,
    level: float = 0.9,
    placebo_must_differ: bool = False,
) -> Registration:
    """Freeze the proposal and lock the plan of its test.

    Raises:
        ValidationError: a hard blocker of the checklist, or a value out of bounds.
    """
    if not MIN_SEEDS <= number_of_seeds <= MAX_SEEDS:
        raise ValidationError(
            {"number_of_seeds": f"Choose between {MIN_SEEDS} and {MAX_SEEDS} fresh seeds."}
        )
    if smallest_effect < 0:
        raise ValidationError(
            {"smallest_effect": "The smallest effect of interest cannot be negative."}
        )
    unmet = [
        item
        for item in checklist(proposal=proposal, primary_behaviour=primary_behaviour)
        if not item.met
    ]
    if unmet:
        raise ValidationError([f"{item.name}: {item.explanation}" for item in unmet])
    if proposal.state == ProposalState.DRAFT:
        proposal = proposals.freeze(proposal=proposal, by=by)
    predictions = current_predictions(proposal)
    seeds = take_seeds(baseline=proposal.baseline, count=number_of_seeds)
    rule = DecisionRule(
        number_of_seeds=number_of_seeds,
        primary_behaviour=[p.behaviour_id for p in predictions].index(primary_behaviour.pk),
        smallest_effect_of_interest=np.array(
            [
                smallest_effect if p.behaviour_id == primary_behaviour.pk else 0.0
                for p in predictions
            ]
        ),
        alpha=round(1 - level, 6),
        placebo_must_differ=placebo_must_differ,
    )
    plan = _plan(proposal, predictions, seeds, rule)
    registration = Registration(
        project=proposal.project,
        proposal=proposal,
        primary_behaviour=primary_behaviour,
        plan=plan,
        plan_text=canonical_json(plan).decode(),
        plan_sha256=canonical_sha256(plan),
        seeds=seeds,
        smallest_effect=smallest_effect,
        level=level,
        decision_rule=plan["decision_rule"],
        locked_by=by,
    )
    registration.full_clean()
    registration.save()
    audit.record(
        action="plan registered",
        actor=by,
        project=proposal.project,
        target=registration,
        plan_sha256=registration.plan_sha256,
    )
    return registration


def current_predictions(proposal: Proposal) -> list[Prediction]:
    """The proposal's predictions at its current revision, for each behaviour by the method that
    held-out evidence chose."""
    found: dict[UUID, list[Prediction]] = {}
    rows = proposal.predictions.filter(revision=proposal.revision).select_related("behaviour")
    for prediction in rows:
        found.setdefault(prediction.behaviour_id, []).append(prediction)
    choices, at_once = choices_of(proposal.baseline), instant_methods(proposal.baseline)
    chosen = [
        preferred(several, choices.get(key), at_once.get(key)) for key, several in found.items()
    ]
    return sorted(chosen, key=lambda p: (p.behaviour.position, p.behaviour.created_at))


def _plan(
    proposal: Proposal, predictions: list[Prediction], seeds: list[int], rule: DecisionRule
) -> dict[str, Any]:
    baseline = proposal.baseline
    scores = {
        (behaviour, method): sha256
        for behaviour, method, sha256 in Influence.objects.filter(baseline=baseline).values_list(
            "behaviour_id", "method", "scores_file_id"
        )
    }
    return {
        "question": "mean effect of the edits over retrains from scratch with fresh seeds",
        "proposal": str(proposal.pk),
        "hypothesis": proposal.hypothesis,
        "dataset_sha256": baseline.dataset_version.content_sha256,
        "model": {"architecture": baseline.model.architecture, "files": baseline.model.files},
        "recipe": baseline.recipe.settings,
        "edits_sha256": proposal.edits_sha256,
        "number_of_edits": proposal.edits.count(),
        "baseline_seeds": baseline.seeds,
        "fresh_seeds": seeds,
        "arms": [arm.value for arm in Arm],
        "decision_rule": rule.sentence([p.behaviour.name for p in predictions]),
        "rule": rule.to_json(),
        "predictions": [
            _planned_prediction(
                prediction,
                interval_for_test(prediction, len(seeds)),
                scores,
            )
            for prediction in predictions
        ],
    }


def _planned_prediction(
    prediction: Prediction, interval: tuple[float, float], scores: dict[tuple[UUID, str], str]
) -> dict[str, Any]:
    """`scores` has the hash of each behaviour's scores by each method."""
    behaviour = prediction.behaviour
    members: dict[str, float] = prediction.details.get("combined", {})
    heaviest = parse_candidate(next(iter(members)))[0] if members else prediction.method
    combined = {
        name: {"weight": weight, "scores_sha256": scores[behaviour.pk, parse_candidate(name)[0]]}
        for name, weight in members.items()
    }
    return {
        "behaviour": str(behaviour.pk),
        "name": behaviour.name,
        "kind": behaviour.kind,
        "unit": behaviour.unit,
        "better": behaviour.better,
        "method": prediction.method,
        "estimate": prediction.estimate,
        "value": prediction.value,
        "low": interval[0],
        "high": interval[1],
        "level": prediction.level,
        "calibrated": prediction.calibrated,
        "scores_sha256": scores.get((behaviour.pk, heaviest), ""),
        **({"combined": combined} if combined else {}),
    }


@transaction.atomic
def start(*, registration: Registration, by: Any) -> list[Job]:
    """Send the confirmatory retrains, a job for every few seeds.

    Raises:
        ValidationError: the test has already been started or has ended.
    """
    started = Registration.objects.filter(
        pk=registration.pk, state=RegistrationState.LOCKED
    ).update(state=RegistrationState.RUNNING, started_at=timezone.now())
    if not started:
        raise ValidationError("This test has already been started or has ended.")
    audit.record(
        action="retrains started", actor=by, project=registration.project, target=registration
    )
    seeds = registration.seeds
    return [
        jobs.enqueue(
            project=registration.project,
            kind=JobKind.RETRAIN,
            target_id=registration.pk,
            payload={"seeds": seeds[first : first + SEEDS_PER_JOB]},
            created_by=by,
        )
        for first in range(0, len(seeds), SEEDS_PER_JOB)
    ]


@transaction.atomic
def record_deviation(*, registration: Registration, description: str, by: Any) -> Deviation:
    """Write down a departure from the plan; it can never be edited or taken back."""
    deviation = Deviation(
        registration=registration, description=description.strip(), recorded_by=by
    )
    deviation.full_clean()
    deviation.save()
    audit.record(
        action="deviation recorded", actor=by, project=registration.project, target=registration
    )
    return deviation


@transaction.atomic
def abandon(*, registration: Registration, reason: str, by: Any) -> None:
    """Give a test up before it is complete; it stays in the track record, counted as abandoned.

    Raises:
        ValidationError: no reason is given, or the test has ended.
    """
    if not reason.strip():
        raise ValidationError({"reason": "Say why the test is abandoned."})
    updated = Registration.objects.filter(
        pk=registration.pk, state__in=(RegistrationState.LOCKED, RegistrationState.RUNNING)
    ).update(
        state=RegistrationState.ABANDONED, ended_reason=reason.strip(), ended_at=timezone.now()
    )
    if not updated:
        raise ValidationError("This test has already ended.")
    for job in Job.objects.filter(target_id=registration.pk, kind=JobKind.RETRAIN):
        jobs.cancel(job=job, by=by)
    audit.record(
        action="test abandoned", actor=by, project=registration.project, target=registration
    )
