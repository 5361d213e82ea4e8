"""Histograms and bar lists: how often each value or class occurs."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from curation.web.charts.figure import (
    LegendEntry,
    Table,
    empty_figure,
    figure,
    horizontal_axis,
)
from curation.web.charts.scale import Scale, padded
from curation.web.charts.svg import element, join, label, line, rectangle
from curation.web.formatting import count, decimals_for, number, percentage, signed

HEIGHT = 200
PLOT_TOP, PLOT_BOTTOM = 18, 156
BAR_ROW = 38


def histogram(
    edges: Sequence[float],
    counts: Sequence[int],
    *,
    identifier: str,
    title: str,
    unit: str,
    marks: Sequence[tuple[str, float]] = (),
) -> SafeString:
    """``counts[i]`` lie between ``edges[i]`` and ``edges[i + 1]``; ``marks`` are named lines."""
    total = sum(counts)
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(counts)} counts need {len(counts) + 1} edges, not {len(edges)}")
    if not total:
        return empty_figure(
            kind="histogram", identifier=identifier, title=title, reason="No values yet."
        )
    across = Scale(
        min(edges[0], *(x for _, x in marks), edges[0]),
        max(edges[-1], *(x for _, x in marks), edges[-1]),
        2,
        98,
    )
    up = Scale(0, max(counts), PLOT_BOTTOM, PLOT_TOP)
    drawn = [horizontal_axis(across, PLOT_TOP, PLOT_BOTTOM, unit)]
    for left, right, height in zip(edges, edges[1:], counts, strict=False):
        if height:
            drawn.append(
                rectangle(
                    across(left),
                    up(height),
                    max(across(right) - across(left) - 0.25, 0.25),
                    PLOT_BOTTOM - up(height),
                    "bar series-1",
                )
            )
    drawn.append(line(0, PLOT_BOTTOM, 100, PLOT_BOTTOM, "base-line"))
    drawn.append(label(f"most: {count(max(counts))}", 100, 11, "tick", "end"))
    for name, value in marks:
        drawn.append(line(across(value), PLOT_TOP, across(value), PLOT_BOTTOM, "mark-line"))
        drawn.append(label(name, across(value), 11, "row-note", "middle"))
    digits = (
        0 if all(float(edge).is_integer() for edge in edges) else decimals_for(edges[1] - edges[0])
    )
    fullest = max(range(len(counts)), key=counts.__getitem__)
    summary = (
        f"{count(total)} values from {number(edges[0], digits)} to {number(edges[-1], digits)} "
        f"{unit}; the fullest bin, {number(edges[fullest], digits)} to "
        f"{number(edges[fullest + 1], digits)}, holds {percentage(counts[fullest] / total)}."
    )
    rows = [
        [f"{number(a, digits)} to {number(b, digits)}", count(c)]
        for a, b, c in zip(edges, edges[1:], counts, strict=False)
    ]
    return figure(
        kind="histogram",
        identifier=identifier,
        title=title,
        summary=summary,
        drawing=join(drawn),
        height=HEIGHT,
        table=Table([unit.capitalize() or "Value", "Count"], rows),
    )


@dataclass(frozen=True)
class Bar:
    """One named count; ``before`` is the same count in the base of a comparison."""

    label: str
    value: int
    before: int | None = None


def bar_list(
    bars: Sequence[Bar], *, identifier: str, title: str, of: str = "examples"
) -> SafeString:
    """Horizontal bars, one a class, with count and share; the base version as an outline behind."""
    total = sum(bar.value for bar in bars)
    if not bars or not (total or any(bar.before for bar in bars)):
        return empty_figure(
            kind="bars", identifier=identifier, title=title, reason="Nothing to count yet."
        )
    across = Scale(0, max(max(bar.value, bar.before or 0) for bar in bars), 0, 100)
    compared = any(bar.before is not None for bar in bars)
    drawn, rows = [], []
    for order, bar in enumerate(bars):
        top = order * BAR_ROW
        share = percentage(bar.value / total if total else 0, 1)
        shift = f" ({signed(bar.value - bar.before, 0)})" if bar.before is not None else ""
        drawn.append(label(bar.label, 0, top + 13, "row-name"))
        drawn.append(
            label(f"{count(bar.value)}{shift} · {share}", 100, top + 13, "row-note", "end")
        )
        drawn.append(rectangle(0, top + 19, 100, 10, "bar-track"))
        drawn.append(rectangle(0, top + 19, across(bar.value), 10, "bar series-1"))
        if bar.before is not None:
            drawn.append(
                line(across(bar.before), top + 16, across(bar.before), top + 32, "mark-line")
            )
        rows.append(
            [bar.label, *([count(bar.before)] if compared else []), count(bar.value), share]
        )
    largest = max(bars, key=lambda bar: bar.value)
    summary = (
        f"{count(total)} {of} in {len(bars)} groups; the largest is {largest.label} "
        f"with {percentage(largest.value / total if total else 0)}."
    )
    headings = ["Group", *(["Base"] if compared else []), of.capitalize(), "Share"]
    legend = (
        [
            LegendEntry("this version", "band", "bar series-1"),
            LegendEntry("base", "line", "mark-line"),
        ]
        if compared
        else []
    )
    return figure(
        kind="bars",
        identifier=identifier,
        title=title,
        summary=summary,
        drawing=join(drawn),
        height=len(bars) * BAR_ROW,
        table=Table(headings, rows),
        legend=legend,
    )


def influence_bar(value: float, largest: float, helps: bool) -> SafeString:
    """A bar from the middle of a cell: right raises, left lowers; its number stands beside it."""
    share = 50 * min(abs(value) / largest, 1.0) if largest else 0.0
    left = 50.0 if value >= 0 else 50 - share
    return element(
        "svg",
        rectangle(left, 2, max(share, 0.6), 8, "bar helps" if helps else "bar harms"),
        line(50, 0, 50, 12, "base-line"),
        width="100%",
        height=12,
        aria_hidden="true",
        class_="influence-bar",
    )


def sparkline(values: Sequence[float]) -> SafeString:
    """A small line without axes, to stand inside a row whose text holds its numbers."""
    if len(values) < 2:
        return join([])
    across, up = Scale(0, len(values) - 1, 1, 99), Scale(*padded(values), 22, 2)
    points = " ".join(f"{across(i):.2f},{up(value):.2f}" for i, value in enumerate(values))
    return element(
        "svg",
        element("polyline", points=points, class_="mean-line series-1"),
        viewBox="0 0 100 24",
        preserveAspectRatio="none",
        width=96,
        height=24,
        aria_hidden="true",
        class_="sparkline",
    )
