"""Suggested edits and likely label errors: asked for, read with their reasons, made a proposal."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from curation.models import (
    Baseline,
    Behaviour,
    Job,
    JobKind,
    LabelCheck,
    Model,
    Proposal,
    Suggestion,
)
from curation.queries.access import Right, get_for
from curation.queries.examples import ExampleTable
from curation.queries.influence_methods import title_of
from curation.services import suggestions
from curation.web.forms.proposals import ProposalForm
from curation.web.forms.suggestions import SuggestionForm
from curation.web.views.baselines import trail_to
from curation.web.views.helpers import attempt, project_page, status_of, tell
from curation.web.views.jobs import progress_context

MOST_SHOWN = 200


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def suggest(request: HttpRequest, pk: str) -> HttpResponse:
    behaviour = get_for(Behaviour, pk, request.user, Right.WRITE)
    form = SuggestionForm(behaviour, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        chosen = form.cleaned_data
        found = attempt(
            form,
            lambda: suggestions.request_suggestion(
                behaviour=behaviour,
                number_of_edits=chosen["number_of_edits"],
                new_weight=chosen["new_weight"],
                method=chosen["method"],
                guards=form.tolerances(),
                by=request.user,
            ),
        )
        if found:
            return redirect("suggestion", found.pk)
    return project_page(
        request,
        "suggestions/new.html",
        behaviour.project,
        tab="baselines",
        trail=[*_trail_to(behaviour), ("Suggest edits", "")],
        behaviour=behaviour,
        form=form,
        earlier=Suggestion.objects.filter(behaviour=behaviour)[:20],
        status=status_of(form),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def suggestion(request: HttpRequest, pk: str) -> HttpResponse:
    """The suggested edits; posting makes a draft proposal of them."""
    posted = request.method == "POST"
    found = get_for(Suggestion, pk, request.user, Right.WRITE if posted else Right.READ)
    form = ProposalForm(request.POST if posted else None)
    if posted and form.is_valid():
        proposal: Proposal | None = attempt(
            form,
            lambda: suggestions.propose(suggestion=found, by=request.user, **form.cleaned_data),
        )
        if proposal:
            return redirect("proposal", proposal.pk)
    behaviour = found.behaviour
    result = found.result or {}
    indices = result.get("train_indices", [])[:MOST_SHOWN]
    guarded = behaviour.baseline.behaviours.in_bulk(list(found.guards))
    by_key = {str(key): guard for key, guard in guarded.items()}
    return project_page(
        request,
        "suggestions/suggestion.html",
        behaviour.project,
        tab="baselines",
        trail=[*_trail_to(behaviour), ("Suggested edits", "")],
        suggestion=found,
        method=title_of(found.method),
        behaviour=behaviour,
        baseline=behaviour.baseline,
        result=result,
        number=len(result.get("train_indices", [])),
        guards=[
            {**guard, "behaviour": by_key[guard["behaviour"]]} for guard in result.get("guards", [])
        ],
        guarded=[(guard, found.guards[str(key)]) for key, guard in guarded.items()],
        rows=_rows(behaviour.baseline, indices, result.get("gains", [])),
        form=form,
        status=status_of(form),
        **_job_context(behaviour.baseline, suggestion=str(found.pk)),
    )


@require_POST
@login_required
def check_labels(request: HttpRequest, pk: str) -> HttpResponse:
    baseline = get_for(Baseline, pk, request.user, Right.WRITE)
    key = request.POST.get("encoder")
    encoder = get_for(Model, key, request.user) if key else None
    tell(
        request,
        lambda: suggestions.request_label_check(
            baseline=baseline, encoder=encoder, by=request.user
        ),
        "The labels are being checked by training with and without each example.",
    )
    return redirect("labels", baseline.pk)


@require_safe
@login_required
def labels(request: HttpRequest, pk: str) -> HttpResponse:
    """The train examples whose label is most likely wrong, with the reasons."""
    baseline = get_for(Baseline, pk, request.user)
    found = LabelCheck.objects.select_related("encoder").filter(baseline=baseline).first()
    worst = found.worst[:MOST_SHOWN] if found else []
    rows = _rows(baseline, [one["train_index"] for one in worst])
    return project_page(
        request,
        "suggestions/labels.html",
        baseline.project,
        tab="baselines",
        trail=[*trail_to(baseline), ("Likely label errors", "")],
        baseline=baseline,
        found=found,
        encoders=[
            one
            for one in suggestions.label_encoders(baseline)
            if found is None or one.pk != found.encoder_id
        ],
        rows=[{**row, **one} for row, one in zip(rows, worst, strict=True)],
        **_job_context(baseline, label_check=True),
    )


def _trail_to(behaviour: Behaviour) -> list[tuple[str, str]]:
    address = reverse("behaviour", args=[behaviour.pk])
    return [*trail_to(behaviour.baseline), (behaviour.name, address)]


def _rows(
    baseline: Baseline, indices: Sequence[int], gains: Sequence[float] = ()
) -> list[dict[str, Any]]:
    """The examples in this order, each with its gain where there is one."""
    if not indices:
        return []
    with ExampleTable(baseline.dataset_version) as table:
        found = table.by_train_index(np.asarray(indices))
    rows = [found[index] for index in indices]
    for row, gain in zip(rows, gains, strict=False):
        row["gain"] = gain
    return rows


def _job_context(baseline: Baseline, **payload: Any) -> dict[str, Any]:
    """The newest job of this request, while it runs or where it failed."""
    job = (
        Job.objects.filter(target_id=baseline.pk, kind=JobKind.SUGGEST, payload__contains=payload)
        .order_by("-created_at")
        .first()
    )
    if job is None:
        return {}
    return {"last_job": job, **({} if job.has_ended else progress_context(job))}
