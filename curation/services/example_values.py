"""Asking a baseline for what is not measured with its training: the self-influence of every
example."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import ENDED, Baseline, BaselineState, ExampleValues, Job, JobKind
from curation.services import audit, jobs

CHECKPOINTS = 5
EPOCHS_EACH = 3.0
"""A pass of per-example gradients takes about so many epochs of training."""


def values_job(baseline: Baseline) -> Job | None:
    """The job that measures this baseline's examples, while it has not ended."""
    found = Job.objects.filter(target_id=baseline.pk, kind=JobKind.MEASURE_EXAMPLES)
    return found.exclude(state__in=ENDED).order_by("-created_at").first()


def expected_seconds(baseline: Baseline) -> float | None:
    """About what measuring will take: each seed's training again, and a pass of per-example
    gradients at each checkpoint. None where no training time is known."""
    seconds = list(baseline.runs.values_list("seconds", flat=True))
    if not seconds:
        return None
    epochs = float(max(1, baseline.recipe.settings.get("epochs", 10)))
    return sum(seconds) * (1 + CHECKPOINTS * EPOCHS_EACH / epochs)


@transaction.atomic
def request_example_values(*, baseline: Baseline, by: Any) -> Job:
    """Measure what is missing of the examples' loss, confidence and self-influence.

    Raises:
        ValidationError: the baseline is not trained, or all is measured or being measured.
    """
    baseline = Baseline.objects.select_for_update().get(pk=baseline.pk)
    if baseline.state != BaselineState.READY:
        raise ValidationError("The baseline is not trained yet.")
    measured = ExampleValues.objects.filter(baseline=baseline).exclude(self_influence_file=None)
    if measured.exists() or values_job(baseline):
        raise ValidationError("The examples of this baseline are measured or being measured.")
    audit.record(
        action="example values requested", actor=by, project=baseline.project, target=baseline
    )
    return jobs.enqueue(
        project=baseline.project,
        kind=JobKind.MEASURE_EXAMPLES,
        target_id=baseline.pk,
        created_by=by,
        estimate_seconds=expected_seconds(baseline),
    )
