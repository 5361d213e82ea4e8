"""Waterfall: how a predicted change becomes the actual one, step by step (the ladder)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from curation.web.charts.figure import LegendEntry, Table, figure, horizontal_axis
from curation.web.charts.scale import Scale, padded
from curation.web.charts.svg import join, label, line, rectangle
from curation.web.formatting import change, change_unit, decimals_for, in_unit

ROW_HEIGHT = 46
BAR_HEIGHT = 16


@dataclass(frozen=True)
class WaterfallStep:
    """One step of the ladder: what it adds to the running value, and why it is there."""

    label: str
    change: float
    explanation: str = ""


def waterfall(
    start: tuple[str, float],
    steps: Sequence[WaterfallStep],
    end: tuple[str, float],
    *,
    identifier: str,
    unit: str,
    title: str = "Why the prediction missed",
) -> SafeString:
    """From ``start`` (name, value) by ``steps`` to ``end``; what is left open becomes a step."""
    left_open = end[1] - start[1] - sum(step.change for step in steps)
    span = max(abs(start[1]), abs(end[1]), *(abs(step.change) for step in steps), 0.0)
    if abs(left_open) > 1e-6 * (span or 1.0):
        steps = [
            *steps,
            WaterfallStep("Not explained", left_open, "what the steps above leave open"),
        ]
    levels = [start[1]]
    for step in steps:
        levels.append(levels[-1] + step.change)
    scale = Scale(*padded([*levels, end[1]], include_zero=True), 2, 98)
    height = ROW_HEIGHT * (len(steps) + 2)
    factor = 100.0 if in_unit(1.0, unit)[1] == "%" else 1.0
    drawn = [
        horizontal_axis(
            scale, 2, height, f"change, {change_unit(unit)}", with_sign=True, factor=factor
        )
    ]
    write = _writer(unit, [start[1], end[1]])
    drawn.append(_bar(scale, 0, start[0], 0.0, start[1], write(start[1]), "predicted bar"))
    for row, step in enumerate(steps, start=1):
        before, after = levels[row - 1], levels[row]
        drawn.append(
            line(
                scale(before),
                _bar_top(row - 1) + BAR_HEIGHT,
                scale(before),
                _bar_top(row),
                "connector",
            )
        )
        kind = "rise bar" if step.change >= 0 else "fall bar"
        drawn.append(_bar(scale, row, step.label, before, after, write(step.change), kind))
    drawn.append(_bar(scale, len(steps) + 1, end[0], 0.0, end[1], write(end[1]), "actual bar"))
    return figure(
        kind="waterfall",
        identifier=identifier,
        title=title,
        summary=_summary(start, steps, end, unit),
        drawing=join(drawn),
        height=height + 40,
        table=_table(start, steps, end, unit),
        legend=[
            LegendEntry("raises", "band", "rise bar"),
            LegendEntry("lowers", "band", "fall bar"),
        ],
    )


def _writer(unit: str, sizes: Sequence[float]) -> Callable[[float], str]:
    """One number of decimals for the whole ladder, from its two ends."""
    factor = 100 if in_unit(1.0, unit)[1] == "%" else 1
    decimals = decimals_for(*(factor * size for size in sizes)) + 1
    return lambda value: change(value, unit, decimals)


def _bar_top(row: int) -> float:
    return row * ROW_HEIGHT + 22


def _bar(
    scale: Scale,
    row: int,
    name: str,
    before: float,
    after: float,
    value: str,
    class_: str,
) -> SafeString:
    left, right = sorted((scale(before), scale(after)))
    top = row * ROW_HEIGHT
    return join(
        [
            label(name, 0, top + 15, "row-name"),
            label(value, 100, top + 15, "row-note", "end"),
            rectangle(left, _bar_top(row), max(right - left, 0.4), BAR_HEIGHT, class_),
        ]
    )


def _summary(
    start: tuple[str, float], steps: Sequence[WaterfallStep], end: tuple[str, float], unit: str
) -> str:
    write = _writer(unit, [start[1], end[1]])
    text = f"From {write(start[1])} ({start[0]}) to {write(end[1])} ({end[0]})."
    if steps:
        largest = max(steps, key=lambda step: abs(step.change))
        text += f" The largest step is {largest.label}: {write(largest.change)}."
    return text


def _table(
    start: tuple[str, float], steps: Sequence[WaterfallStep], end: tuple[str, float], unit: str
) -> Table:
    write = _writer(unit, [start[1], end[1]])
    rows = [[start[0], write(start[1]), ""]]
    rows += [[step.label, write(step.change), step.explanation] for step in steps]
    rows.append([end[0], write(end[1]), ""])
    return Table(["Step", "Change", "What it is"], rows)
