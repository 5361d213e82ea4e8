"""Proposals: the workbench with live predictions, what-if, comparison, export."""

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from django.contrib.auth.decorators import login_required
from django.core.paginator import Page
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from curation.models import (
    Baseline,
    DatasetVersion,
    Edit,
    Job,
    JobKind,
    JobState,
    Project,
    Proposal,
    ProposalState,
)
from curation.queries import exports
from curation.queries.access import Right, get_for, visible
from curation.queries.combinations import chosen_effects
from curation.queries.examples import ExampleTable
from curation.queries.influence import extreme_indices
from curation.queries.predictions import DEFAULT_METHOD, edits_of
from curation.services import datasets, predictions, proposals
from curation.services.registrations import current_predictions
from curation.web.effects import (
    EffectRow,
    predicted_forest,
    rows_of,
    rows_of_proposal,
    shared_warnings,
)
from curation.web.forms.proposals import HypothesisForm, MostInfluentialForm, ProposalForm
from curation.web.views.baselines import trail_to as trail_to_baseline
from curation.web.views.helpers import (
    Trail,
    attempt,
    is_fragment,
    page_of,
    project_page,
    status_of,
    tell,
)

EDITS_PER_PAGE = 25
MOST_COMPARED = 4


def trail_to(proposal: Proposal) -> Trail:
    return [
        ("Proposals", reverse("proposals", args=[proposal.project_id])),
        (proposal.name, reverse("proposal", args=[proposal.pk])),
    ]


@require_safe
@login_required
def proposal_list(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user)
    rows = project.proposals.filter(archived_at=None).select_related("baseline", "created_by")
    rows = rows.annotate(
        number_of_edits=Count("edits", distinct=True),
        number_of_tests=Count("registrations", distinct=True),
    )
    return project_page(
        request,
        "proposals/list.html",
        project,
        tab="proposals",
        page_obj=page_of(request, rows.order_by("-created_at")),
        baselines=project.baselines.filter(state="ready").order_by("-created_at"),
        most_compared=MOST_COMPARED,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_proposal(request: HttpRequest, pk: str) -> HttpResponse:
    baseline = get_for(Baseline, pk, request.user, Right.WRITE)
    form = ProposalForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        created = attempt(
            form,
            lambda: proposals.create_proposal(
                baseline=baseline, by=request.user, **form.cleaned_data
            ),
        )
        if created:
            return redirect("proposal", created.pk)
    return project_page(
        request,
        "proposals/new.html",
        baseline.project,
        tab="proposals",
        trail=[*trail_to_baseline(baseline), ("New proposal", "")],
        baseline=baseline,
        form=form,
        status=status_of(form),
    )


@require_safe
@login_required
def proposal(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Proposal, pk, request.user)
    page = page_of(request, found.edits.order_by("weight", "train_index"), EDITS_PER_PAGE)
    counts = found.edits.aggregate(
        removed=Count("pk", filter=Q(weight=0)),
        lowered=Count("pk", filter=Q(weight__gt=0, weight__lt=1)),
        raised=Count("pk", filter=Q(weight__gt=1)),
    )
    form = MostInfluentialForm(found)
    return project_page(
        request,
        "proposals/proposal.html",
        found.project,
        tab="proposals",
        trail=[*trail_to(found)[:-1], (found.name, "")],
        baseline=found.baseline,
        is_draft=found.state == ProposalState.DRAFT,
        counts=counts,
        page_obj=page,
        edits=_with_content(found, page),
        form=form,
        slider_most=min(500, max(found.baseline.dataset_version.train_count // 4, 1)),
        has_behaviours=form.fields["behaviour"].queryset.exists(),  # type: ignore[attr-defined]
        hypothesis_form=HypothesisForm(initial={"hypothesis": found.hypothesis}),
        batches=found.edit_batches.defer("previous").select_related("created_by")[:8],
        registrations=found.registrations.order_by("-created_at"),
        saved=len(current_predictions(found)),
        **_prediction_context(found),
    )


def _with_content(proposal: Proposal, page: Page[Edit]) -> list[dict[str, Any]]:
    edits = list(page.object_list)
    if not edits:
        return []
    with ExampleTable(proposal.baseline.dataset_version) as table:
        rows = table.by_train_index(edit.train_index for edit in edits)
    return [{"edit": edit, "row": rows[edit.train_index]} for edit in edits]


def _prediction_context(
    proposal: Proposal, extra: tuple[np.ndarray, float] | None = None
) -> dict[str, Any]:
    """The prediction of the edits; with `extra` (train indices, weight) on top, the instant one."""
    started = time.perf_counter()
    indices, weights = edits_of(proposal)
    if extra is None:
        rows = rows_of_proposal(proposal)
    else:
        added, weight = extra
        kept = ~np.isin(indices, added)
        indices = np.concatenate([indices[kept], added])
        weights = np.concatenate([weights[kept], np.full(len(added), weight)])
        effects = chosen_effects(baseline=proposal.baseline, train_indices=indices, weights=weights)
        rows = rows_of(effects)
    edit_aware = sum(row.edit_aware for row in rows)
    return {
        "proposal": proposal,
        "effects": rows,
        "forest": predicted_forest(rows) if rows else "",
        "warnings": shared_warnings(rows),
        "number_of_edits": len(indices),
        "predicted_in": time.perf_counter() - started,
        "with_extra": extra is not None,
        "method": DEFAULT_METHOD.replace("_", " "),
        "edit_aware": edit_aware,
        "awaited": _awaited(proposal) if rows and extra is None and not edit_aware else None,
    }


def _awaited(proposal: Proposal) -> Job | None:
    """The job that follows the edited run, while it is under way."""
    if not proposal.baseline.summary.get("edit_aware", {}).get("usable"):
        return None
    return Job.objects.filter(
        kind=JobKind.PREDICT,
        target_id=proposal.pk,
        state__in=(JobState.QUEUED, JobState.RUNNING),
    ).first()


@require_safe
@login_required
def effects(request: HttpRequest, pk: str) -> HttpResponse:
    """The predictions of the proposal's page by themselves, for a page that waits for a worker."""
    found = get_for(Proposal, pk, request.user)
    return render(request, "proposals/effects.html", _prediction_context(found))


@require_safe
@login_required
def what_if(request: HttpRequest, pk: str) -> HttpResponse:
    """What the proposal would change with some more edits, without writing anything."""
    found = get_for(Proposal, pk, request.user)
    form = MostInfluentialForm(found, request.GET)
    context: dict[str, Any] = {"proposal": found, "form": form}
    if form.is_valid():
        chosen = form.cleaned_data
        indices, _ = extreme_indices(
            behaviour=chosen["behaviour"],
            method=DEFAULT_METHOD,
            helpful=chosen["which"] == "helpful",
            count=chosen["count"],
        )
        context |= _prediction_context(found, (indices, chosen["weight"]))
        context |= {"added": len(indices), "chosen": chosen}
    if is_fragment(request):
        return render(request, "proposals/effects.html", context)
    return project_page(
        request,
        "proposals/what_if.html",
        found.project,
        tab="proposals",
        trail=[*trail_to(found), ("What if", "")],
        **context,
    )


@require_POST
@login_required
def edit_hypothesis(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Proposal, pk, request.user, Right.WRITE)
    form = HypothesisForm(request.POST)
    if form.is_valid():
        tell(
            request,
            lambda: proposals.set_hypothesis(
                proposal=found, hypothesis=form.cleaned_data["hypothesis"], by=request.user
            ),
            "The hypothesis was saved.",
        )
    return redirect("proposal", found.pk)


@require_POST
@login_required
def predict(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Proposal, pk, request.user, Right.WRITE)
    done = tell(
        request,
        lambda: predictions.predict(proposal=found, by=request.user),
        "The prediction was saved.",
    )
    if done and request.POST.get("next") == "register":
        return redirect("register", found.pk)
    return redirect("proposal", found.pk)


@require_POST
@login_required
def copy(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Proposal, pk, request.user, Right.WRITE)
    copies: list[Proposal] = []
    tell(
        request,
        lambda: copies.append(
            proposals.copy(proposal=found, name=_free_name(found), by=request.user)
        ),
        "This is a copy that can be edited.",
    )
    return redirect("proposal", copies[0].pk if copies else found.pk)


@require_POST
@login_required
def apply(request: HttpRequest, pk: str) -> HttpResponse:
    """Make the proposal's edits the next version of the dataset."""
    found = get_for(Proposal, pk, request.user, Right.WRITE)
    made: list[DatasetVersion] = []
    tell(
        request,
        lambda: made.append(datasets.apply_proposal(proposal=found, by=request.user)[0]),
        "The new version is being written.",
    )
    return redirect("version", made[0].pk) if made else redirect("proposal", found.pk)


def _free_name(proposal: Proposal) -> str:
    taken = set(proposal.baseline.proposals.values_list("name", flat=True))
    stem = re.sub(r" \(copy( \d+)?\)$", "", proposal.name)[:105]
    names = (f"{stem} (copy {n})" if n > 1 else f"{stem} (copy)" for n in itertools.count(1))
    return next(name for name in names if name not in taken)


@require_safe
@login_required
def compare(request: HttpRequest, pk: str) -> HttpResponse:
    """Up to four proposals of one baseline side by side."""
    project = get_for(Project, pk, request.user)
    wanted = request.GET.getlist("proposal")[:MOST_COMPARED]
    chosen = _chosen(request, project, wanted)
    columns = [_Column.of(one) for one in chosen]
    behaviours = dict.fromkeys(
        row.behaviour for column in columns for row in column.effects.values()
    )
    shared = set.intersection(*(column.edits for column in columns)) if columns else set()
    return project_page(
        request,
        "proposals/compare.html",
        project,
        tab="proposals",
        trail=[("Proposals", reverse("proposals", args=[project.pk])), ("Compare", "")],
        columns=[{"proposal": c.proposal, "own": len(c.edits - shared)} for c in columns],
        shared=len(shared),
        rows=[
            {"behaviour": one, "cells": [column.effects.get(one.pk) for column in columns]}
            for one in behaviours
        ],
    )


@dataclass(frozen=True)
class _Column:
    """One proposal of a comparison."""

    proposal: Proposal
    edits: set[tuple[int, float]]
    effects: dict[UUID, EffectRow]

    @classmethod
    def of(cls, proposal: Proposal) -> "_Column":
        indices, weights = edits_of(proposal)
        return cls(
            proposal=proposal,
            edits=set(zip(indices.tolist(), weights.tolist(), strict=True)),
            effects={row.behaviour.pk: row for row in rows_of_proposal(proposal)},
        )


def _chosen(request: HttpRequest, project: Project, wanted: list[str]) -> list[Proposal]:
    try:
        found = {
            str(one.pk): one
            for one in visible(Proposal, request.user)
            .filter(project=project, pk__in=wanted)
            .select_related("baseline__dataset_version")
        }
    except (ValueError, TypeError):
        raise Http404("No such proposal.") from None
    chosen = [found[key] for key in wanted if key in found]
    first = chosen[0].baseline_id if chosen else None
    return [one for one in chosen if one.baseline_id == first]


@require_safe
@login_required
def export(request: HttpRequest, pk: str) -> StreamingHttpResponse:
    """The edits as CSV: example id, train index and new weight."""
    found = get_for(Proposal, pk, request.user)

    def lines() -> Iterator[bytes]:
        with ExampleTable(found.baseline.dataset_version) as table:
            yield from exports.as_csv(exports.edits_table(table, found))

    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="edits-{found.pk}.csv"'
    return response
