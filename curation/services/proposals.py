"""Proposals and their edits: draft, change, undo, freeze."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from curation.models import Baseline, BaselineState, Edit, EditBatch, Proposal, ProposalState
from curation.services import audit, predictions

MAX_WEIGHT = 100.0


@transaction.atomic
def create_proposal(*, baseline: Baseline, name: str, by: Any, hypothesis: str = "") -> Proposal:
    """An empty draft.

    Raises:
        ValidationError: the baseline is not trained, or the name is taken.
    """
    if baseline.state != BaselineState.READY:
        raise ValidationError("The baseline is not trained yet.")
    proposal = Proposal(
        project=baseline.project,
        baseline=baseline,
        name=name.strip(),
        hypothesis=hypothesis,
        created_by=by,
    )
    proposal.full_clean()
    proposal.save()
    audit.record(action="proposal created", actor=by, project=proposal.project, target=proposal)
    return proposal


@transaction.atomic
def set_hypothesis(*, proposal: Proposal, hypothesis: str, by: Any) -> Proposal:
    """Write the hypothesis of a draft anew.

    Raises:
        ValidationError: the proposal is frozen.
    """
    proposal = _locked_draft(proposal)
    proposal.hypothesis = hypothesis.strip()
    proposal.full_clean()
    proposal.save(update_fields=["hypothesis"])
    audit.record(action="hypothesis written", actor=by, project=proposal.project, target=proposal)
    return proposal


@transaction.atomic
def set_weights(
    *,
    proposal: Proposal,
    examples: Iterable[tuple[int, str]],
    weight: float,
    by: Any,
    description: str = "",
) -> Proposal:
    """Give every (train_index, example_id) this weight; weight 1 takes the edit away. One step of
    undo.

    Raises:
        ValidationError: the proposal is frozen or the weight is out of bounds.
    """
    examples = list(dict(examples).items())
    if not 0 <= weight <= MAX_WEIGHT:
        raise ValidationError(
            {"weight": f"A weight lies between 0 and {MAX_WEIGHT:g}; 0 removes, 1 leaves."}
        )
    if not examples:
        raise ValidationError("Choose at least one training example.")
    verb = "Remove" if weight == 0 else "Restore" if weight == 1 else f"Weight {weight:g} for"
    text = description or f"{verb} {len(examples):,} example{'s' if len(examples) != 1 else ''}"
    return _change(
        proposal,
        {index: (example_id, weight) for index, example_id in examples},
        by=by,
        description=text,
    )


@transaction.atomic
def clear(*, proposal: Proposal, by: Any) -> Proposal:
    """Take every edit away; can be undone."""
    edits = proposal.edits.values_list("train_index", "example_id")
    if not edits:
        return proposal
    changes = {index: (example_id, 1.0) for index, example_id in edits}
    return _change(proposal, changes, by=by, description=f"Clear {len(changes):,} edits")


@transaction.atomic
def undo(*, proposal: Proposal, by: Any) -> Proposal:
    """Take the last change back.

    Raises:
        ValidationError: there is nothing to undo, or the proposal is frozen.
    """
    proposal = _locked_draft(proposal)
    batch = proposal.edit_batches.first()
    if batch is None:
        raise ValidationError("There is nothing to undo.")
    _write(
        proposal,
        {
            index: (example_id, 1.0 if weight is None else weight)
            for index, example_id, weight in batch.previous
        },
    )
    batch.delete()
    return _bump(proposal, by)


def _change(
    proposal: Proposal, changes: Mapping[int, tuple[str, float]], *, by: Any, description: str
) -> Proposal:
    proposal = _locked_draft(proposal)
    before = dict(
        proposal.edits.filter(train_index__in=list(changes)).values_list("train_index", "weight")
    )
    EditBatch.objects.create(
        proposal=proposal,
        revision=proposal.revision + 1,
        description=description[:300],
        previous=[
            [index, example_id, before.get(index)] for index, (example_id, _) in changes.items()
        ],
        created_by=by,
    )
    _write(proposal, changes)
    audit.record(
        action="proposal edited",
        actor=by,
        project=proposal.project,
        target=proposal,
        change=description,
        examples=len(changes),
    )
    return _bump(proposal, by)


def _write(proposal: Proposal, changes: Mapping[int, tuple[str, float]]) -> None:
    proposal.edits.filter(train_index__in=list(changes)).delete()
    Edit.objects.bulk_create(
        (
            Edit(proposal=proposal, train_index=index, example_id=example_id, weight=weight)
            for index, (example_id, weight) in changes.items()
            if weight != 1
        ),
        batch_size=5000,
    )


def _bump(proposal: Proposal, by: Any) -> Proposal:
    proposal.revision += 1
    proposal.save(update_fields=["revision"])
    predictions.request_edit_aware(proposal=proposal, by=by)
    return proposal


def _locked_draft(proposal: Proposal) -> Proposal:
    proposal = (
        Proposal.objects.select_for_update()
        .select_related("project", "baseline")
        .get(pk=proposal.pk)
    )
    if proposal.state != ProposalState.DRAFT:
        raise ValidationError("This proposal is frozen; copy it to go on editing.")
    return proposal


def edits_sha256(proposal: Proposal) -> str:
    """SHA-256 over the sorted [example_id, weight] pairs as compact JSON."""
    pairs = sorted(proposal.edits.values_list("example_id", "weight"))
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":")).encode()).hexdigest()


@transaction.atomic
def freeze(*, proposal: Proposal, by: Any) -> Proposal:
    """Freeze the edits for good.

    Raises:
        ValidationError: there are no edits, or it is frozen already.
    """
    proposal = _locked_draft(proposal)
    if not proposal.edits.exists():
        raise ValidationError("A proposal without edits predicts nothing; add at least one edit.")
    proposal.state = ProposalState.FROZEN
    proposal.edits_sha256 = edits_sha256(proposal)
    proposal.frozen_at = timezone.now()
    proposal.save()
    audit.record(action="proposal frozen", actor=by, project=proposal.project, target=proposal)
    return proposal


@transaction.atomic
def copy(*, proposal: Proposal, name: str, by: Any) -> Proposal:
    """A new draft with the same edits."""
    duplicate = create_proposal(
        baseline=proposal.baseline, name=name, by=by, hypothesis=proposal.hypothesis
    )
    Edit.objects.bulk_create(
        (
            Edit(proposal=duplicate, train_index=index, example_id=example_id, weight=weight)
            for index, example_id, weight in proposal.edits.values_list(
                "train_index", "example_id", "weight"
            )
        ),
        batch_size=5000,
    )
    return _bump(duplicate, by)
