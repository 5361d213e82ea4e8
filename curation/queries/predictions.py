"""What an edit should change, at once: influence scores gathered by memory map, summed, calibrated.

First-order only; the edit-aware estimate is a worker's. A prediction is a hypothesis, never a
guarantee.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from uuid import UUID

import numpy as np
from django.db import connection
from django.db.models import Func, IntegerField, TextField
from django.db.models.functions import Cast
from numpy.typing import NDArray

from curation.models import (
    Baseline,
    Behaviour,
    Calibration,
    Edit,
    Estimate,
    Influence,
    Prediction,
    Proposal,
    StoredFile,
)
from curation.queries.arrays import stored_array
from workers.evidence.bank import edit_shape
from workers.evidence.calibration import Calibration as Calibrated
from workers.evidence.calibration import EditPart, split_by_kind
from workers.evidence.selection import COMBINATION

DEFAULT_METHOD = "replay"
DEFAULT_LEVEL = 0.9
LARGE_EDIT_SHARE = 0.05
TINY_SLICE = 10


@dataclass(frozen=True)
class PredictedEffect:
    """The predicted change of one behaviour, in its unit, with its interval and plain-word
    warnings."""

    behaviour: Behaviour
    method: str
    value: float
    low: float
    high: float
    level: float
    calibrated: bool
    calibration: UUID
    parts: list[EditPart]
    per_seed: list[float]
    seed_noise: float | None
    warnings: list[str]
    combined: dict[str, float] = field(default_factory=dict)
    """The weights of the methods that a combination adds up; empty for a single method."""

    @property
    def is_improvement(self) -> bool:
        return (self.value > 0) == (self.behaviour.better == "higher")

    @property
    def uncalibrated(self) -> float:
        return float(sum(part.prediction[0] for part in self.parts))


@dataclass(frozen=True)
class RawPrediction:
    """What a method predicts of edits before calibration, one column for each of its influences."""

    influences: list[Influence]  # K
    parts: list[EditPart]
    per_seed: list[NDArray[np.float64]]  # K of (S,)

    @cached_property
    def places(self) -> dict[UUID, int]:
        """The column of each behaviour."""
        return {one.behaviour_id: column for column, one in enumerate(self.influences)}


def edits_of(proposal: Proposal) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(train indices (E,), new weights (E,)) of a proposal, ordered by index; not to be changed.

    Every change of the edits is a new revision, so a process keeps those it has read; but not
    inside a transaction, whose revision may be taken back.
    """
    if connection.in_atomic_block:
        return _edits_of(proposal.pk, proposal.revision)
    return _kept_edits_of(proposal.pk, proposal.revision)


def _edits_of(proposal_id: UUID, revision: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows = Edit.objects.filter(proposal=proposal_id).order_by("train_index")
    pairs = list(rows.values_list("train_index", "weight"))
    indices = np.array([index for index, _ in pairs], np.int64)
    weights = np.array([weight for _, weight in pairs], np.float64)
    for array in (indices, weights):
        array.setflags(write=False)
    return indices, weights


_kept_edits_of = lru_cache(maxsize=128)(_edits_of)


def predict_first_order(
    *,
    baseline: Baseline,
    train_indices: NDArray[np.int64],
    weights: NDArray[np.float64],
    method: str = DEFAULT_METHOD,
    level: float = DEFAULT_LEVEL,
    number_of_seeds: int | None = None,
) -> list[PredictedEffect]:
    """Σ (new weight − 1) · score for every attributed behaviour of the baseline, calibrated.

    The interval is for the mean over fresh seeds, or of `number_of_seeds` retrains when given.
    """
    raw = first_order(baseline, method, train_indices, weights)
    pk = latest_calibration(baseline, method) if raw.parts else None
    if pk is None:
        return []
    return effects_by(
        pk,
        baseline=baseline,
        raw=raw,
        weights=weights,
        level=level,
        number_of_seeds=number_of_seeds,
    )


def first_order(
    baseline: Baseline,
    method: str,
    train_indices: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> RawPrediction:
    """Σ (new weight − 1) · score by kind of edit; no parts without scores or edits."""
    influences = scored_influences(baseline, method)
    if not influences or not len(train_indices):
        return RawPrediction(influences, [], [])
    count = baseline.dataset_version.train_count
    in_order = np.argsort(train_indices, kind="stable")  # reading a mapped file in order is faster
    train_indices, weights = train_indices[in_order], weights[in_order]
    scores = np.stack([_rows(one.scores_file, train_indices) for one in influences], axis=1)
    by_seed = [
        _rows(one.per_seed_file, train_indices, axis=1) @ (weights - 1) for one in influences
    ]
    return RawPrediction(influences, split_by_kind(weights, scores, count), by_seed)


def scored_influences(baseline: Baseline, method: str) -> list[Influence]:
    """The scores by this method of the behaviours that are in use, in their order; not to be
    changed.

    A process keeps those it has read: scores never change. What can change of a behaviour, its
    name and its values, is part of the question, so that an old answer is never given.
    """
    rows = (
        Influence.objects.filter(baseline=baseline, method=method, behaviour__archived_at=None)
        .order_by("behaviour__position", "behaviour__created_at")
        .values_list("pk", "behaviour__name", Cast("behaviour__values", TextField()))
    )
    return _kept_influences(tuple(rows))


@lru_cache(maxsize=64)
def _kept_influences(rows: tuple[tuple[UUID, str, str], ...]) -> list[Influence]:
    found = (
        Influence.objects.select_related("behaviour", "scores_file", "per_seed_file")
        .defer("behaviour__probe_indices", "behaviour__definition")
        .in_bulk([pk for pk, _, _ in rows])
    )
    return [found[pk] for pk, _, _ in rows]


def _length(name: str) -> Func:
    return Func(name, function="jsonb_array_length", output_field=IntegerField())


@lru_cache(maxsize=128)
def numbers_of_examples(behaviour_ids: tuple[UUID, ...]) -> dict[UUID, int]:
    """How many probe or pasted examples each behaviour reads; that never changes."""
    rows = Behaviour.objects.filter(pk__in=behaviour_ids).values_list(
        "pk", _length("probe_indices"), _length("pasted_examples")
    )
    return {pk: probe or pasted for pk, probe, pasted in rows}


def effects_by(
    pk: UUID,
    *,
    baseline: Baseline,
    raw: RawPrediction,
    weights: NDArray[np.float64],
    level: float = DEFAULT_LEVEL,
    number_of_seeds: int | None = None,
    combined: list[dict[str, float]] | None = None,
) -> list[PredictedEffect]:
    """Raw predictions through the calibration `pk`; `combined` are the members' weights for each
    column, where that calibration is a combination's."""
    calibration = calibration_of(pk)
    influences, parts, per_seed = raw.influences, raw.parts, raw.per_seed
    if not parts:
        return []
    value, low, high = calibration.predict_parts(
        parts,
        calibration.columns_of([str(one.behaviour_id) for one in influences]),
        level,
        number_of_seeds=number_of_seeds,
        behaviour_scale=[one.diagnostics["random_edit_scale"] for one in influences],
    )
    numbers = numbers_of_examples(tuple(one.behaviour_id for one in influences))
    shape = edit_shape(weights, baseline.dataset_version.train_count)
    edit_warnings = calibration.warnings(shape)
    return [
        PredictedEffect(
            behaviour=influence.behaviour,
            method=influence.method if combined is None else COMBINATION,
            combined={} if combined is None else combined[k],
            value=float(value[k]),
            low=float(low[k]),
            high=float(high[k]),
            level=level,
            calibrated=calibration.has_evidence,
            calibration=pk,
            parts=[EditPart(part.kind, part.size, part.prediction[k : k + 1]) for part in parts],
            per_seed=[float(x) for x in per_seed[k]],
            seed_noise=_seed_noise(influence.behaviour),
            warnings=edit_warnings
            + warnings_for(baseline, numbers[influence.behaviour_id], weights, per_seed[k]),
        )
        for k, influence in enumerate(influences)
    ]


def interval_for_test(prediction: Prediction, number_of_seeds: int) -> tuple[float, float]:
    """A saved prediction's interval for the mean of so many retrains, by its own calibration."""
    details = prediction.details
    calibration = calibration_of(UUID(details["calibration"]))
    _, low, high = calibration.predict_parts(
        [EditPart.from_json(part) for part in details["parts"]],
        calibration.columns_of([str(prediction.behaviour_id)]),
        prediction.level,
        number_of_seeds=number_of_seeds,
        behaviour_scale=[details["behaviour_scale"]],
    )
    return float(low[0]), float(high[0])


def latest_calibration(
    baseline: Baseline, method: str, estimate: str = Estimate.FIRST_ORDER
) -> UUID | None:
    """The newest calibration of a method on a baseline; None before influence was computed."""
    return (
        Calibration.objects.filter(baseline=baseline, method=method, estimate=estimate)
        .order_by("-created_at")
        .values_list("pk", flat=True)
        .first()
    )


def latest_calibrations(baseline: Baseline, methods: Collection[str]) -> dict[str, UUID]:
    """The newest first-order calibrations of several methods, by one question."""
    rows = Calibration.objects.filter(
        baseline=baseline, method__in=methods, estimate=Estimate.FIRST_ORDER
    )
    return dict(
        rows.order_by("method", "-created_at").distinct("method").values_list("method", "pk")
    )


@lru_cache(maxsize=64)
def calibration_of(pk: UUID) -> Calibrated:
    """The saved calibration; rows never change, so a process keeps those it has read."""
    return Calibrated.from_json(Calibration.objects.get(pk=pk).parameters)


def _rows(
    stored: StoredFile, train_indices: NDArray[np.int64], axis: int = 0
) -> NDArray[np.float64]:
    return np.take(stored_array(stored), train_indices, axis=axis).astype(np.float64)


def _seed_noise(behaviour: Behaviour) -> float | None:
    values = list(behaviour.values.values())
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def warnings_for(
    baseline: Baseline,
    number_of_examples: int,
    weights: NDArray[np.float64],
    by_seed: NDArray[np.float64],
) -> list[str]:
    """Reasons, in plain words, to trust this prediction less."""
    found = []
    share = float(np.abs(weights - 1).sum()) / max(baseline.dataset_version.train_count, 1)
    if share > LARGE_EDIT_SHARE:
        found.append(
            f"The edits move {share:.0%} of the training weight: first-order predictions tend to "
            "underestimate large removals and overestimate large up-weightings."
        )
    if number_of_examples < TINY_SLICE:
        found.append(
            f"The behaviour reads only {number_of_examples} probe "
            f"example{'s' if number_of_examples != 1 else ''}."
        )
    signs = np.sign(by_seed)
    if len(by_seed) > 1 and abs(sum(signs)) < len(by_seed):
        found.append("The baseline's seeds disagree on the direction.")
    return found
