"""What an edit should change, at once: influence scores gathered by memory map, summed, calibrated.

First-order only; the edit-aware estimate is a worker's. A prediction is a hypothesis, never a guarantee.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.models import Baseline, Behaviour, Influence, Proposal
from curation.services.files import local_path
from workers.evidence.intervals import first_prediction_interval

DEFAULT_METHOD = "replay"
DEFAULT_LEVEL = 0.9
LARGE_EDIT_SHARE = 0.05
TINY_SLICE = 10


@dataclass(frozen=True)
class PredictedEffect:
    """The predicted change of one behaviour, in its unit, with its interval and plain-word warnings."""

    behaviour: Behaviour
    method: str
    value: float
    low: float
    high: float
    level: float
    calibrated: bool
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
) -> list[PredictedEffect]:
    """Σ (new weight − 1) · score for every attributed behaviour of the baseline, with intervals."""
    influences = (
        Influence.objects.filter(baseline=baseline, method=method, behaviour__archived_at=None)
        .select_related("behaviour", "scores_file", "per_seed_file")
        .order_by("behaviour__position", "behaviour__created_at")
    )
    return [
        _predict(baseline, influence, train_indices, weights, level) for influence in influences
    ]


def _predict(
    baseline: Baseline,
    influence: Influence,
    train_indices: NDArray[np.int64],
    weights: NDArray[np.float64],
    level: float,
) -> PredictedEffect:
    change = weights - 1.0
    scores = np.load(local_path(influence.scores_file), mmap_mode="r", allow_pickle=False)
    per_seed = np.load(local_path(influence.per_seed_file), mmap_mode="r", allow_pickle=False)
    value = float(change @ scores[train_indices])
    by_seed = per_seed[:, train_indices].astype(np.float64) @ change
    interval = first_prediction_interval(by_seed, level, value=value)
    return PredictedEffect(
        behaviour=influence.behaviour,
        method=influence.method,
        value=value,
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        level=level,
        calibrated=interval.calibrated,
        per_seed=[float(x) for x in by_seed],
        seed_noise=_seed_noise(influence.behaviour),
        warnings=warnings_for(baseline, influence.behaviour, train_indices, weights, by_seed),
    )


def _seed_noise(behaviour: Behaviour) -> float | None:
    values = list(behaviour.values.values())
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def warnings_for(
    baseline: Baseline,
    behaviour: Behaviour,
    train_indices: NDArray[np.int64],
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
            f"The behaviour reads only {probe_count} probe example{'s' if probe_count != 1 else ''}."
        )
    signs: Sequence[Any] = np.sign(by_seed)
    if len(by_seed) > 1 and abs(sum(signs)) < len(by_seed):
        found.append("The baseline's seeds disagree on the direction.")
    return found
