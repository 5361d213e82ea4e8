"""The scatter plot of the studies, in the manner of the benchmarks' line plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.plots import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, text

MARKS = ("circle", "square", "diamond", "triangle", "cross", "bar")


@dataclass(frozen=True)
class Point:
    group: str
    x: float
    y: float
    low: float
    high: float
    """Ends of the interval of y."""


def scatter_plot(points: Sequence[Point], *, title: str, x_name: str, y_name: str) -> str:
    """Points with the intervals of y and the diagonal y = x; a group has its colour and mark."""
    groups = list(dict.fromkeys(point.group for point in points))
    rows = (len(groups) + 1) // 2
    height = HEIGHT + 16 * max(0, rows - 2)
    across = Axis([0.0, *(point.x for point in points)], LEFT, WIDTH - RIGHT)
    ends = [end for point in points for end in (point.low, point.high)]
    up = Axis([0.0, *ends], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        text(title, LEFT, 24, size=15, weight=600),
        text(x_name, WIDTH - RIGHT, HEIGHT - BOTTOM + 36, anchor="end"),
        text(y_name, LEFT, TOP - 6),
    ]
    for value in up.ticks:
        parts.append(f'<path d="M{LEFT} {up(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(f"{value:g}", LEFT - 8, up(value) + 4, anchor="end"))
    for value in across.ticks:
        parts.append(text(f"{value:g}", across(value), HEIGHT - BOTTOM + 18, anchor="middle"))
    low, high = max(across.low, up.low), min(across.high, up.high)
    parts.append(
        f'<path d="M{across(low):.1f} {up(low):.1f}L{across(high):.1f} {up(high):.1f}" '
        'stroke="#999" stroke-dasharray="3 3"/>'
    )
    for point in points:
        place = groups.index(point.group)
        x = across(point.x)
        parts.append(
            f'<path d="M{x:.1f} {up(point.low):.1f}V{up(point.high):.1f}" '
            f'stroke="{colour_of(place)}" stroke-opacity="0.5"/>'
        )
        parts.append(mark(place, x, up(point.y)))
    for place, group in enumerate(groups):
        x, y = LEFT + (place % 2) * 290, HEIGHT - 40 + (place // 2) * 16
        parts += [mark(place, x + 8, y - 4), text(group, x + 22, y)]
    return "\n".join([*parts, "</svg>\n"])


def mark(place: int, x: float, y: float) -> str:
    """A mark of radius 4 whose form, like its colour, tells the group."""
    paths = {
        "circle": f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
        "square": f"M{x - 3.5:.1f} {y - 3.5:.1f}h7v7h-7z",
        "diamond": f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z",
        "triangle": f"M{x:.1f} {y - 5:.1f}l5 9h-10z",
        "cross": f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8",
        "bar": f"M{x - 5:.1f} {y:.1f}h10",
    }
    colour = colour_of(place)
    return f'<path d="{paths[MARKS[place % len(MARKS)]]}" fill="{colour}" stroke="{colour}"/>'


def colour_of(place: int) -> str:
    """With its mark, different for each of 36 groups."""
    return COLOURS[(place + place // len(MARKS)) % len(COLOURS)]
