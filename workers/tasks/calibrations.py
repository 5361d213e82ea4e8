"""From the bank's rows to calibrations: one for each method with scores on a baseline."""

import math
from collections.abc import Callable
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from curation.models import BankEdit, Baseline, Behaviour, Calibration, Estimate, Influence
from curation.services.bank import load_edit
from curation.services.files import local_path
from workers.evidence.bank import edit_shape
from workers.evidence.bank_evidence import (
    BankEvidence,
    empty_bank,
    random_edit_scale,
    summarise_retrains,
)
from workers.evidence.conformal import calibrate
from workers.evidence.intervals import retrain_noise_from_baseline

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Predict = Callable[[list[tuple[Indices, Array]]], Array]
"""From edits, each its train indices and new weights, to their raw predictions (E, K)."""


def fit_calibration(
    baseline: Baseline,
    method: str,
    estimate: str = Estimate.FIRST_ORDER,
    evidence: BankEvidence | None = None,
) -> Calibration:
    """Fit and save one method's calibration; an empty bank gives the prior, which is wide.

    `evidence` is gathered where it is None, with first-order predictions.
    """
    fitted = calibrate(method_evidence(baseline, method) if evidence is None else evidence)
    return Calibration.objects.create(
        baseline=baseline,
        method=method,
        estimate=estimate,
        parameters=fitted.to_json(),
        number_of_edits=fitted.number_of_edits,
    )


def method_evidence(
    baseline: Baseline, method: str, predict: Predict | None = None
) -> BankEvidence:
    """A method's predictions of the bank's edits beside what retraining did. `predict` gives the
    raw predictions; None sums the first-order scores."""
    influences = method_influences(baseline, method)
    scores = np.stack(
        [np.load(local_path(one.scores_file), allow_pickle=False) for one in influences], axis=1
    ).astype(np.float64)

    def first_order(edits: list[tuple[Indices, Array]]) -> Array:
        return np.stack([(weights - 1.0) @ scores[indices] for indices, weights in edits])

    behaviours = [influence.behaviour for influence in influences]
    return _evidence(baseline, behaviours, scores, predict or first_order)


def method_influences(baseline: Baseline, method: str) -> list[Influence]:
    """The scores of a method for the baseline's behaviours, in the behaviours' order."""
    return list(
        Influence.objects.filter(baseline=baseline, method=method, behaviour__archived_at=None)
        .select_related("behaviour", "scores_file", "per_seed_file")
        .order_by("behaviour__position", "behaviour__created_at")
    )


def _evidence(
    baseline: Baseline,
    behaviours: list[Behaviour],
    scores: Array,
    predict: Predict,
) -> BankEvidence:
    names = [str(behaviour.pk) for behaviour in behaviours]
    better = np.array([1.0 if behaviour.better == "higher" else -1.0 for behaviour in behaviours])
    scales = random_edit_scale(scores)
    edits = list(baseline.bank_edits.select_related("edits_file"))
    if not edits:
        return empty_bank(names, scales, better, _baseline_noise(behaviours))
    loaded = [load_edit(edit) for edit in edits]
    shapes = [edit_shape(weights, len(scores)) for _, weights in loaded]
    sizes = np.array([shape.size for shape in shapes])
    predicted = predict(loaded)
    effects, seeds = bank_effects(baseline, edits, names)
    return BankEvidence(
        behaviours=tuple(names),
        behaviour_scales=scales,
        kinds=tuple(shape.kind for shape in shapes),
        sizes=sizes,
        predicted=predicted,
        retrains=summarise_retrains(effects, seeds, standard=predicted / scales, sizes=sizes),
        better=better,
    )


def bank_effects(
    baseline: Baseline, edits: list[BankEdit], names: list[str]
) -> tuple[Array, Indices]:
    """(E, S, K) paired effects of the bank's edits on the behaviours named by id, NaN where one is
    missing, and (E, S) seeds."""
    most = max((len(edit.seeds) for edit in edits), default=1)
    effects = np.full((len(edits), most, len(names)), math.nan)
    seeds = np.full((len(edits), most), -1, np.int64)
    values: dict[tuple[UUID | None, int], dict[str, float]] = {
        (edit, seed): row
        for edit, seed, row in baseline.bank_retrains.values_list("edit", "seed", "values")
    }
    for row, edit in enumerate(edits):
        for column, seed in enumerate(edit.seeds):
            seeds[row, column] = seed
            edited, unedited = values.get((edit.pk, seed)), values.get((None, seed))
            if edited is not None and unedited is not None:
                effects[row, column] = [
                    edited.get(name, math.nan) - unedited.get(name, math.nan) for name in names
                ]
    return effects, seeds


def _baseline_noise(behaviours: list[Behaviour]) -> Array:
    rows = np.array([[value for _, value in sorted(b.values.items())] for b in behaviours]).T
    return (
        retrain_noise_from_baseline(rows) if len(rows) > 1 else np.full(len(behaviours), math.nan)
    )
