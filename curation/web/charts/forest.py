"""Forest plot: the predicted interval of each behaviour beside the actual and the placebo one."""

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
from curation.web.charts.scale import Scale, finite, padded
from curation.web.charts.svg import join, label, line, marker, rectangle
from curation.web.formatting import MISSING, change, change_unit, estimate, in_unit

LABEL_HEIGHT = 22
SERIES_HEIGHT = 15
ROW_GAP = 13
AXIS_HEIGHT = 40


@dataclass(frozen=True)
class Measure:
    """A change with its interval, in the behaviour's unit."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ForestRow:
    """One behaviour; ``noise`` is the half-width of the seed-noise band around no change."""

    label: str
    unit: str
    predicted: Measure | None = None
    actual: Measure | None = None
    placebo: Measure | None = None
    noise: float | None = None
    note: str = ""

    def series(self) -> list[tuple[str, str, Measure]]:
        """(name, marker shape, measure) of those present, in their fixed order."""
        known = (
            ("predicted", "circle", self.predicted),
            ("actual", "diamond", self.actual),
            ("placebo", "square", self.placebo),
        )
        return [(name, shape, measure) for name, shape, measure in known if measure is not None]


def forest_plot(
    rows: Sequence[ForestRow],
    *,
    identifier: str,
    title: str = "Predicted and actual change",
    mark: SafeString | str = "",
) -> SafeString:
    """One row a behaviour; behaviours of different units get a panel each, never one axis."""
    if not any(row.series() for row in rows):
        return empty_figure(
            kind="forest", identifier=identifier, title=title, reason="No prediction yet."
        )
    panels: dict[str, list[ForestRow]] = {}
    for row in rows:
        panels.setdefault(row.unit, []).append(row)
    top, drawn = 0.0, []
    for unit, members in panels.items():
        panel, height = _panel(unit, members, top)
        drawn.append(panel)
        top += height
    return figure(
        kind="forest",
        identifier=identifier,
        title=title,
        summary=forest_summary(rows),
        drawing=join(drawn),
        height=top,
        table=_table(rows),
        legend=_legend(rows),
        mark=mark,
    )


def forest_summary(rows: Sequence[ForestRow]) -> str:
    """The plot in a sentence or two: how many behaviours, and where the largest change lies."""
    count = len(rows)
    sentences = [f"{count} behaviour{'s' if count != 1 else ''}."]
    predicted = [row for row in rows if row.predicted]
    if predicted:
        clear = sum(1 for row in predicted if _excludes_zero(row.predicted))
        sentences.append(f"{clear} of {len(predicted)} predicted intervals exclude no change.")
    both = [row for row in rows if row.predicted and row.actual]
    if both:
        inside = sum(1 for row in both if _inside(row.actual, row.predicted))
        sentences.append(
            f"The actual change lies inside the predicted interval for {inside} of {len(both)}."
        )
    return " ".join(sentences)


def _excludes_zero(measure: Measure | None) -> bool:
    if measure is None or measure.low is None or measure.high is None:
        return False
    return measure.low > 0 or measure.high < 0


def _inside(actual: Measure | None, predicted: Measure | None) -> bool:
    if actual is None or predicted is None or predicted.low is None or predicted.high is None:
        return False
    return predicted.low <= actual.value <= predicted.high


def _panel(unit: str, rows: Sequence[ForestRow], top: float) -> tuple[SafeString, float]:
    extents: list[float | None] = []
    for row in rows:
        for _, _, measure in row.series():
            extents += [measure.value, measure.low, measure.high]
    largest = max((abs(value) for value in finite(extents)), default=0.0)
    # Noise far larger than every change would squash them: its band then runs off the plot.
    extents += [
        sign * min(row.noise, 1.5 * largest) for row in rows if row.noise for sign in (-1, 1)
    ]
    scale = Scale(*padded(extents, include_zero=True), 2, 98)
    drawn, y = [], top
    for row in rows:
        row_drawn, height = _row(row, scale, y)
        drawn.append(row_drawn)
        y += height
    factor = 100.0 if in_unit(1.0, unit)[1] == "%" else 1.0
    axis = horizontal_axis(
        scale, top + 4, y - 4, f"change, {change_unit(unit)}", with_sign=True, factor=factor
    )
    return join([axis, *drawn]), y - top + AXIS_HEIGHT


def _row(row: ForestRow, scale: Scale, top: float) -> tuple[SafeString, float]:
    series = row.series()
    body = top + LABEL_HEIGHT
    height = SERIES_HEIGHT * max(len(series), 1)
    drawn = []
    if row.noise is not None:
        left, right = scale.clamped(-row.noise), scale.clamped(row.noise)
        drawn.append(rectangle(left, body - 2, right - left, height + 2, "noise-band"))
    drawn.append(name_label(row.label, top + 15, beside=bool(row.note)))
    if row.note:
        drawn.append(label(row.note, 100, top + 15, "row-note", "end"))
    for position, (name, shape, measure) in enumerate(series):
        y = body + SERIES_HEIGHT * (position + 0.5)
        if measure.low is not None and measure.high is not None:
            left, right = scale(measure.low), scale(measure.high)
            drawn.append(line(left, y, right, y, f"{name} whisker"))
            drawn += [line(x, y - 4, x, y + 4, f"{name} whisker-end") for x in (left, right)]
        said = (
            f"{row.label}, {name}: {estimate(measure.value, measure.low, measure.high, row.unit)}"
        )
        drawn.append(marker(shape, scale(measure.value), y, name, said))
    return join(drawn), LABEL_HEIGHT + height + ROW_GAP


def name_label(text: str, y: float, beside: bool = False) -> SafeString:
    """A row's name, in a shorter form on narrow screens; ``beside`` leaves room for a note."""
    wide, narrow = (_shortened(text, 60), _shortened(text, 24 if beside else 38))
    if wide == narrow:
        return label(text, 0, y, "row-name")
    return join(
        [label(wide, 0, y, "row-name wide-only"), label(narrow, 0, y, "row-name narrow-only")]
    )


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _legend(rows: Sequence[ForestRow]) -> list[LegendEntry]:
    words = {
        "predicted": "predicted (hypothesis)",
        "actual": "actual, from retrains",
        "placebo": "placebo: the same edit on random examples",
    }
    present = {name: shape for row in rows for name, shape, _ in row.series()}
    entries = [LegendEntry(words[name], present[name], name) for name in words if name in present]
    if any(row.noise is not None for row in rows):
        entries.append(
            LegendEntry("seed noise: one standard deviation between seeds", "band", "noise-band")
        )
    return entries


def _table(rows: Sequence[ForestRow]) -> Table:
    names = [
        name
        for name in ("predicted", "actual", "placebo")
        if any(getattr(row, name) for row in rows)
    ]
    with_noise = any(row.noise is not None for row in rows)
    with_note = any(row.note for row in rows)
    headings = ["Behaviour", *(name.capitalize() for name in names)]
    headings += ["Seed noise"] * with_noise + ["Verdict"] * with_note
    body = []
    for row in rows:
        cells = [row.label]
        for name in names:
            measure: Measure | None = getattr(row, name)
            cells.append(
                estimate(measure.value, measure.low, measure.high, row.unit) if measure else MISSING
            )
        if with_noise:
            cells.append(
                "±" + change(row.noise, row.unit).lstrip("+") if row.noise is not None else MISSING
            )
        if with_note:
            cells.append(row.note or MISSING)
        body.append(cells)
    return Table(headings, body)
