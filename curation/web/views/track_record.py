"""The track record: every prediction that retraining has checked, and how well they did."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from curation.models import Baseline, Project, Registration, RegistrationState, Verdict
from curation.queries import track_record as records
from curation.queries.access import get_for
from curation.web.charts.scatter import ScatterPoint, scatter_plot
from curation.web.formatting import change_unit
from curation.web.mark import hypothesis_mark
from curation.web.views.helpers import page_of, project_page


@require_safe
@login_required
def track_record(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user)
    baselines = list(project.baselines.filter(proposals__registrations__isnull=False).distinct())
    wanted = request.GET.get("baseline", "")
    baseline = next((one for one in baselines if str(one.pk) == wanted), None)
    verdicts = records.checked_verdicts(project, baseline)
    summary = records.summary_of(verdicts)
    return project_page(
        request,
        "track_record/track_record.html",
        project,
        tab="track-record",
        baselines=baselines,
        baseline=baseline,
        summary=summary,
        record=records.record_of(project, baseline=baseline),
        charts=[
            _scatter(unit, group, summary["units"][unit]) for unit, group in _by_unit(verdicts)
        ],
        page_obj=page_of(request, _tests(project, baseline)),
    )


def _tests(project: Project, baseline: Baseline | None) -> Any:
    tests = Registration.objects.filter(project=project).exclude(
        state__in=(RegistrationState.LOCKED, RegistrationState.RUNNING)
    )
    if baseline is not None:
        tests = tests.filter(proposal__baseline=baseline)
    return (
        tests.select_related("proposal", "primary_behaviour")
        .prefetch_related("verdicts")
        .order_by("-created_at")
    )


def _by_unit(verdicts: list[Verdict]) -> list[tuple[str, list[Verdict]]]:
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault(verdict.behaviour.unit, []).append(verdict)
    return list(groups.items())


def _scatter(unit: str, verdicts: list[Verdict], summary: dict[str, Any]) -> str:
    return scatter_plot(
        [
            ScatterPoint(
                f"{v.registration.proposal.name}: {v.behaviour.name}",
                v.predicted,
                v.actual or 0.0,
                v.get_outcome_display(),
            )
            for v in verdicts
        ],
        identifier=f"scatter-{unit}",
        unit=unit,
        slope=summary["slope"],
        title=f"Predicted against actual, in {change_unit(unit)}",
        mark=hypothesis_mark(),
    )
