"""Behaviours: define one, see its value over seeds and what most helps and most harms it."""

import statistics
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from curation.models import Baseline, Behaviour, BehaviourKind
from curation.queries.access import Right, get_for
from curation.queries.examples import ExampleTable
from curation.queries.influence import extreme_examples
from curation.queries.method_choices import choices_of, errors_of
from curation.queries.predictions import DEFAULT_METHOD
from curation.services import behaviours
from curation.services.behaviours import kinds_for
from curation.services.token_influence import has_tokens
from curation.web.charts.seeds import SeedGroup, seed_dots
from curation.web.forms.behaviours import BehaviourForm
from curation.web.views.baselines import spread_of, trail_to
from curation.web.views.helpers import attempt, project_page, status_of, tell

SHOWN = 10


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
def new_behaviour(request: HttpRequest, pk: str) -> HttpResponse:
    baseline = get_for(Baseline, pk, request.user, Right.WRITE)
    with ExampleTable(baseline.dataset_version) as table:
        attributes = table.attributes
    form = BehaviourForm(
        baseline,
        attributes,
        request.POST if request.method == "POST" else None,
        initial=request.GET.dict(),
    )
    if request.method == "POST" and form.is_valid():
        created = attempt(form, lambda: _add(baseline, form, request.user))
        if created:
            if "another" in request.POST:
                return redirect("new-behaviour", baseline.pk)
            return redirect("baseline", baseline.pk)
    return project_page(
        request,
        "behaviours/new.html",
        baseline.project,
        tab="baselines",
        trail=[*trail_to(baseline), ("New behaviour", "")],
        baseline=baseline,
        form=form,
        status=status_of(form),
    )


def _add(baseline: Baseline, form: BehaviourForm, by: Any) -> Behaviour:
    chosen = form.cleaned_data
    try:
        return behaviours.add_behaviour(
            baseline=baseline,
            name=chosen["name"],
            kind=chosen["kind"],
            definition=form.definition(),
            label=chosen.get("label", ""),
            better=chosen["better"],
            by=by,
        )
    except ValidationError as error:
        # The service speaks of the definition; on this page its parts are fields of their own.
        if hasattr(error, "error_dict") and "definition" in error.error_dict:
            fields = {"class": "class_label", "slice": "value"} | {
                name: name for name in ("probe_set", "pasted")
            }
            field = fields.get(chosen["selection"], "selection")
            raise ValidationError({field: error.error_dict["definition"]}) from error
        raise


@require_POST
@login_required
def add_classes(request: HttpRequest, pk: str) -> HttpResponse:
    """One behaviour for all probe examples and one for each class, in one click."""
    baseline = get_for(Baseline, pk, request.user, Right.WRITE)
    kind = kinds_for(baseline.dataset_version.task)[0]
    title = BehaviourKind(kind).label.lower().removeprefix("mean ")

    @transaction.atomic
    def add() -> None:
        known = set(baseline.behaviours.values_list("name", flat=True))
        wanted: list[tuple[str, dict[str, Any]]] = [("All probe examples", {"selection": "all"})]
        wanted += [
            (label, {"selection": "class", "label": label})
            for label in baseline.dataset_version.classes[:50]
        ]
        for name, definition in wanted:
            full = f"{name}: {title}"[:120]
            if full not in known:
                behaviours.add_behaviour(
                    baseline=baseline, name=full, kind=kind, definition=definition, by=request.user
                )

    tell(request, add, "The behaviours were added; compute their influence next.")
    return redirect("baseline", baseline.pk)


@require_safe
@login_required
def behaviour(request: HttpRequest, pk: str) -> HttpResponse:
    found = get_for(Behaviour, pk, request.user)
    influence = found.influences.filter(method=DEFAULT_METHOD).first()
    extremes: dict[str, Any] = {
        name: extreme_examples(behaviour=found, method=DEFAULT_METHOD, helpful=helpful, count=SHOWN)
        if influence
        else []
        for name, helpful in (("harmful", False), ("helpful", True))
    }
    values = {int(seed): float(value) for seed, value in found.values.items()}
    choice = choices_of(found.baseline).get(found.pk)
    return project_page(
        request,
        "behaviours/behaviour.html",
        found.project,
        tab="baselines",
        trail=[*trail_to(found.baseline), (found.name, "")],
        behaviour=found,
        baseline=found.baseline,
        influence=influence,
        has_tokens=has_tokens(found),
        choice=choice,
        compared=errors_of(choice) if choice else [],
        spread=spread_of(values.values()),
        prompts=prompts_of(found),
        reads=len(found.pasted_examples) or len(found.probe_indices),
        selection=selection_in_words(found),
        seeds_chart=seed_dots(
            [SeedGroup("Baseline", "unedited", values)],
            identifier="value-by-seed",
            unit=found.unit,
            title="Value, seed by seed",
            changes=False,
        )
        if len(values) > 1
        else "",
        **extremes,
    )


def prompts_of(behaviour: Behaviour) -> dict[str, Any] | None:
    """Each pasted example with its mean over seeds, and how they spread around the behaviour."""
    seeds = [row for row in behaviour.prompt_values.values() if None not in row]
    if not seeds:
        return None
    means = [statistics.fmean(column) for column in zip(*seeds, strict=True)]
    rows = zip(behaviour.pasted_examples, means, strict=True)
    return {
        "rows": [example | {"value": mean} for example, mean in rows],
        "spread": spread_of(means),
        "words": behaviour.definition.get("words", []),
    }


def selection_in_words(behaviour: Behaviour) -> str:
    definition = behaviour.definition
    selection = definition.get("selection")
    if selection == "class":
        return f"probe examples labelled “{definition['label']}”"
    if selection == "pasted":
        return "pasted examples"
    if selection == "probe_set":
        return f"the probe set “{definition['name']}”"
    if selection == "examples":
        return "chosen probe examples"
    if selection == "slice":
        parts = []
        if definition.get("attribute"):
            name = definition["attribute"].removeprefix("attribute_")
            parts.append(f"{name} is “{definition.get('value', '')}”")
        if definition.get("label"):
            parts.append(f"labelled “{definition['label']}”")
        if definition.get("search"):
            parts.append(f"holding “{definition['search'].strip()}”")
        return "probe examples " + ", ".join(parts)
    return "all probe examples"
