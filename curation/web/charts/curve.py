"""Learning curves: the mean over seeds with every seed's line and their spread behind it."""

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
from curation.web.charts.scale import Scale, finite, padded
from curation.web.charts.svg import join, label, stretched
from curation.web.formatting import in_unit, number, plural, with_unit

HEIGHT = 260
PLOT_TOP, PLOT_BOTTOM = 24, 216


@dataclass(frozen=True)
class Curve:
    """One quantity over training: ``values[seed][point]`` at ``positions[point]``."""

    name: str
    positions: Sequence[float]
    values: Sequence[Sequence[float]]


def learning_curve(
    curves: Sequence[Curve],
    *,
    identifier: str,
    unit: str,
    position_name: str = "epoch",
    title: str = "Learning curve",
) -> SafeString:
    """Up to three curves share the axes; a band spans the seeds, the strong line is their mean."""
    curves = [curve for curve in curves if curve.positions and curve.values][:3]
    if not curves:
        return empty_figure(
            kind="curve",
            identifier=identifier,
            title=title,
            reason="Training has not reported yet.",
        )
    everything = finite(value for curve in curves for seed in curve.values for value in seed)
    positions = [position for curve in curves for position in curve.positions]
    low, high = min(positions), max(positions)
    across = Scale(low, high if high > low else low + 1, 10, 99)
    up = Scale(*padded(everything), PLOT_BOTTOM, PLOT_TOP)
    factor = 100.0 if in_unit(1.0, unit)[1] == "%" else 1.0
    drawn = [
        vertical_axis(up, factor=factor),
        horizontal_axis(across, PLOT_BOTTOM, PLOT_BOTTOM, position_name),
        label(in_unit(1.0, unit)[1], 0, 9, "axis-name"),
    ]
    legend = []
    for order, curve in enumerate(curves, start=1):
        drawn.append(_curve(curve, across, up, order))
        legend.append(
            LegendEntry(
                f"{curve.name}, mean of {plural(len(curve.values), 'seed')}",
                "line",
                f"mean-line series-{order}",
            )
        )
    if any(len(curve.values) > 1 for curve in curves):
        legend.append(LegendEntry("spread over seeds", "band", "spread series-1"))
    return figure(
        kind="curve",
        identifier=identifier,
        title=title,
        summary=_summary(curves, unit),
        drawing=join(drawn),
        height=HEIGHT,
        table=_table(curves, unit, position_name),
        legend=legend,
    )


def _curve(curve: Curve, across: Scale, up: Scale, order: int) -> SafeString:
    columns = list(zip(*curve.values, strict=True))
    x = [across(position) for position in curve.positions]
    lows, means, highs = _lows(columns), _means(columns), _highs(columns)
    drawn = []
    if len(curve.values) > 1:
        upper = [(a, up(b)) for a, b in zip(x, highs, strict=True)]
        lower = [(a, up(b)) for a, b in zip(x, lows, strict=True)]
        drawn.append(stretched(upper + lower[::-1], HEIGHT, f"spread series-{order}", closed=True))
        drawn += [
            stretched(
                [(a, up(b)) for a, b in zip(x, seed, strict=True)],
                HEIGHT,
                f"seed-line series-{order}",
            )
            for seed in curve.values
        ]
    drawn.append(
        stretched(
            [(a, up(b)) for a, b in zip(x, means, strict=True)], HEIGHT, f"mean-line series-{order}"
        )
    )
    return join(drawn)


def _means(columns: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in columns]


def _lows(columns: Sequence[Sequence[float]]) -> list[float]:
    return [min(column) for column in columns]


def _highs(columns: Sequence[Sequence[float]]) -> list[float]:
    return [max(column) for column in columns]


def _summary(curves: Sequence[Curve], unit: str) -> str:
    sentences = []
    for curve in curves:
        columns = list(zip(*curve.values, strict=True))
        first, last = _means(columns)[0], _means(columns)[-1]
        said = "" if in_unit(1.0, unit)[1] in curve.name else unit  # "loss" is said already
        name = curve.name[:1].upper() + curve.name[1:]
        sentences.append(
            f"{name}: from {with_unit(first, said)} to {with_unit(last, said)}; "
            f"seeds end between {with_unit(_lows(columns)[-1], said)} "
            f"and {with_unit(_highs(columns)[-1], said)}."
        )
    return " ".join(sentences)


def _table(curves: Sequence[Curve], unit: str, position_name: str) -> Table:
    headings = [position_name.capitalize()]
    for curve in curves:
        headings += [f"{curve.name}, mean", f"{curve.name}, lowest and highest seed"]
    positions = sorted({position for curve in curves for position in curve.positions})
    rows = []
    for position in positions:
        row = [number(position, 0 if float(position).is_integer() else 2)]
        for curve in curves:
            row += _cells(curve, position, unit)
        rows.append(row)
    return Table(headings, rows)


def _cells(curve: Curve, position: float, unit: str) -> list[str]:
    if position not in curve.positions:
        return ["–", "–"]
    at = list(curve.positions).index(position)
    column = [seed[at] for seed in curve.values]
    spread = f"{with_unit(min(column), unit)} to {with_unit(max(column), unit)}"
    return [with_unit(sum(column) / len(column), unit), spread]
