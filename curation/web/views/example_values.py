"""Loss, confidence and self-influence of examples on the pages: whose are shown, what is missing
and why, and the button that measures it."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from curation.models import Baseline, BaselineState, DatasetVersion, ExampleValues, Task
from curation.queries.access import Right, get_for
from curation.queries.example_values import VALUES, arrays_of
from curation.services import example_values
from curation.web.views.helpers import back, tell
from curation.web.views.jobs import progress_context


@require_POST
@login_required
def measure(request: HttpRequest, pk: str) -> HttpResponse:
    baseline = get_for(Baseline, pk, request.user, Right.WRITE)
    tell(
        request,
        lambda: example_values.request_example_values(baseline=baseline, by=request.user),
        "The examples are being measured.",
    )
    return back(request, reverse("baseline", args=[baseline.pk]))


def unavailable(version: DatasetVersion, values: ExampleValues | None) -> dict[str, str]:
    """The values that cannot be sorted by, with the reason in words."""
    if values is None:
        return dict.fromkeys(
            VALUES,
            "A trained baseline has to measure loss, confidence and self-influence first.",
        )
    missing = {name for name in VALUES if name not in arrays_of(values)}
    found = dict.fromkeys(missing, "Self-influence has not been measured yet.")
    if "confidence" in missing:
        found["confidence"] = "A regression gives no probability of an answer, so no confidence."
    return found


def measuring(version: DatasetVersion, values: ExampleValues | None) -> dict[str, Any]:
    """What a page offers for measuring: `to_measure` and `expected_seconds`, or the running job."""
    if values is not None and values.self_influence_file_id is not None:
        return {}
    baseline = values.baseline if values else None
    if baseline is None:
        trained = version.baselines.filter(state=BaselineState.READY).select_related("recipe")
        baseline = trained.order_by("-created_at").first()
    if baseline is None:
        return {}
    if job := example_values.values_job(baseline):
        return progress_context(job) | {"job_baseline": baseline}
    return {
        "to_measure": baseline,
        "expected_seconds": example_values.expected_seconds(baseline),
        "measures": "self-influence" if values else measured_words(version),
    }


def measured_words(version: DatasetVersion) -> str:
    """What the button measures of a baseline that has measured nothing yet."""
    if version.task == Task.TABULAR_REGRESSION:
        return "loss and self-influence"
    return "loss, confidence and self-influence"
