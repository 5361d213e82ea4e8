"""Every prediction that a complete test has checked, and how well predictions did."""

from typing import Any

import numpy as np
from scipy import stats

from curation.models import Baseline, Project, RegistrationState, Verdict

SMALLEST_NUMBER_FOR_RANK = 3


def checked_verdicts(project: Project, baseline: Baseline | None = None) -> list[Verdict]:
    """The verdicts of complete tests that have an actual change, newest test first."""
    found = Verdict.objects.filter(
        registration__project=project,
        registration__state=RegistrationState.COMPLETE,
        actual__isnull=False,
    )
    if baseline is not None:
        found = found.filter(registration__proposal__baseline=baseline)
    return list(
        found.select_related("registration__proposal", "behaviour").order_by(
            "-registration__created_at", "behaviour__position"
        )
    )


def summary_of(verdicts: list[Verdict]) -> dict[str, Any]:
    """Pairs, sign rate and interval coverage over all; slope and rank correlation for each unit.

    The slope is that of actual on predicted through zero; 1 means sizes were right on average.
    """
    units: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        units.setdefault(verdict.behaviour.unit, []).append(verdict)
    count = len(verdicts)
    return {
        "pairs": count,
        "sign_rate": sum(v.predicted * (v.actual or 0) > 0 for v in verdicts) / count
        if count
        else None,
        "coverage": sum(v.predicted_low <= (v.actual or 0) <= v.predicted_high for v in verdicts)
        / count
        if count
        else None,
        "units": {unit: _unit_summary(group) for unit, group in units.items()},
    }


def _unit_summary(verdicts: list[Verdict]) -> dict[str, Any]:
    predicted = np.array([v.predicted for v in verdicts], float)
    actual = np.array([v.actual for v in verdicts], float)
    square = float(predicted @ predicted)
    rank = None
    if len(verdicts) >= SMALLEST_NUMBER_FOR_RANK and np.ptp(predicted) and np.ptp(actual):
        rank = float(stats.spearmanr(predicted, actual).statistic)
    return {
        "pairs": len(verdicts),
        "slope": float(predicted @ actual) / square if square else None,
        "rank": rank,
    }
