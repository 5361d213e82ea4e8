"""Every prediction that a complete test has checked, and how well predictions did."""

from typing import Any
from uuid import UUID

import numpy as np
from django.db.models import F, Sum
from django.db.models.functions import Abs
from numpy.typing import NDArray
from scipy import stats

from curation.models import (
    Baseline,
    Edit,
    Influence,
    Project,
    Registration,
    RegistrationState,
    Verdict,
)
from curation.queries.predictions import DEFAULT_METHOD
from workers.evidence.intervals import t_quantile
from workers.evidence.track_record import TrackRecord, summarise

DEFAULT_LEVEL = 0.9
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


def record_of(
    project: Project,
    *,
    baseline: Baseline | None = None,
    method: str | None = None,
    architecture: str | None = None,
) -> TrackRecord:
    """The record of a project, or of one baseline, method or family of models in it, with
    intervals.

    Behaviours of all units share it: predicted and actual are divided by the standard deviation
    that the effect of a random edit of the test's size has on the behaviour, by the method's own
    scores. Abandoned and invalidated tests are counted, a verdict for each planned behaviour.
    """
    tests = Registration.objects.filter(project=project).exclude(
        state__in=(RegistrationState.LOCKED, RegistrationState.RUNNING)
    )
    if baseline is not None:
        tests = tests.filter(proposal__baseline=baseline)
    if architecture is not None:
        tests = tests.filter(proposal__baseline__model__architecture__name=architecture)
    found = list(tests.select_related("proposal__baseline__dataset_version"))
    checked = Verdict.objects.filter(
        registration__in=[one.pk for one in found if one.state == RegistrationState.COMPLETE],
        actual__isnull=False,
    )
    pairs = [v for v in checked if method in (None, v.method)]
    scales = _scales(pairs, {one.pk: one for one in found})
    level = {one.level for one in found}
    return summarise(
        [v.predicted for v in pairs],
        [v.actual or 0.0 for v in pairs],
        [v.predicted_low for v in pairs],
        [v.predicted_high for v in pairs],
        nominal_coverage=level.pop() if len(level) == 1 else DEFAULT_LEVEL,
        scale=scales,
        standard_error=_standard_errors(pairs, {one.pk: one for one in found}),
        tests=[str(v.registration_id) for v in pairs],
        verdicts=_outcomes(found, method),
    )


def _standard_errors(
    verdicts: list[Verdict], tests: dict[UUID, Registration]
) -> NDArray[np.float64]:
    """(n,) of the actual effects, from their t intervals; NaN for an unbounded one."""
    return np.array(
        [
            (v.actual_high - v.actual_low) / 2 / t_quantile(test.level, len(test.seeds) - 1)
            if v.actual_low is not None and v.actual_high is not None
            else np.nan
            for v in verdicts
            for test in [tests[v.registration_id]]
        ],
        np.float64,
    )


def _scales(verdicts: list[Verdict], tests: dict[UUID, Registration]) -> NDArray[np.float64]:
    """(n,) random_edit_scale · √size of each pair; a combination, which has no scores of its own,
    has the scale of the default method's."""
    wanted = {v.behaviour_id for v in verdicts}
    of_column = {
        (behaviour, method): diagnostics["random_edit_scale"]
        for behaviour, method, diagnostics in Influence.objects.filter(
            behaviour__in=wanted
        ).values_list("behaviour_id", "method", "diagnostics")
    }
    moved = dict(
        Edit.objects.filter(proposal__in={test.proposal_id for test in tests.values()})
        .values_list("proposal")
        .annotate(moved=Sum(Abs(F("weight") - 1.0)))
    )
    return np.array(
        [
            of_column.get(
                (v.behaviour_id, v.method), of_column.get((v.behaviour_id, DEFAULT_METHOD), 1.0)
            )
            * np.sqrt(moved[test.proposal_id] / test.proposal.baseline.dataset_version.train_count)
            for v in verdicts
            for test in [tests[v.registration_id]]
        ]
    )


def _outcomes(tests: list[Registration], method: str | None) -> list[str]:
    """One a planned behaviour of every ended test: its verdict, or that the test was abandoned."""
    given = Verdict.objects.filter(registration__in=[one.pk for one in tests])
    outcomes = [v.get_outcome_display() for v in given if method in (None, v.method)]
    for test in tests:
        if test.state == RegistrationState.ABANDONED:
            planned = test.plan["predictions"]
            outcomes += [
                RegistrationState.ABANDONED.label
                for entry in planned
                if method in (None, entry["method"])
            ]
    return outcomes
