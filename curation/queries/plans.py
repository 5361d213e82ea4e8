"""What a confirmatory test of a proposal needs and can see, before it is registered."""

import math
from collections.abc import Iterable
from uuid import UUID

import numpy as np

from curation.models import Arm, Baseline, Behaviour, Prediction
from curation.queries.predictions import calibration_of
from workers.evidence.calibration import EditPart
from workers.evidence.power import TestPlan, plan_test, upper_seed_noise


def plans_of(
    baseline: Baseline,
    predictions: Iterable[Prediction],
    *,
    largest_number_of_seeds: int,
    budget_seconds: float = math.inf,
    smallest_effect_of_interest: float = 0.0,
    alpha: float = 0.1,
) -> dict[UUID, TestPlan]:
    """By behaviour: seeds, time and decision for a test of its prediction, retrains one by one.

    A behaviour whose seed noise is not known yet is left out, and all are before the baseline is
    trained.
    """
    seconds = seconds_per_retrain(baseline)
    noises = {prediction: paired_seed_noise(prediction) for prediction in predictions}
    return {
        prediction.behaviour_id: plan_test(
            prediction.value,
            noise,
            seconds_per_retrain=seconds,
            budget_seconds=budget_seconds,
            smallest_effect_of_interest=smallest_effect_of_interest,
            alpha=alpha,
            arms=len(Arm),
            largest_number_of_seeds=largest_number_of_seeds,
        )
        for prediction, noise in noises.items()
        if noise is not None and seconds is not None
    }


def paired_seed_noise(prediction: Prediction) -> float | None:
    """Upper limit of the standard deviation over seeds of one paired effect: as the bank measured
    it for edits of this size and prediction, else from the spread of the baseline's seeds as if the
    arms shared nothing."""
    key = prediction.details.get("calibration")
    if key:
        calibration = calibration_of(UUID(key))
        columns = calibration.columns_of([str(prediction.behaviour_id)])
        parts = [EditPart.from_json(part) for part in prediction.details["parts"]]
        if columns[0] >= 0 and parts and calibration.has_evidence:
            measured = calibration.seed_noise_of(
                np.sum([part.prediction for part in parts], axis=0),
                np.array([sum(part.size for part in parts)]),
                columns,
            )[0]
            if math.isfinite(measured):
                return float(upper_seed_noise(measured, calibration.number_of_edits))
    return _noise_of_baseline(prediction.behaviour)


def _noise_of_baseline(behaviour: Behaviour) -> float | None:
    values = [value for value in behaviour.values.values() if value is not None]
    if len(values) < 2:
        return None
    spread = math.sqrt(2) * float(np.std(values, ddof=1))
    return float(upper_seed_noise(spread, len(values) - 1))


def seconds_per_retrain(baseline: Baseline) -> float | None:
    """Mean of the baseline's own runs."""
    seconds = list(baseline.runs.values_list("seconds", flat=True))
    return float(np.mean(seconds)) if seconds else None
