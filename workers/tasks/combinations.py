"""Calibrating the combination of methods that held-out evidence chose, so that predictions by it
get intervals like those of any method."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from curation.models import Baseline, Calibration
from curation.queries.method_choices import parse_candidate
from curation.queries.predictions import calibration_of, latest_calibration
from workers.evidence.bank_evidence import BankEvidence
from workers.evidence.combination import Combination
from workers.evidence.conformal import calibrate
from workers.evidence.records import FloatArray
from workers.evidence.selection import (
    COMBINATION,
    FEWEST_EDITS,
    MethodChoice,
    combined_evidence,
    left_out_combination,
)


def save_combination(
    baseline: Baseline,
    estimate: str,
    evidence: Mapping[str, BankEvidence],
    held_out: Mapping[str, FloatArray],
    choices: Sequence[MethodChoice],
) -> Calibration | None:
    """Fit and save the calibration of the combination of these candidates, with the weights of
    each behaviour: 1 for a single method where the evidence chose one.

    None where there is nothing to combine: one candidate and no older combination, too few edits,
    or a candidate that is not calibrated yet.
    """
    names = list(evidence)
    older = latest_calibration(baseline, COMBINATION, estimate)
    first = evidence[names[0]]
    if (len(names) < 2 and older is None) or len(first.kinds) < FEWEST_EDITS:
        return None
    keys = {name: latest_calibration(baseline, *parse_candidate(name)) for name in names}
    found = {name: key for name, key in keys.items() if key is not None}
    if len(found) < len(names):
        return None
    left_out = left_out_combination(
        np.stack([held_out[name] for name in names]),
        first.retrains.actual,
        first.retrains.total_noise_variance,
        units_of(first),
    )
    together = combined_evidence(
        evidence,
        held_out,
        {name: calibration_of(key) for name, key in found.items()},
        choices,
        left_out,
    )
    fitted = replace(
        calibrate(together),
        combination=Combination(
            members=tuple(names),
            calibrations=tuple(str(found[name]) for name in names),
            weights=np.array(
                [[choice.weights.get(name, 0.0) for choice in choices] for name in names]
            ),
        ),
    )
    return Calibration.objects.create(
        baseline=baseline,
        method=COMBINATION,
        estimate=estimate,
        parameters=fitted.to_json(),
        number_of_edits=fitted.number_of_edits,
    )


def units_of(evidence: BankEvidence) -> FloatArray:
    """(E, K) standard deviations of the effect of a random edit of each edit's size."""
    return np.asarray(evidence.behaviour_scales * np.sqrt(evidence.sizes)[:, None], np.float64)
