"""The examples of a dataset version: search, filter, sort by influence, tick, and look at one."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from curation.models import (
    BaselineState,
    Behaviour,
    DatasetVersion,
    Influence,
    Proposal,
    ProposalState,
    VersionState,
)
from curation.queries.access import get_for
from curation.queries.arrays import stored_array
from curation.queries.examples import SORTS, ExampleFilter, ExampleTable
from curation.queries.predictions import DEFAULT_METHOD
from curation.web.charts.histogram import influence_bar
from curation.web.formatting import decimals_for, signed
from curation.web.views.datasets import trail_to
from curation.web.views.helpers import is_fragment, project_page

PER_PAGE = 50
MOST_CHARACTERS = 400
SORT_TITLES = {
    "position": "Upload order",
    "text": "Text",
    "label": "Label",
    "influence": "Influence",
    "magnitude": "Size of influence",
}


@dataclass(frozen=True)
class Listing:
    """What the address asks for: the whole state of the page."""

    filter: ExampleFilter
    sort: str
    descending: bool
    page: int

    @classmethod
    def of(cls, values: QueryDict) -> "Listing":
        sort = values.get("sort", "position")
        page = values.get("page", "1")
        return cls(
            filter=filter_of(values),
            sort=sort if sort in SORTS else "position",
            descending=values.get("order") == "down",
            page=max(1, int(page)) if page.isdecimal() and len(page) < 9 else 1,
        )


def filter_of(values: QueryDict) -> ExampleFilter:
    """The filter that an address or a form carries."""
    attributes = {
        name: str(values[name]) for name in values if name.startswith("attribute_") and values[name]
    }
    split = values.get("split", "")
    return ExampleFilter(
        search=values.get("q", "")[:200].replace("\x00", ""),
        split=split if split in ("train", "probe") else "",
        label=values.get("label", ""),
        attributes=attributes,
    )


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


@require_safe
@login_required
def example_list(request: HttpRequest, pk: str) -> HttpResponse:
    version = ready_version(request, pk)
    behaviours = behaviours_of(version)
    behaviour = chosen_behaviour(request.GET, behaviours)
    listing = Listing.of(request.GET)
    influence = None
    if behaviour is not None:
        influence = behaviour.influences.select_related("scores_file").get(method=DEFAULT_METHOD)
    sort = listing.sort
    if influence is None and sort in ("influence", "magnitude"):
        sort = "position"
    with ExampleTable(version) as table:
        try:
            found = table.page(
                listing.filter,
                sort=sort,
                descending=listing.descending,
                offset=(listing.page - 1) * PER_PAGE,
                limit=PER_PAGE,
                influence=influence,
            )
        except KeyError as error:
            raise Http404("The dataset has no such column.") from error
        attributes = [
            {"name": name, "title": name.removeprefix("attribute_"), "values": values}
            for name in table.attributes[:6]
            if 1 < len(values := table.values(name, limit=31)) <= 30
        ]
    rows = [_row(row, behaviour) for row in found.rows]
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
        sorts=_sorts(request, influence, sort, descending=listing.descending),
        behaviours=behaviours,
        behaviour=behaviour,
        attributes=attributes,
        chips=_chips(request, listing),
        drafts=_drafts(version, request.GET.get("proposal", "")),
        slice_query=slice_query(listing.filter),
        baselines=version.baselines.filter(state=BaselineState.READY).order_by("-created_at")[:3],
        carried=_carried(request),
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


def _sorts(
    request: HttpRequest, influence: Influence | None, sort: str, *, descending: bool
) -> list[dict[str, Any]]:
    """Every order with its address; the current one points to its reverse."""
    offered = []
    for name, title in SORT_TITLES.items():
        if influence is None and name in ("influence", "magnitude"):
            continue
        query = request.GET.copy()
        query.pop("page", None)
        query["sort"] = name
        down = not descending if name == sort else name in ("influence", "magnitude")
        query["order"] = "down" if down else "up"
        offered.append(
            {"title": title, "address": f"?{query.urlencode()}", "current": name == sort}
        )
    return offered


def _chips(request: HttpRequest, listing: Listing) -> list[dict[str, str]]:
    """What narrows the list, each with the address that takes it away."""
    words = {"q": "holds “{}”", "split": "{} split", "label": "label {}"}
    chips = []
    for name in ("q", "split", "label", *listing.filter.attributes):
        value = request.GET.get(name, "")
        if not value:
            continue
        query = request.GET.copy()
        query.pop(name)
        query.pop("page", None)
        text = words.get(name, name.removeprefix("attribute_") + ": {}").format(value)
        chips.append({"text": text, "address": f"?{query.urlencode()}"})
    return chips


def _carried(request: HttpRequest) -> list[tuple[str, str]]:
    """The filter as hidden fields, so that “all matching” means exactly what is shown."""
    kept = ("q", "split", "label", "behaviour", "sort", "order")
    return [
        (name, str(value))
        for name, value in request.GET.items()
        if value and (name in kept or name.startswith("attribute_"))
    ]


def slice_query(wanted: ExampleFilter) -> str:
    """The address part that fills the form of a new behaviour with this filter; empty where a
    behaviour cannot be defined by it."""
    if wanted.label and not wanted.search and not wanted.attributes:
        return urlencode({"selection": "class", "class_label": wanted.label})
    if wanted.label or len(wanted.attributes) > 1 or not (wanted.search or wanted.attributes):
        return ""
    values = {"selection": "slice", "search": wanted.search}
    for name, value in wanted.attributes.items():
        values |= {"attribute": name, "value": value}
    return urlencode(values)


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
    with ExampleTable(version) as table:
        page = table.page(ExampleFilter(example_ids=(wanted,)), limit=1)
    if not wanted or not page.rows:
        raise Http404("No such example.")
    row = page.rows[0]
    context: dict[str, Any] = {
        "version": version,
        "row": row,
        "answer": row.get("label") if row.get("label") is not None else row.get("target"),
        "attributes": [
            (name.removeprefix("attribute_"), value)
            for name, value in row.items()
            if name.startswith("attribute_") and value not in (None, "")
        ],
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
                "score": score,
                "removed": -score,
                "helps": (score > 0) == (behaviour.better == "higher"),
                "rank": int((abs(scores) > abs(score)).sum()) + 1,
                "of": len(scores),
            }
        )
    rows.sort(key=lambda row: row["rank"])
    return rows
