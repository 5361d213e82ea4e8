"""Asking why a prediction missed: the ladder of one complete test."""

from typing import Any

import numpy as np
from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import ENDED, Job, JobKind, Ladder, Registration, RegistrationState
from curation.services import audit, jobs

RUNS_EACH_SEED = 20
"""A baseline seed's rungs take about as long as so many training runs: three of them are runs,
three are minimisations over all examples."""


def ladder_job(registration: Registration) -> Job | None:
    """The job that measures this ladder, while it has not ended."""
    found = Job.objects.filter(target_id=registration.pk, kind=JobKind.LADDER)
    return found.exclude(state__in=ENDED).order_by("-created_at").first()


@transaction.atomic
def request_ladder(*, registration: Registration, by: Any) -> Job:
    """Send the measurement of every rung between influence and the test's retrains.

    Raises:
        ValidationError: the test is not complete, or its ladder exists or is being measured.
    """
    registration = Registration.objects.select_for_update().get(pk=registration.pk)
    if registration.state != RegistrationState.COMPLETE:
        raise ValidationError("Only a complete test can be explained: its values are still hidden.")
    if Ladder.objects.filter(registration=registration).exists() or ladder_job(registration):
        raise ValidationError("The ladder of this test exists or is being measured.")
    baseline = registration.proposal.baseline
    seconds = list(baseline.runs.values_list("seconds", flat=True))
    audit.record(
        action="ladder requested", actor=by, project=registration.project, target=registration
    )
    return jobs.enqueue(
        project=registration.project,
        kind=JobKind.LADDER,
        target_id=registration.pk,
        created_by=by,
        estimate_seconds=RUNS_EACH_SEED * float(np.sum(seconds)) if seconds else None,
    )
