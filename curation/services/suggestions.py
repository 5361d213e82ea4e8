"""Asking for suggested edits and for likely label errors, and making a proposal of a suggestion.
What is suggested is a hypothesis to test."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import numpy as np
from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import (
    ENDED,
    Baseline,
    BaselineState,
    Behaviour,
    Influence,
    Job,
    JobKind,
    LabelCheck,
    Proposal,
    Suggestion,
    Task,
)
from curation.queries.examples import ExampleTable
from curation.queries.predictions import DEFAULT_METHOD
from curation.services import audit, jobs, proposals

MAX_EDITS = 10_000
LABEL_CHECK_FOLDS = 5
TASKS_WITHOUT_LABELS = (Task.TEXT, Task.PROMPT_COMPLETION)


@transaction.atomic
def request_suggestion(
    *,
    behaviour: Behaviour,
    number_of_edits: int,
    by: Any,
    new_weight: float = 0.0,
    guards: Mapping[UUID, float] | None = None,
    method: str = DEFAULT_METHOD,
) -> Suggestion:
    """Search for the at most `number_of_edits` examples whose `new_weight` should improve the
    behaviour most. `guards` maps other behaviours to the largest predicted harm allowed, in their
    units.

    Raises:
        ValidationError: a value out of bounds, a guard of another baseline, or no influence scores.
    """
    baseline = behaviour.baseline
    limits = {str(key): float(limit) for key, limit in (guards or {}).items()}
    most = min(MAX_EDITS, baseline.dataset_version.train_count - 1)
    if not 1 <= number_of_edits <= most:
        raise ValidationError({"number_of_edits": f"Choose between 1 and {most:,} edits."})
    if not 0 <= new_weight <= 100 or new_weight == 1:
        raise ValidationError({"new_weight": "Choose a weight from 0 to 100 other than 1."})
    if any(not limit >= 0 for limit in limits.values()) or str(behaviour.pk) in limits:
        raise ValidationError(
            {"guards": "Guards are other behaviours, each with an allowed harm of at least 0."}
        )
    scored = {
        str(key)
        for key in Influence.objects.filter(
            baseline=baseline, method=method, behaviour__archived_at=None
        ).values_list("behaviour_id", flat=True)
    }
    if not {str(behaviour.pk), *limits} <= scored:
        raise ValidationError("Compute influence first: a behaviour has no scores by this method.")
    suggestion = Suggestion.objects.create(
        behaviour=behaviour,
        method=method,
        number_of_edits=number_of_edits,
        new_weight=new_weight,
        guards=limits,
        created_by=by,
    )
    _enqueue(baseline, {"suggestion": str(suggestion.pk)}, by)
    return suggestion


def job_of(suggestion: Suggestion) -> Job:
    """The job that searches for a suggestion's edits; of several tries, the newest."""
    return Job.objects.filter(
        target_id=suggestion.behaviour.baseline_id,
        kind=JobKind.SUGGEST,
        payload={"suggestion": str(suggestion.pk)},
    ).latest("created_at")


@transaction.atomic
def request_label_check(*, baseline: Baseline, by: Any) -> Job:
    """Rank the train examples by how likely their label is wrong.

    Raises:
        ValidationError: the baseline is not trained, has no labels, or is checked or being checked.
    """
    if baseline.state != BaselineState.READY:
        raise ValidationError("The baseline is not trained yet.")
    if baseline.dataset_version.task in TASKS_WITHOUT_LABELS:
        raise ValidationError("Texts without labels cannot have wrong ones.")
    running = Job.objects.filter(
        target_id=baseline.pk, kind=JobKind.SUGGEST, payload={"label_check": True}
    ).exclude(state__in=ENDED)
    if LabelCheck.objects.filter(baseline=baseline).exists() or running.exists():
        raise ValidationError("The labels of this baseline are checked or being checked.")
    seconds = list(baseline.runs.values_list("seconds", flat=True))
    return _enqueue(
        baseline,
        {"label_check": True},
        by,
        float(np.sum(seconds)) * (LABEL_CHECK_FOLDS + 2) if seconds else None,
    )


@transaction.atomic
def propose(*, suggestion: Suggestion, name: str, hypothesis: str, by: Any) -> Proposal:
    """A draft proposal of the suggested edits, to look at, change and test.

    Raises:
        ValidationError: nothing was suggested, or the name is taken.
    """
    if not suggestion.result or not suggestion.result["train_indices"]:
        raise ValidationError("Nothing was suggested that could be proposed.")
    baseline = suggestion.behaviour.baseline
    indices = suggestion.result["train_indices"]
    with ExampleTable(baseline.dataset_version) as table:
        rows = table.by_train_index(np.asarray(indices))
    proposal = proposals.create_proposal(baseline=baseline, name=name, hypothesis=hypothesis, by=by)
    return proposals.set_weights(
        proposal=proposal,
        examples=[(index, rows[index]["example_id"]) for index in indices],
        weight=suggestion.new_weight,
        by=by,
    )


def _enqueue(
    baseline: Baseline, payload: dict[str, Any], by: Any, seconds: float | None = None
) -> Job:
    audit.record(
        action="suggestions requested", actor=by, project=baseline.project, target=baseline
    )
    return jobs.enqueue(
        project=baseline.project,
        kind=JobKind.SUGGEST,
        target_id=baseline.pk,
        payload=payload,
        created_by=by,
        estimate_seconds=seconds,
    )
