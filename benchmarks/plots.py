"""One plain line plot as a self-contained SVG, for the benchmarks' reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#1f6feb", "#c2410c", "#15803d", "#7c3aed", "#0e7490", "#a16207")
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 4")
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 46, 96


@dataclass(frozen=True)
class Series:
    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_plot(
    series: Sequence[Series],
    *,
    title: str,
    x_name: str,
    y_name: str,
    identity: bool = False,
    logarithmic_x: bool = False,
) -> str:
    """Lines with a dot at each point; `identity` adds the diagonal y = x. NaN leaves a gap."""
    across = Axis([x for one in series for x in one.x], LEFT, WIDTH - RIGHT, logarithmic_x)
    every_y = [y for one in series for y in one.y if math.isfinite(y)]
    up = Axis([*every_y, *(across.values if identity else [])], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(title, LEFT, 24, size=15, weight=600),
    ]
    for value in up.ticks:
        y = up(value)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(f"{value:g}", LEFT - 8, y + 4, anchor="end"))
    for value in across.ticks:
        parts.append(text(f"{value:g}", across(value), HEIGHT - BOTTOM + 18, anchor="middle"))
    parts.append(text(x_name, WIDTH - RIGHT, HEIGHT - BOTTOM + 36, anchor="end"))
    parts.append(text(y_name, LEFT, TOP - 6))
    if identity:
        low, high = max(across.low, up.low), min(across.high, up.high)
        parts.append(
            f'<path d="M{across(low):.1f} {up(low):.1f}L{across(high):.1f} {up(high):.1f}" '
            'stroke="#999" stroke-dasharray="3 3"/>'
        )
    for place, one in enumerate(series):
        parts += drawn(one, across, up, place)
        x, y = LEFT + (place % 2) * 290, HEIGHT - 40 + (place // 2) * 16
        style = f'stroke="{COLOURS[place % 6]}" stroke-dasharray="{DASHES[place % 6]}"'
        parts.append(f'<path d="M{x} {y - 4}h24" stroke-width="2" {style}/>')
        parts.append(text(one.name, x + 30, y))
    return "\n".join([*parts, "</svg>\n"])


class Axis:
    """A linear or logarithmic map from values to pixels, with round ticks."""

    def __init__(
        self, values: Sequence[float], start: float, stop: float, logarithmic: bool = False
    ) -> None:
        self.values, self.logarithmic = values, logarithmic
        self.start, self.stop = start, stop
        self.low, self.high = min(values), max(values)
        if not logarithmic:
            air = 0.05 * (self.high - self.low) or 1.0
            self.low, self.high = self.low - air, self.high + air
        self.ticks = sorted(set(values)) if logarithmic else self._round_ticks()

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.stop - self.start)

    def _round_ticks(self) -> list[float]:
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.7 * rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]


def drawn(one: Series, across: Axis, up: Axis, place: int) -> list[str]:
    colour, dash = COLOURS[place % 6], DASHES[place % 6]
    points = [(across(x), up(y)) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    line = (
        f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dash}"/>'
    )
    return [
        line,
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points),
    ]


def text(
    words: str, x: float, y: float, *, anchor: str = "start", size: int = 12, weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="#333">{escape(words)}</text>'
    )
