"""Asking for suggested edits and for likely label errors, and making a proposal of a suggestion.
What is suggested is a hypothesis to test."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import numpy as np
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from curation.models import (
    ENDED,
    Baseline,
    BaselineState,
    Behaviour,
    Influence,
    Job,
    JobKind,
    LabelCheck,
    Model,
    ModelState,
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
def request_label_check(*, baseline: Baseline, by: Any, encoder: Model | None = None) -> Job:
    """Rank the train examples by how likely their label is wrong.

    `encoder`, an uploaded model, lets the check look at each text's neighbours by its features,
    which finds more wrong labels than a small network's own. A check with one may follow a check
    without, which it replaces.

    Raises:
        ValidationError: the baseline is not trained, has no labels, or is checked or being checked
        in this way; or the encoder is none for its texts.
    """
    if baseline.state != BaselineState.READY:
        raise ValidationError("The baseline is not trained yet.")
    if baseline.dataset_version.task in TASKS_WITHOUT_LABELS:
        raise ValidationError("Texts without labels cannot have wrong ones.")
    if encoder is not None and encoder not in label_encoders(baseline):
        raise ValidationError(
            {"encoder": "Choose an uploaded encoder of this project, for a dataset of texts."}
        )
    running = Job.objects.filter(
        target_id=baseline.pk, kind=JobKind.SUGGEST, payload__contains={"label_check": True}
    ).exclude(state__in=ENDED)
    there = LabelCheck.objects.filter(baseline=baseline)
    if encoder is not None:
        there = there.filter(encoder=encoder)
    if there.exists() or running.exists():
        raise ValidationError("The labels of this baseline are checked or being checked.")
    seconds = list(baseline.runs.values_list("seconds", flat=True))
    return _enqueue(
        baseline,
        {"label_check": True} | ({} if encoder is None else {"encoder": str(encoder.pk)}),
        by,
        float(np.sum(seconds)) * (LABEL_CHECK_FOLDS + 2) if seconds else None,
    )


def label_encoders(baseline: Baseline) -> QuerySet[Model]:
    """The uploaded encoders that a label check of this baseline can look at; none where the
    baseline's own model is a frozen one, whose features it looks at anyway."""
    found = Model.objects.filter(
        project=baseline.project, architecture__name="transformers", state=ModelState.READY
    )
    if baseline.dataset_version.task != Task.TEXT_CLASSIFICATION:
        return found.none()
    own = baseline.model.architecture
    if own["name"] == "transformers" and own.get("trained_part") == "head":
        return found.none()
    return found.order_by("name")


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
