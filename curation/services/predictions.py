"""Saving predictions of a proposal. The arithmetic is in curation/queries/predictions and
workers/evidence."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import (
    Estimate,
    Influence,
    Job,
    JobKind,
    JobState,
    Prediction,
    Proposal,
)
from curation.queries.combinations import chosen_effects
from curation.queries.predictions import (
    DEFAULT_LEVEL,
    DEFAULT_METHOD,
    PredictedEffect,
    edits_of,
    predict_first_order,
)
from curation.services import audit, jobs


@transaction.atomic
def predict(
    *, proposal: Proposal, by: Any, method: str | None = None, level: float = DEFAULT_LEVEL
) -> list[Prediction]:
    """Predict every attributed behaviour for the proposal's current edits, first order, and save
    it. Without `method` by what held-out evidence chose for each behaviour, with the default
    method's saved beside.

    Raises:
        ValidationError: there are no edits, or no influence scores by this method.
    """
    proposal = (
        Proposal.objects.select_for_update()
        .select_related("baseline", "project")
        .get(pk=proposal.pk)
    )
    train_indices, weights = edits_of(proposal)
    if not len(train_indices):
        raise ValidationError("Add at least one edit before predicting.")
    effects = predict_first_order(
        baseline=proposal.baseline,
        train_indices=train_indices,
        weights=weights,
        method=method or DEFAULT_METHOD,
        level=level,
    )
    if not effects:
        raise ValidationError("There are no influence scores yet; compute influence first.")
    audit.record(
        action="predicted",
        actor=by,
        project=proposal.project,
        target=proposal,
        behaviours=len(effects),
    )
    saved = save_effects(proposal=proposal, effects=effects, estimate=Estimate.FIRST_ORDER)
    if method is None:
        chosen = chosen_effects(
            baseline=proposal.baseline,
            train_indices=train_indices,
            weights=weights,
            level=level,
            plain=effects,
        )
        others = [one for one in chosen if one.method != DEFAULT_METHOD]
        if others:
            better = save_effects(proposal=proposal, effects=others, estimate=Estimate.FIRST_ORDER)
            instead = {one.behaviour_id: one for one in better}
            saved = [instead.get(one.behaviour_id, one) for one in saved]
    if method in (None, DEFAULT_METHOD):
        request_edit_aware(proposal=proposal, by=by)
    return saved


def request_edit_aware(*, proposal: Proposal, by: Any) -> Job | None:
    """Have a worker follow the edited run, where the baseline allows it and nobody has done so for
    these edits. A job that is still queued will read them when it starts: one is enough."""
    if not awaits_edit_aware(proposal):
        return None
    queued = Job.objects.filter(
        kind=JobKind.PREDICT, target_id=proposal.pk, state=JobState.QUEUED
    ).select_for_update()  # else a worker could take it up, with the edits of before
    return queued.first() or jobs.enqueue(
        project=proposal.project, kind=JobKind.PREDICT, target_id=proposal.pk, created_by=by
    )


def awaits_edit_aware(proposal: Proposal) -> bool:
    """Whether a worker could still better the instant prediction of the current edits."""
    return (
        bool(proposal.baseline.summary.get("edit_aware", {}).get("usable"))
        and proposal.edits.exists()
        and not proposal.predictions.filter(
            revision=proposal.revision, estimate=Estimate.EDIT_AWARE
        ).exists()
    )


def save_effects(
    *, proposal: Proposal, effects: list[PredictedEffect], estimate: str
) -> list[Prediction]:
    """Save predicted effects for the proposal's current revision; the newest replaces the older."""
    scales = {
        (behaviour, method): scale
        for behaviour, method, scale in Influence.objects.filter(
            baseline=proposal.baseline, method__in={effect.method for effect in effects}
        ).values_list("behaviour_id", "method", "diagnostics__random_edit_scale")
    }
    return [
        Prediction.objects.update_or_create(
            proposal=proposal,
            behaviour=effect.behaviour,
            method=effect.method,
            estimate=estimate,
            revision=proposal.revision,
            defaults={
                "value": effect.value,
                "low": effect.low,
                "high": effect.high,
                "level": effect.level,
                "calibrated": effect.calibrated,
                "details": {
                    "uncalibrated": effect.uncalibrated,
                    "calibration": str(effect.calibration),
                    "parts": [part.to_json() for part in effect.parts],
                    # None for a combination, which speaks in units that its calibration knows.
                    "behaviour_scale": scales.get((effect.behaviour.pk, effect.method)),
                    "combined": effect.combined,
                    "per_seed": effect.per_seed,
                    "seed_noise": effect.seed_noise,
                },
                "warnings": effect.warnings,
            },
        )[0]
        for effect in effects
    ]
