"""Confirmatory tests: register a plan, start its retrains, watch them, read the verdict."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from curation.models import (
    Arm,
    Baseline,
    Behaviour,
    Job,
    JobKind,
    JobState,
    Outcome,
    Prediction,
    Proposal,
    Registration,
    RegistrationState,
    Verdict,
)
from curation.queries.access import Right, get_for
from curation.queries.ladders import ladder_of, notes_of
from curation.queries.plans import plans_of
from curation.services import ladders, registrations, reviews, verdicts
from curation.web.charts.forest import Measure
from curation.web.charts.seeds import SeedGroup, seed_dots
from curation.web.charts.waterfall import WaterfallStep, waterfall
from curation.web.effects import (
    EffectRow,
    measure,
    predicted_forest,
    rows_of_predictions,
    verdict_forest,
)
from curation.web.forms.proposals import ReasonForm, RegistrationForm
from curation.web.views.helpers import attempt, project_page, status_of, tell
from curation.web.views.jobs import seconds_left
from curation.web.views.proposals import trail_to
from workers.evidence.ladder import RUNGS
from workers.evidence.power import smallest_visible_effect

OUTCOMES_IN_WORDS = {
    Outcome.SUPPORTED: "Retraining agreed with the prediction.",
    Outcome.DIRECTION_ONLY: "The direction was right, the size was not.",
    Outcome.CONTRADICTED: "Retraining went against the prediction.",
    Outcome.INCONCLUSIVE: "The retrains cannot tell the effect from seed noise.",
    Outcome.INVALIDATED: "A reviewer declared this test invalid.",
    Outcome.NOT_FINISHED: "Not every planned retrain finished.",
}


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def register(request: HttpRequest, pk: str) -> HttpResponse:
    proposal = get_for(Proposal, pk, request.user, Right.WRITE)
    form = RegistrationForm(proposal, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        created = attempt(
            form,
            lambda: registrations.register(proposal=proposal, by=request.user, **form.cleaned_data),
        )
        if created:
            return redirect("registration", created.pk)
    predictions = registrations.current_predictions(proposal)
    rows = rows_of_predictions(predictions)
    primary = _primary(form, rows)
    return project_page(
        request,
        "registrations/register.html",
        proposal.project,
        tab="proposals",
        trail=[*trail_to(proposal), ("Register", "")],
        proposal=proposal,
        form=form,
        checklist=registrations.checklist(proposal=proposal, primary_behaviour=primary),
        forest=predicted_forest(rows) if rows else "",
        effects=rows,
        visible=_visible_effects(proposal.baseline, predictions),
        status=status_of(form),
    )


def _primary(form: RegistrationForm, rows: list[EffectRow]) -> Behaviour | None:
    if form.is_bound and getattr(form, "cleaned_data", {}).get("primary_behaviour"):
        chosen: Behaviour = form.cleaned_data["primary_behaviour"]
        return chosen
    return rows[0].behaviour if rows else None


def _visible_effects(baseline: Baseline, predictions: list[Prediction]) -> list[dict[str, Any]]:
    """For each behaviour the smallest effect that 4, 8 and 16 seeds can tell from noise, and what
    a test of the predicted one needs."""
    plans = plans_of(baseline, predictions, largest_number_of_seeds=registrations.MAX_SEEDS)
    return [
        {
            "behaviour": prediction.behaviour,
            "predicted": prediction.value,
            "plan": plan,
            "cells": [smallest_visible_effect(plan.seed_noise, n) for n in (4, 8, 16)],
        }
        for prediction in predictions
        if (plan := plans.get(prediction.behaviour_id))
    ]


@require_safe
@login_required
def registration(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Registration, pk, request.user)
    context = verdict_context(found)
    return project_page(
        request,
        "registrations/registration.html",
        found.project,
        tab="proposals",
        trail=[*trail_to(found.proposal), ("Test", "")],
        deviations=found.deviations.select_related("recorded_by"),
        reason_form=ReasonForm(),
        **run_context(found),
        **context,
    )


def run_context(registration: Registration) -> dict[str, Any]:
    """How far the retrains are: counts and times, never a value before the plan is complete."""
    jobs = list(Job.objects.filter(target_id=registration.pk, kind=JobKind.RETRAIN))
    finished = registration.retrains.filter(seed__in=registration.seeds).count()
    left = [seconds for job in jobs if (seconds := seconds_left(job)) is not None]
    return {
        "registration": registration,
        "jobs": jobs,
        "finished": finished,
        "planned": len(registration.seeds) * len(Arm),
        "left": max(left) if left else None,
        "is_running": registration.state == RegistrationState.RUNNING
        and any(not job.has_ended for job in jobs),
        "failed_jobs": [job for job in jobs if job.state in (JobState.FAILED, JobState.CANCELLED)],
    }


def verdict_context(registration: Registration) -> dict[str, Any]:
    """The verdicts and their charts; nothing of them before the plan is complete."""
    if registration.state not in (RegistrationState.COMPLETE, RegistrationState.INVALIDATED):
        planned = registration.plan["predictions"]
        return {
            "planned_predictions": planned,
            "primary_prediction": next(
                (
                    entry
                    for entry in planned
                    if entry["behaviour"] == str(registration.primary_behaviour_id)
                ),
                None,
            ),
        }
    found = list(registration.verdicts.select_related("behaviour", "signed_off_by"))
    order = {entry["behaviour"]: k for k, entry in enumerate(registration.plan["predictions"])}
    found.sort(key=lambda verdict: order.get(str(verdict.behaviour_id), len(order)))
    primary = next((v for v in found if v.behaviour_id == registration.primary_behaviour_id), None)
    return {
        "verdicts": found,
        "primary": primary,
        "in_words": OUTCOMES_IN_WORDS.get(Outcome(primary.outcome)) if primary else "",
        "forest": verdict_forest(found) if found else "",
        "seeds_chart": _seeds_chart(registration, primary) if primary else "",
        **_ladder_context(registration, primary),
    }


def _ladder_context(registration: Registration, primary: Verdict | None) -> dict[str, Any]:
    """Why the prediction missed: the waterfall once it is measured, else the job that does it."""
    found = ladder_of(registration, primary.behaviour) if primary else None
    if found is None or primary is None:
        return {
            "may_ask_for_ladder": registration.state == RegistrationState.COMPLETE,
            "ladder_job": ladders.ladder_job(registration),
        }
    return {
        "ladder": found,
        "ladder_notes": notes_of(registration),
        "ladder_chart": waterfall(
            (RUNGS[0].title, found.start),
            [WaterfallStep(gap.name.capitalize(), gap.amount, gap.sentence) for gap in found.gaps],
            (RUNGS[-1].title, found.end),
            identifier="ladder",
            unit=primary.behaviour.unit,
            title="From the influence function to the retrains",
        ),
    }


def _seeds_chart(registration: Registration, primary: Verdict) -> str:
    """Each seed's difference from the unedited retrain of the same seed."""
    key = str(primary.behaviour_id)
    values: dict[str, dict[int, float]] = {arm.value: {} for arm in Arm}
    for arm, seed, found in registration.retrains.values_list("arm", "seed", "values"):
        if found.get(key) is not None:
            values[arm][seed] = float(found[key])
    base = values[Arm.UNEDITED]

    def differences(arm: str) -> dict[int, float]:
        return {seed: v - base[seed] for seed, v in values[arm].items() if seed in base}

    return seed_dots(
        [
            SeedGroup(
                "Edited minus unedited",
                "actual",
                differences(Arm.EDITED),
                measure(primary.actual, primary.actual_low, primary.actual_high),
            ),
            SeedGroup(
                "Placebo minus unedited",
                "placebo",
                differences(Arm.PLACEBO),
                measure(primary.placebo, primary.placebo_low, primary.placebo_high),
            ),
        ],
        identifier="every-seed",
        unit=primary.behaviour.unit,
        title=f"Every seed: {primary.behaviour.name}",
        predicted=Measure(primary.predicted, primary.predicted_low, primary.predicted_high),
    )


@require_safe
@login_required
def progress(request: HttpRequest, pk: str) -> HttpResponse:
    """The live part while retrains run; when they have ended the page is loaded anew."""
    found = get_for(Registration, pk, request.user)
    context = run_context(found)
    response = render(request, "registrations/progress.html", context)
    if not context["is_running"]:
        response["HX-Refresh"] = "true"
    return response


@require_POST
@login_required
def start(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Registration, pk, request.user, Right.WRITE)
    tell(
        request,
        lambda: registrations.start(registration=found, by=request.user),
        "The retrains were started. Their values stay hidden until the plan is complete.",
    )
    return redirect("registration", found.pk)


@require_POST
@login_required
def deviation(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Registration, pk, request.user, Right.WRITE)
    tell(
        request,
        lambda: registrations.record_deviation(
            registration=found, description=request.POST.get("reason", ""), by=request.user
        ),
        "The deviation was recorded; it cannot be taken back.",
    )
    return redirect("registration", found.pk)


@require_POST
@login_required
def abandon(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Registration, pk, request.user, Right.WRITE)
    tell(
        request,
        lambda: registrations.abandon(
            registration=found, reason=request.POST.get("reason", ""), by=request.user
        ),
        "The test was abandoned; it stays in the track record.",
    )
    return redirect("registration", found.pk)


@require_POST
@login_required
def ladder(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Registration, pk, request.user, Right.WRITE)
    tell(
        request,
        lambda: ladders.request_ladder(registration=found, by=request.user),
        "The ladder is being measured: every step from the influence function to the retrains.",
    )
    return redirect("registration", found.pk)


@require_POST
@login_required
def sign_off(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Registration, pk, request.user, Right.REVIEW)
    tell(
        request,
        lambda: reviews.sign_off(registration=found, by=request.user),
        "The verdicts were signed off.",
    )
    return redirect("registration", found.pk)


@require_POST
@login_required
def invalidate(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Registration, pk, request.user, Right.REVIEW)
    tell(
        request,
        lambda: verdicts.invalidate(
            registration=found, reason=request.POST.get("reason", ""), by=request.user
        ),
        "The test was declared invalid; it stays in the track record.",
    )
    return redirect("registration", found.pk)
