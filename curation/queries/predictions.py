"""What an edit should change, at once: influence scores gathered by memory map, summed, calibrated.

First-order only; the edit-aware estimate is a worker's. A prediction is a hypothesis, never a
guarantee.
"""

from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from curation.models import (
    Baseline,
    Behaviour,
    Calibration,
    Estimate,
    Influence,
    Proposal,
    StoredFile,
)
from curation.services.files import local_path
from workers.evidence.bank import edit_shape
from workers.evidence.calibration import Calibration as Calibrated
from workers.evidence.calibration import split_by_kind

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
    uncalibrated: float
    per_seed: list[float]
    seed_noise: float | None
    warnings: list[str]

    @property
    def is_improvement(self) -> bool:
        return (self.value > 0) == (self.behaviour.better == "higher")


def edits_of(proposal: Proposal) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(train indices (E,), new weights (E,)) of a proposal, ordered by index."""
    rows = list(proposal.edits.order_by("train_index").values_list("train_index", "weight"))
    if not rows:
        return np.empty(0, np.int64), np.empty(0, np.float64)
    indices, weights = zip(*rows, strict=True)
    return np.asarray(indices, np.int64), np.asarray(weights, np.float64)


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
    influences = list(
        Influence.objects.filter(baseline=baseline, method=method, behaviour__archived_at=None)
        .select_related("behaviour", "scores_file", "per_seed_file")
        .order_by("behaviour__position", "behaviour__created_at")
    )
    calibration = latest_calibration(baseline, method)
    if not influences or calibration is None or not len(train_indices):
        return []
    count = baseline.dataset_version.train_count
    scores = np.stack([_rows(one.scores_file, train_indices) for one in influences], axis=1)
    value, low, high = calibration.predict_parts(
        split_by_kind(weights, scores, count),
        calibration.columns_of([str(one.behaviour_id) for one in influences]),
        level,
        number_of_seeds=number_of_seeds,
        behaviour_scale=[one.diagnostics["random_edit_scale"] for one in influences],
    )
    edit_warnings = calibration.warnings(edit_shape(weights, count))
    effects = []
    for k, influence in enumerate(influences):
        by_seed = _rows(influence.per_seed_file, train_indices, axis=1) @ (weights - 1.0)
        effects.append(
            PredictedEffect(
                behaviour=influence.behaviour,
                method=method,
                value=float(value[k]),
                low=float(low[k]),
                high=float(high[k]),
                level=level,
                calibrated=calibration.has_evidence,
                uncalibrated=float((weights - 1.0) @ scores[:, k]),
                per_seed=[float(x) for x in by_seed],
                seed_noise=_seed_noise(influence.behaviour),
                warnings=edit_warnings
                + warnings_for(baseline, influence.behaviour, weights, by_seed),
            )
        )
    return effects


def latest_calibration(
    baseline: Baseline, method: str, estimate: str = Estimate.FIRST_ORDER
) -> Calibrated | None:
    """The newest calibration of a method on a baseline; None before influence was computed."""
    row = (
        Calibration.objects.filter(baseline=baseline, method=method, estimate=estimate)
        .order_by("-created_at")
        .values_list("pk", flat=True)
        .first()
    )
    return _calibration(row) if row else None


@lru_cache(maxsize=64)
def _calibration(pk: UUID) -> Calibrated:
    return Calibrated.from_json(Calibration.objects.get(pk=pk).parameters)


def _rows(
    stored: StoredFile, train_indices: NDArray[np.int64], axis: int = 0
) -> NDArray[np.float64]:
    column = np.load(local_path(stored), mmap_mode="r", allow_pickle=False)
    return np.take(column, train_indices, axis=axis).astype(np.float64)


def _seed_noise(behaviour: Behaviour) -> float | None:
    values = list(behaviour.values.values())
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def warnings_for(
    baseline: Baseline,
    behaviour: Behaviour,
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
    probe_count = len(behaviour.probe_indices) or len(behaviour.pasted_examples)
    if probe_count < TINY_SLICE:
        found.append(
            f"The behaviour reads only {probe_count} probe "
            f"example{'s' if probe_count != 1 else ''}."
        )
    signs = np.sign(by_seed)
    if len(by_seed) > 1 and abs(sum(signs)) < len(by_seed):
        found.append("The baseline's seeds disagree on the direction.")
    return found
