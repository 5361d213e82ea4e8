"""Reports: one verdict as a page to print and as JSON, with hashes and how to repeat it."""

import json

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from curation.models import Registration, RegistrationState
from curation.queries.access import get_for
from curation.queries.report import report_of
from curation.web.views.helpers import project_page
from curation.web.views.proposals import trail_to
from curation.web.views.registrations import run_context, verdict_context


def _finished(request: HttpRequest, pk: str) -> Registration:
    found = get_for(Registration, pk, request.user)
    if found.state in (RegistrationState.LOCKED, RegistrationState.RUNNING):
        raise Http404("There is no report before the test has ended.")
    return found


@require_safe
@login_required
def report(request: HttpRequest, pk: str) -> HttpResponse:
    found = _finished(request, pk)
    return project_page(
        request,
        "registrations/report.html",
        found.project,
        tab="proposals",
        trail=[*trail_to(found.proposal), ("Report", "")],
        report=report_of(found),
        plan=json.dumps(found.plan, indent=2, ensure_ascii=False),
        deviations=found.deviations.select_related("recorded_by"),
        **run_context(found),
        **verdict_context(found),
    )


@require_safe
@login_required
def report_json(request: HttpRequest, pk: str) -> HttpResponse:
    found = _finished(request, pk)
    response = JsonResponse(report_of(found), json_dumps_params={"indent": 2})
    response["Content-Disposition"] = f'attachment; filename="report-{found.pk}.json"'
    return response
