"""Verdicts: reading all retrains of a complete plan once, applying the registered rule, saving
the outcome."""

import math
from typing import Any

import numpy as np
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from numpy.typing import NDArray

from curation.models import Arm, Outcome, Registration, RegistrationState, Verdict
from curation.services import audit
from workers.evidence.intervals import paired_effect
from workers.evidence.verdicts import BehaviourVerdict, DecisionRule, decide


def arm_values(registration: Registration) -> dict[str, NDArray[np.float64]]:
    """(S, K) values of each arm in the order of the plan's seeds and predictions; NaN where
    missing."""
    behaviours = [entry["behaviour"] for entry in registration.plan["predictions"]]
    rows = {arm.value: np.full((len(registration.seeds), len(behaviours)), math.nan) for arm in Arm}
    position = {seed: row for row, seed in enumerate(registration.seeds)}
    for arm, seed, values in registration.retrains.values_list("arm", "seed", "values"):
        if seed in position:
            rows[arm][position[seed]] = [_number(values.get(key)) for key in behaviours]
    return rows


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def is_complete(registration: Registration) -> bool:
    expected = len(registration.seeds) * len(Arm)
    return registration.retrains.filter(seed__in=registration.seeds).count() >= expected


@transaction.atomic
def conclude(*, registration: Registration) -> list[Verdict]:
    """Give the verdicts once every retrain of the plan is there; called again it changes
    nothing."""
    registration = Registration.objects.select_for_update().get(pk=registration.pk)
    if registration.state != RegistrationState.RUNNING or not is_complete(registration):
        return []
    verdicts = _judge(registration, invalidated=())
    registration.state = RegistrationState.COMPLETE
    registration.ended_at = timezone.now()
    registration.save(update_fields=["state", "ended_at"])
    audit.record(
        action="verdict given",
        actor=None,
        project=registration.project,
        target=registration,
        outcomes=[verdict.outcome for verdict in verdicts],
    )
    return verdicts


@transaction.atomic
def invalidate(*, registration: Registration, reason: str, by: Any) -> list[Verdict]:
    """A reviewer declares the test invalid; it stays in the track record, counted as invalidated.

    Raises:
        ValidationError: no reason is given, or the test was abandoned or invalidated before.
    """
    if not reason.strip():
        raise ValidationError({"reason": "Say why the test is invalid."})
    registration = Registration.objects.select_for_update().get(pk=registration.pk)
    if registration.state in (RegistrationState.ABANDONED, RegistrationState.INVALIDATED):
        raise ValidationError("This test has already been given up or invalidated.")
    verdicts = _judge(registration, invalidated=(reason.strip(),))
    registration.state = RegistrationState.INVALIDATED
    registration.ended_reason = reason.strip()
    registration.ended_at = timezone.now()
    registration.save(update_fields=["state", "ended_reason", "ended_at"])
    audit.record(
        action="test invalidated", actor=by, project=registration.project, target=registration
    )
    return verdicts


def _judge(registration: Registration, *, invalidated: tuple[str, ...]) -> list[Verdict]:
    planned = registration.plan["predictions"]
    arms = arm_values(registration)
    results = decide(
        DecisionRule.from_json(registration.plan["rule"]),
        predicted=[entry["value"] for entry in planned],
        predicted_low=[entry["low"] for entry in planned],
        predicted_high=[entry["high"] for entry in planned],
        unedited=arms[Arm.UNEDITED],
        edited=arms[Arm.EDITED],
        placebo=arms[Arm.PLACEBO],
        invalidated=invalidated,
    )
    placebo = paired_effect(arms[Arm.PLACEBO], arms[Arm.UNEDITED], registration.level)
    return [
        Verdict.objects.update_or_create(
            registration=registration,
            behaviour_id=entry["behaviour"],
            defaults={
                **_numbers(result),
                "method": entry["method"],
                "predicted": entry["value"],
                "predicted_low": entry["low"],
                "predicted_high": entry["high"],
                "placebo": _finite(placebo.mean[k]),
                "placebo_low": _finite(placebo.low[k]),
                "placebo_high": _finite(placebo.high[k]),
                "details": result.to_json(),
            },
        )[0]
        for k, (entry, result) in enumerate(zip(planned, results, strict=True))
    ]


def _numbers(result: BehaviourVerdict) -> dict[str, Any]:
    return {
        "outcome": Outcome(result.verdict.replace(" ", "_")),
        "reason": result.reason,
        "actual": _finite(result.actual),
        "actual_low": _finite(result.low),
        "actual_high": _finite(result.high),
        "p_value": _finite(result.p_value),
        "adjusted_p_value": _finite(result.adjusted_p_value),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
