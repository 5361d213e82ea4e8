"""Baselines: train one, read its curves and seed spread, send its behaviours to be attributed."""

import statistics
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from curation.models import Baseline, BaselineRun, BaselineState, JobKind, Project
from curation.queries.access import Right, get_for
from curation.queries.influence_methods import method_states
from curation.queries.method_advice import advice_for
from curation.queries.predictions import DEFAULT_METHOD
from curation.services import behaviours, training_setup
from curation.web.charts.curve import Curve, learning_curve
from curation.web.forms.architectures import title_of
from curation.web.forms.models import BaselineForm
from curation.web.views.datasets import latest_job
from curation.web.views.helpers import Trail, attempt, project_page, status_of, tell
from curation.web.views.jobs import progress_context


def trail_to(baseline: Baseline) -> Trail:
    return [
        ("Baselines", reverse("baselines", args=[baseline.project_id])),
        (baseline.name, reverse("baseline", args=[baseline.pk])),
    ]


@require_safe
@login_required
def baseline_list(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user)
    rows = project.baselines.select_related("dataset_version__dataset", "model", "recipe")
    rows = rows.annotate(
        number_of_behaviours=Count("behaviours", distinct=True),
        number_of_proposals=Count("proposals", distinct=True),
    )
    return project_page(
        request,
        "baselines/list.html",
        project,
        tab="baselines",
        baselines=rows.order_by("-created_at"),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_baseline(request: HttpRequest, pk: str) -> HttpResponse:
    project = get_for(Project, pk, request.user, Right.WRITE)
    initial = {
        name: request.GET[name]
        for name in ("dataset_version", "model", "recipe")
        if name in request.GET
    }
    form = BaselineForm(
        project, request.POST if request.method == "POST" else None, initial=initial
    )
    if request.method == "POST" and form.is_valid():
        created = attempt(
            form,
            lambda: training_setup.create_baseline(
                project=project, by=request.user, **form.cleaned_data
            ),
        )
        if created:
            return redirect("baseline", created[0].pk)
    missing = [
        (words, reverse(name, args=[project.pk]))
        for field, words, name in (
            ("dataset_version", "an imported dataset", "new-dataset"),
            ("model", "a model", "new-model"),
            ("recipe", "a recipe", "new-recipe"),
        )
        if not form.fields[field].queryset.exists()  # type: ignore[attr-defined]
    ]
    return project_page(
        request,
        "baselines/new.html",
        project,
        tab="baselines",
        trail=[("Baselines", reverse("baselines", args=[project.pk])), ("New baseline", "")],
        form=form,
        missing=missing,
        status=status_of(form),
    )


@require_safe
@login_required
def baseline(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Baseline, pk, request.user)
    runs = list(found.runs.all())
    job = latest_job(found.pk, JobKind.TRAIN_BASELINE, JobKind.ATTRIBUTE, JobKind.EXTEND_BANK)
    context = progress_context(job) if job and not job.has_ended else {}
    attributed = set(
        found.influences.filter(method=DEFAULT_METHOD).values_list("behaviour_id", flat=True)
    )
    rows = [
        {
            "behaviour": behaviour,
            "spread": spread_of(behaviour.values.values()),
            "attributed": behaviour.pk in attributed,
        }
        for behaviour in found.behaviours.filter(archived_at=None)
    ]
    return project_page(
        request,
        "baselines/baseline.html",
        found.project,
        tab="baselines",
        trail=[*trail_to(found)[:-1], (found.name, "")],
        baseline=found,
        title=title_of(found.model.architecture),
        runs=runs,
        metrics=metrics_of(runs),
        curve=curve_of(runs),
        behaviours=rows,
        waiting=sum(1 for row in rows if not row["attributed"]),
        left_out=left_out_seeds(found),
        proposals=found.proposals.filter(archived_at=None).order_by("-created_at"),
        is_ready=found.state == BaselineState.READY,
        advice=advice_for(found),
        usual_method=DEFAULT_METHOD,
        methods=method_states(found) if rows else [],
        last_job=job,
        **context,
    )


def spread_of(values: Any) -> dict[str, float] | None:
    """Mean, lowest, highest and standard deviation over seeds."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    return {
        "mean": statistics.fmean(known),
        "low": min(known),
        "high": max(known),
        "deviation": statistics.stdev(known) if len(known) > 1 else 0.0,
    }


def metrics_of(runs: list[BaselineRun]) -> list[dict[str, Any]]:
    """Each metric of each split with its spread over seeds."""
    names = {"accuracy": ("Accuracy", "accuracy"), "loss": ("Mean loss", "")}
    found = []
    for split in ("probe", "train"):
        for key, (title, unit) in names.items():
            values = [run.metrics.get(split, {}).get(key) for run in runs]
            spread = spread_of(values)
            if spread:
                found.append({"title": f"{title}, {split}", "unit": unit, "spread": spread})
    return found


def curve_of(runs: list[BaselineRun]) -> str:
    curves = [run.learning_curve for run in runs if run.learning_curve]
    shortest = min((len(curve) for curve in curves), default=0)
    values = [curve[:shortest] for curve in curves]
    return learning_curve(
        [Curve("training loss", list(range(1, shortest + 1)), values)],
        identifier="learning-curve",
        unit="loss",
    )


def left_out_seeds(baseline: Baseline) -> list[dict[str, Any]]:
    """Seeds that the blow-up guard left out of the influence scores, with the reason, each once."""
    found: dict[int, dict[str, Any]] = {}
    for left_out in baseline.influences.values_list("left_out", flat=True):
        for entry in left_out:
            found.setdefault(entry["seed"], entry)
    return list(found.values())


@require_POST
@login_required
def attribute(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Baseline, pk, request.user, Right.WRITE)
    method = request.POST.get("method", DEFAULT_METHOD)
    tell(
        request,
        lambda: behaviours.attribute(baseline=found, by=request.user, method=method),
        "Influence is being computed.",
    )
    return redirect("baseline", found.pk)
