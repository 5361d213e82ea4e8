"""The address of a list of examples: what it asks for, and the addresses of its orders and chips.
Nothing here reads examples."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict

from curation.models import ProbeSet
from curation.queries.example_values import VALUES
from curation.queries.examples import SORTS, ExampleFilter, Range

SORT_TITLES = {
    "position": "Upload order",
    "text": "Text",
    "label": "Label",
    "loss": "Loss",
    "confidence": "Confidence",
    "self_influence": "Self-influence",
    "influence": "Influence",
    "magnitude": "Size of influence",
}
LARGEST_FIRST = ("influence", "magnitude", "loss", "self_influence")
BOUNDS = ("from", "to")


@dataclass(frozen=True)
class Listing:
    """What the address asks for: the whole state of the page."""

    filter: ExampleFilter
    sort: str
    descending: bool
    page: int

    @classmethod
    def of(cls, values: QueryDict, probe_set: ProbeSet | None = None) -> "Listing":
        sort = values.get("sort", "position")
        page = values.get("page", "1")
        return cls(
            filter=filter_of(values, probe_set),
            sort=sort if sort in SORTS else "position",
            descending=values.get("order") == "down",
            page=max(1, int(page)) if page.isdecimal() and len(page) < 9 else 1,
        )


def filter_of(values: QueryDict, probe_set: ProbeSet | None = None) -> ExampleFilter:
    """The filter that an address or a form carries; bounds that are no numbers bound nothing."""
    attributes = {
        name: str(values[name]) for name in values if name.startswith("attribute_") and values[name]
    }
    split = values.get("split", "")
    return ExampleFilter(
        search=values.get("q", "")[:200].replace("\x00", ""),
        split=split if split in ("train", "probe") else "",
        label=values.get("label", ""),
        attributes=attributes,
        ranges={name: bounds for name in VALUES if any_bound(bounds := _bounds(values, name))},
        probe_indices=None if probe_set is None else tuple(probe_set.probe_indices),
    )


def _bounds(values: QueryDict, name: str) -> Range:
    low, high = (_finite(values.get(f"{name}_{bound}", "")) for bound in BOUNDS)
    return low, high


def any_bound(bounds: Range) -> bool:
    return bounds != (None, None)


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def sorts(
    request: HttpRequest, unavailable: Mapping[str, str], sort: str, *, descending: bool
) -> list[dict[str, Any]]:
    """Every order with its address, or with the reason why it cannot be chosen yet; the current one
    points to its reverse."""
    offered: list[dict[str, Any]] = []
    for name, title in SORT_TITLES.items():
        if name in unavailable:
            if unavailable[name]:
                offered.append({"title": title, "reason": unavailable[name]})
            continue
        query = request.GET.copy()
        query.pop("page", None)
        query["sort"] = name
        down = not descending if name == sort else name in LARGEST_FIRST
        query["order"] = "down" if down else "up"
        offered.append(
            {"title": title, "address": f"?{query.urlencode()}", "current": name == sort}
        )
    return offered


def chips(
    request: HttpRequest, listing: Listing, probe_set: ProbeSet | None
) -> list[dict[str, str]]:
    """What narrows the list, each with the address that takes it away."""
    shown = _narrowing(request.GET, listing.filter, probe_set)
    found = []
    for name, text in shown.items():
        query = request.GET.copy()
        query.pop(name)
        query.pop("page", None)
        found.append({"text": text, "address": f"?{query.urlencode()}"})
    return found


def filter_words(values: QueryDict, wanted: ExampleFilter, probe_set: ProbeSet | None) -> str:
    """The filter in words, for what is saved from it."""
    return ", ".join(_narrowing(values, wanted, probe_set).values()) or "all"


def _narrowing(
    values: QueryDict, wanted: ExampleFilter, probe_set: ProbeSet | None
) -> dict[str, str]:
    """Each part of the address that narrows the list, in words."""
    words = {"q": "holds “{}”", "split": "{} split", "label": "label {}"}
    shown = {
        name: words.get(name, name.removeprefix("attribute_") + ": {}").format(values[name])
        for name in ("q", "split", "label", *wanted.attributes)
        if values.get(name)
    }
    if probe_set is not None:
        shown["probe_set"] = f"probe set {probe_set}"
    for name, bounds in wanted.ranges.items():
        for bound, sign, limit in zip(BOUNDS, "≥≤", bounds, strict=True):
            if limit is not None:
                shown[f"{name}_{bound}"] = f"{SORT_TITLES[name].lower()} {sign} {limit:g}"
    return shown


def carried(request: HttpRequest) -> list[tuple[str, str]]:
    """The filter as hidden fields, so that “all matching” means exactly what is shown."""
    kept = {"q", "split", "label", "behaviour", "sort", "order", "baseline", "probe_set"}
    kept |= {f"{name}_{bound}" for name in VALUES for bound in BOUNDS}
    return [
        (name, str(value))
        for name, value in request.GET.items()
        if value and (name in kept or name.startswith("attribute_"))
    ]


def slice_query(wanted: ExampleFilter, probe_set: ProbeSet | None = None) -> str:
    """The address part that fills the form of a new behaviour with this filter; empty where a
    behaviour cannot be defined by it."""
    if probe_set is not None:
        alone = not (wanted.search or wanted.label or wanted.attributes or wanted.ranges)
        query = {"selection": "probe_set", "probe_set": probe_set.pk}
        return urlencode(query) if alone else ""
    if wanted.ranges:
        return ""
    if wanted.label and not wanted.search and not wanted.attributes:
        return urlencode({"selection": "class", "class_label": wanted.label})
    if wanted.label or len(wanted.attributes) > 1 or not (wanted.search or wanted.attributes):
        return ""
    values = {"selection": "slice", "search": wanted.search}
    for name, value in wanted.attributes.items():
        values |= {"attribute": name, "value": value}
    return urlencode(values)
