"""The examples of a dataset version: search, filter, sort by what a model says of them, tick, and
look at one."""

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from curation.models import (
    BaselineState,
    Behaviour,
    DatasetVersion,
    ExampleValues,
    Influence,
    ProbeSet,
    Proposal,
    ProposalState,
    TokenInfluence,
    VersionState,
)
from curation.queries.access import get_for
from curation.queries.arrays import stored_array
from curation.queries.example_values import (
    VALUES,
    arrays_of,
    chosen_values,
    measured_baselines,
    standing,
    units_of,
)
from curation.queries.examples import ExampleFilter, ExampleTable
from curation.queries.predictions import DEFAULT_METHOD
from curation.web.charts.histogram import influence_bar
from curation.web.example_listing import (
    SORT_TITLES,
    Listing,
    carried,
    chips,
    slice_query,
    sorts,
)
from curation.web.formatting import decimals_for, signed, with_unit
from curation.web.views.datasets import trail_to
from curation.web.views.example_values import measuring, unavailable
from curation.web.views.helpers import is_fragment, project_page

PER_PAGE = 50
MOST_CHARACTERS = 400


def ready_version(request: HttpRequest, pk: str) -> DatasetVersion:
    version = get_for(DatasetVersion, pk, request.user)
    if version.state != VersionState.READY:
        raise Http404("This version has no examples yet.")
    return version


def behaviours_of(version: DatasetVersion) -> list[Behaviour]:
    """Behaviours with scores on this version's baselines, the newest baseline's first."""
    return list(
        Behaviour.objects.filter(
            baseline__dataset_version=version, archived_at=None, influences__method=DEFAULT_METHOD
        )
        .select_related("baseline")
        .order_by("-baseline__created_at", "position")
    )


def chosen_behaviour(values: QueryDict, behaviours: list[Behaviour]) -> Behaviour | None:
    wanted = values.get("behaviour", "")
    return next((one for one in behaviours if str(one.pk) == wanted), None)


def values_of(version: DatasetVersion, wanted: QueryDict) -> ExampleValues | None:
    """The values that the list of this address shows, sorts and filters by."""
    behaviour = chosen_behaviour(wanted, behaviours_of(version))
    return chosen_values(
        measured_baselines(version),
        wanted.get("baseline", ""),
        None if behaviour is None else behaviour.baseline,
    )


def probe_set_of(version: DatasetVersion, wanted: QueryDict) -> ProbeSet | None:
    """The probe set that the list is narrowed to. Raises Http404 where the version has no such."""
    if not wanted.get("probe_set"):
        return None
    try:
        return version.probe_sets.get(pk=str(wanted["probe_set"]))
    except (ProbeSet.DoesNotExist, ValidationError):
        raise Http404("The dataset version has no such probe set.") from None


@require_safe
@login_required
def example_list(request: HttpRequest, pk: str) -> HttpResponse:
    version = ready_version(request, pk)
    behaviours = behaviours_of(version)
    behaviour = chosen_behaviour(request.GET, behaviours)
    probe_set = probe_set_of(version, request.GET)
    listing = Listing.of(request.GET, probe_set)
    known = measured_baselines(version)
    values = chosen_values(
        known, request.GET.get("baseline", ""), None if behaviour is None else behaviour.baseline
    )
    missing = unavailable(version, values)
    influence = None
    if behaviour is not None:
        influence = behaviour.influences.select_related("scores_file").get(method=DEFAULT_METHOD)
    without = missing if influence else missing | {"influence": "", "magnitude": ""}
    sort = "position" if listing.sort in without else listing.sort
    with ExampleTable(version) as table:
        try:
            found = table.page(
                listing.filter,
                sort=sort,
                descending=listing.descending,
                offset=(listing.page - 1) * PER_PAGE,
                limit=PER_PAGE,
                influence=influence,
                values=arrays_of(values),
            )
        except KeyError as error:
            raise Http404("The dataset has no such column.") from error
        attributes = [
            {"name": name, "title": name.removeprefix("attribute_"), "values": common}
            for name in table.attributes[:6]
            if 1 < len(common := table.values(name, limit=31)) <= 30
        ]
    columns = [name for name in VALUES if name == sort or name in listing.filter.ranges]
    rows = [_row(row, behaviour) for row in found.rows]
    _show_values(rows, columns, values)
    _scale_bars(rows, behaviour)
    return project_page(
        request,
        "examples/list.html",
        version.project,
        tab="datasets",
        trail=[*trail_to(version), ("Examples", "")],
        version=version,
        rows=rows,
        total=found.total,
        page_obj=Paginator(range(found.total), PER_PAGE).get_page(listing.page),
        listing=listing,
        sort=sort,
        sorts=sorts(request, without, sort, descending=listing.descending),
        behaviours=behaviours,
        behaviour=behaviour,
        attributes=attributes,
        chips=chips(request, listing, probe_set),
        columns=[SORT_TITLES[name] for name in columns],
        values=values,
        measured=known,
        bounds=_bound_fields(listing, values),
        reasons=sorted({reason for reason in missing.values() if reason}),
        probe_set=probe_set,
        probe_sets=version.probe_sets.only("name", "dataset_version"),
        drafts=_drafts(version, request.GET.get("proposal", "")),
        slice_query=slice_query(listing.filter, probe_set),
        baselines=version.baselines.filter(state=BaselineState.READY).order_by("-created_at")[:3],
        carried=carried(request),
        **measuring(version, values),
    )


def _row(row: dict[str, Any], behaviour: Behaviour | None) -> dict[str, Any]:
    content = row["content"] or ""
    row["short"] = content[:MOST_CHARACTERS] + ("…" if len(content) > MOST_CHARACTERS else "")
    row["answer"] = row.get("label") if row.get("label") is not None else row.get("target")
    if behaviour is not None and row["score"] is not None:
        row["helps"] = (row["score"] > 0) == (behaviour.better == "higher")
    return row


def _scale_bars(rows: list[dict[str, Any]], behaviour: Behaviour | None) -> None:
    """Bars on this page share one scale: the largest score shown."""
    if behaviour is None:
        return
    scored = [row for row in rows if row["score"] is not None]
    largest = max((abs(row["score"]) for row in scored), default=0.0)
    decimals = decimals_for(largest, significant=3)
    for row in scored:
        row["shown_score"] = signed(row["score"], decimals)
        row["bar"] = influence_bar(row["score"], largest, row["helps"])


def _show_values(
    rows: list[dict[str, Any]], columns: list[str], values: ExampleValues | None
) -> None:
    """Each row's `values` in words, in the order of the columns."""
    units = units_of(values) if values and columns else {}
    for row in rows:
        row["values"] = [
            (SORT_TITLES[name], "–" if row[name] is None else with_unit(row[name], units[name]))
            for name in columns
        ]


def _bound_fields(listing: Listing, values: ExampleValues | None) -> list[dict[str, Any]]:
    """The pairs of fields that bound a measured value."""
    fields = []
    for name in arrays_of(values):
        low, high = listing.filter.ranges.get(name, (None, None))
        fields.append({"name": name, "title": SORT_TITLES[name], "low": low, "high": high})
    return fields


def _drafts(version: DatasetVersion, wanted: str) -> list[dict[str, Any]]:
    drafts = Proposal.objects.filter(
        baseline__dataset_version=version, state=ProposalState.DRAFT, archived_at=None
    ).select_related("baseline")
    return [
        {"proposal": draft, "selected": str(draft.pk) == wanted}
        for draft in drafts.order_by("-created_at")
    ]


@require_safe
@login_required
def one_example(request: HttpRequest, pk: str) -> HttpResponse:
    """One example in full: its content, its columns, and its influence on every behaviour."""
    version = ready_version(request, pk)
    wanted = request.GET.get("id", "").replace("\x00", "")
    values = values_of(version, request.GET)
    with ExampleTable(version) as table:
        page = table.page(ExampleFilter(example_ids=(wanted,)), limit=1)
        if not wanted or not page.rows:
            raise Http404("No such example.")
        row = page.rows[0]
        standings = standing(table.index, values, row) if values else []
    for one in standings:
        one["title"] = SORT_TITLES[one["name"]]
        one["shown"] = with_unit(one["value"], one["unit"])
    context: dict[str, Any] = {
        "version": version,
        "row": row,
        "answer": row.get("label") if row.get("label") is not None else row.get("target"),
        "attributes": [
            (name.removeprefix("attribute_"), value)
            for name, value in row.items()
            if name.startswith("attribute_") and value not in (None, "")
        ],
        "values": values,
        "standings": standings,
        "influences": _influences(version, row["train_index"]),
        "address": f"{reverse('example', args=[version.pk])}?{urlencode({'id': wanted})}",
        "drafts": _drafts(version, request.GET.get("proposal", "")),
    }
    if is_fragment(request):
        return render(request, "examples/panel.html", context)
    return project_page(
        request,
        "examples/one.html",
        version.project,
        tab="datasets",
        trail=[
            *trail_to(version),
            ("Examples", reverse("examples", args=[version.pk])),
            (wanted, ""),
        ],
        **context,
    )


def _influences(version: DatasetVersion, train_index: int | None) -> list[dict[str, Any]]:
    """The example's score for each behaviour of the newest attributed baseline, strongest first."""
    if train_index is None:
        return []
    behaviours = behaviours_of(version)
    if not behaviours:
        return []
    newest = behaviours[0].baseline_id
    by_token = set(
        TokenInfluence.objects.filter(
            behaviour__baseline=newest, examples__contains=[{"train_index": train_index}]
        ).values_list("behaviour_id", flat=True)
    )
    rows: list[dict[str, Any]] = []
    for influence in Influence.objects.filter(
        baseline_id=newest, method=DEFAULT_METHOD, behaviour__archived_at=None
    ).select_related("behaviour", "scores_file"):
        scores = stored_array(influence.scores_file)
        score = float(scores[train_index])
        behaviour = influence.behaviour
        rows.append(
            {
                "behaviour": behaviour,
                "has_tokens": behaviour.pk in by_token,
                "score": score,
                "removed": -score,
                "helps": (score > 0) == (behaviour.better == "higher"),
                "rank": int((abs(scores) > abs(score)).sum()) + 1,
                "of": len(scores),
            }
        )
    rows.sort(key=lambda row: row["rank"])
    return rows
