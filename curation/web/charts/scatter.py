"""Scatter of actual against predicted change, with the identity line and the seed-noise band."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from curation.web.charts.figure import (
    LegendEntry,
    Table,
    empty_figure,
    figure,
    horizontal_axis,
    vertical_axis,
)
from curation.web.charts.scale import Scale, padded
from curation.web.charts.svg import join, label, marker, stretched
from curation.web.formatting import change, change_unit, in_unit, plural

HEIGHT = 352
PLOT_TOP, PLOT_BOTTOM = 36, 308
SHAPES = ("circle", "diamond", "square", "triangle")
MOST_POINTS_IN_TABLE = 500


@dataclass(frozen=True)
class ScatterPoint:
    """One predicted-versus-actual pair; ``group`` (such as the kind of edit) decides its shape."""

    label: str
    predicted: float
    actual: float
    group: str = ""


def scatter_plot(
    points: Sequence[ScatterPoint],
    *,
    identifier: str,
    unit: str,
    noise: float | None = None,
    slope: float | None = None,
    title: str = "Predicted against actual",
    mark: SafeString | str = "",
) -> SafeString:
    """Points on the identity line were predicted exactly; ``noise`` is the band's half-width.

    ``slope`` draws actual = slope · predicted, the calibration line.
    """
    if not points:
        return empty_figure(
            kind="scatter",
            identifier=identifier,
            title=title,
            reason="No prediction has been checked by retraining yet.",
        )
    domain = padded(
        [value for point in points for value in (point.predicted, point.actual)], include_zero=True
    )
    across, up = Scale(*domain, 9, 98), Scale(*domain, PLOT_BOTTOM, PLOT_TOP)
    factor = 100.0 if in_unit(1.0, unit)[1] == "%" else 1.0
    name = change_unit(unit)
    drawn = [
        vertical_axis(up, with_sign=True, factor=factor),
        horizontal_axis(
            across,
            PLOT_TOP,
            PLOT_BOTTOM,
            f"predicted change, {name}",
            with_sign=True,
            factor=factor,
        ),
        label(f"actual change, {name}", 0, 10, "axis-name"),
        *_reference_lines(across, up, noise, slope),
    ]
    groups = list(dict.fromkeys(point.group for point in points))
    for point in points:
        order = groups.index(point.group) % len(SHAPES)
        said = (
            f"{point.label}: predicted {change(point.predicted, unit)}, "
            f"actual {change(point.actual, unit)}"
        )
        drawn.append(
            marker(
                SHAPES[order],
                across(point.predicted),
                up(point.actual),
                f"point series-{order + 1}",
                said,
            )
        )
    return figure(
        kind="scatter",
        identifier=identifier,
        title=title,
        summary=scatter_summary(points, noise),
        drawing=join(drawn),
        height=HEIGHT,
        table=_table(points, unit),
        legend=_legend(groups, noise, slope),
        mark=mark,
    )


def scatter_summary(points: Sequence[ScatterPoint], noise: float | None) -> str:
    """How many pairs, how many agree in sign and how many lie within the noise band."""
    agreeing = sum(1 for point in points if point.predicted * point.actual > 0)
    text = f"{plural(len(points), 'pair')}; the sign agrees for {agreeing}."
    if noise is not None:
        inside = sum(1 for point in points if abs(point.actual - point.predicted) <= noise)
        text += f" {inside} within the seed noise of the identity line."
    return text


def _reference_lines(
    across: Scale, up: Scale, noise: float | None, slope: float | None
) -> list[SafeString]:
    low, high = across.low, across.high
    drawn = []
    if noise is not None:
        corners = [
            (low, low - noise),
            (high, high - noise),
            (high, high + noise),
            (low, low + noise),
        ]
        points = [(across(x), up.clamped(y)) for x, y in _clipped(corners, low, high)]
        drawn.append(stretched(points, HEIGHT, "noise-band", closed=True))
    drawn.append(
        stretched([(across(low), up(low)), (across(high), up(high))], HEIGHT, "identity-line")
    )
    if slope is not None:
        ends = [(x, slope * x) for x in _within(slope, low, high)]
        drawn.append(stretched([(across(x), up(y)) for x, y in ends], HEIGHT, "fit-line"))
    return drawn


def _within(slope: float, low: float, high: float) -> tuple[float, float]:
    """The range of x over which ``slope · x`` stays inside the plot."""
    if abs(slope) <= 1e-12:
        return low, high
    bounds = sorted((low / slope, high / slope))
    return max(low, bounds[0]), min(high, bounds[1])


def _clipped(
    corners: list[tuple[float, float]], low: float, high: float
) -> list[tuple[float, float]]:
    """The band's polygon cut by the plot's bottom and top (Sutherland–Hodgman on two edges)."""
    for sign, bound in ((1, low), (-1, high)):
        kept: list[tuple[float, float]] = []
        for here, there in zip(corners, corners[1:] + corners[:1], strict=True):
            is_inside = sign * (here[1] - bound) >= 0
            if is_inside:
                kept.append(here)
            if is_inside != (sign * (there[1] - bound) >= 0):
                share = (bound - here[1]) / (there[1] - here[1])
                kept.append((here[0] + share * (there[0] - here[0]), bound))
        corners = kept
    return corners


def _legend(groups: Sequence[str], noise: float | None, slope: float | None) -> list[LegendEntry]:
    entries = [
        LegendEntry(group, SHAPES[order % len(SHAPES)], f"point series-{order % len(SHAPES) + 1}")
        for order, group in enumerate(groups)
        if group
    ]
    entries.append(LegendEntry("identity: actual equals predicted", "line", "identity-line"))
    if slope is not None:
        entries.append(
            LegendEntry(f"fitted: actual is {slope:.2f} times predicted", "line", "fit-line")
        )
    if noise is not None:
        entries.append(LegendEntry("seed noise", "band", "noise-band"))
    return entries


def _table(points: Sequence[ScatterPoint], unit: str) -> Table:
    rows = [
        [point.label, point.group or "–", change(point.predicted, unit), change(point.actual, unit)]
        for point in points[:MOST_POINTS_IN_TABLE]
    ]
    if len(points) > MOST_POINTS_IN_TABLE:
        rows.append(
            [f"and {len(points) - MOST_POINTS_IN_TABLE:,} more, all drawn above", "", "", ""]
        )
    return Table(["Pair", "Group", "Predicted", "Actual"], rows)
