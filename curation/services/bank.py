"""The bank of calibration retrains: asking for more of it, and letting finished tests join it."""

from typing import Any

import numpy as np
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max

from curation.models import (
    Arm,
    BankEdit,
    BankRetrain,
    Baseline,
    BaselineState,
    Influence,
    Job,
    JobKind,
    Proposal,
    Registration,
    RegistrationState,
    StoredFile,
)
from curation.queries.predictions import edits_of
from curation.services import audit, files, jobs
from workers.evidence.bank import edit_sha256, edit_shape, seed_pool_size

MAX_EDITS = 2000
MAX_SEEDS_PER_EDIT = 16


def number_of_retrains(*, number_of_edits: int, seeds_per_edit: int) -> int:
    """Edited retrains plus the unedited ones they are compared with."""
    pool = seed_pool_size(number_of_edits, seeds_per_edit)
    return number_of_edits * seeds_per_edit + pool


def estimate_seconds(
    *, baseline: Baseline, number_of_edits: int, seeds_per_edit: int
) -> float | None:
    """What the retrains would take one by one, from the baseline's own runs; batching is faster."""
    seconds = list(baseline.runs.values_list("seconds", flat=True))
    if not seconds:
        return None
    retrains = number_of_retrains(number_of_edits=number_of_edits, seeds_per_edit=seeds_per_edit)
    return float(np.mean(seconds)) * retrains


@transaction.atomic
def extend_bank(
    *, baseline: Baseline, number_of_edits: int, by: Any, seeds_per_edit: int = 2
) -> Job:
    """Send further calibration retrains of known edits; what is in the bank stays.

    Raises:
        ValidationError: the budget is out of bounds, or there are no influence scores to target by.
    """
    if not 1 <= number_of_edits <= MAX_EDITS:
        raise ValidationError({"number_of_edits": f"Choose between 1 and {MAX_EDITS} edits."})
    if not 2 <= seeds_per_edit <= MAX_SEEDS_PER_EDIT:
        raise ValidationError(
            {"seeds_per_edit": f"Choose between 2 and {MAX_SEEDS_PER_EDIT} seeds for each edit."}
        )
    if baseline.state != BaselineState.READY:
        raise ValidationError("The baseline is not trained yet.")
    if not Influence.objects.filter(baseline=baseline).exists():
        raise ValidationError("Compute influence first: the bank holds targeted edits too.")
    audit.record(
        action="bank extended",
        actor=by,
        project=baseline.project,
        target=baseline,
        edits=number_of_edits,
    )
    return jobs.enqueue(
        project=baseline.project,
        kind=JobKind.EXTEND_BANK,
        target_id=baseline.pk,
        payload={"number_of_edits": number_of_edits, "seeds_per_edit": seeds_per_edit},
        created_by=by,
        estimate_seconds=estimate_seconds(
            baseline=baseline, number_of_edits=number_of_edits, seeds_per_edit=seeds_per_edit
        ),
    )


def forbidden_edits(baseline: Baseline) -> set[str]:
    """Hashes that a new bank edit must not have: the bank's own and every proposal's."""
    hashes = set(baseline.bank_edits.values_list("edits_sha256", flat=True))
    for proposal in Proposal.objects.filter(baseline=baseline):
        hashes.add(edit_sha256(*edits_of(proposal)))
    return hashes


def store_edit(train_indices: np.ndarray, weights: np.ndarray) -> StoredFile:
    """An edit as a (2, n) float64 .npy: train indices above new weights."""
    with files.work_folder() as folder:
        np.save(
            folder / "edit.npy",
            np.stack([train_indices, weights]).astype(np.float64),
            allow_pickle=False,
        )
        return files.store_path(path=folder / "edit.npy")


def load_edit(edit: BankEdit) -> tuple[np.ndarray, np.ndarray]:
    """(train indices int64 (n,), new weights (n,))."""
    both = np.load(files.local_path(edit.edits_file), allow_pickle=False)
    return both[0].astype(np.int64), both[1]


def next_position(baseline: Baseline) -> int:
    last = baseline.bank_edits.aggregate(last=Max("position"))["last"]
    return 0 if last is None else last + 1


@transaction.atomic
def absorb(*, registration: Registration) -> BankEdit | None:
    """Let a complete test's retrains join the bank, for predictions made later. Once only."""
    registration = Registration.objects.select_for_update().get(pk=registration.pk)
    if registration.state != RegistrationState.COMPLETE or registration.bank_edits.exists():
        return None
    baseline = registration.proposal.baseline
    indices, weights = edits_of(registration.proposal)
    sha256 = edit_sha256(indices, weights)
    if baseline.bank_edits.filter(edits_sha256=sha256).exists():
        return None
    shape = edit_shape(weights, baseline.dataset_version.train_count)
    edit = BankEdit.objects.create(
        baseline=baseline,
        registration=registration,
        position=next_position(baseline),
        kind=shape.kind,
        selection="proposal",
        size_fraction=shape.size_fraction,
        edits_file=store_edit(indices, weights),
        edits_sha256=sha256,
        seeds=registration.seeds,
    )
    arms = {Arm.UNEDITED: None, Arm.EDITED: edit}
    BankRetrain.objects.bulk_create(
        [
            BankRetrain(
                baseline=baseline,
                edit=arms[Arm(retrain.arm)],
                seed=retrain.seed,
                values=retrain.values,
            )
            for retrain in registration.retrains.filter(arm__in=list(arms), accepted=True)
        ],
        ignore_conflicts=True,
    )
    return edit
