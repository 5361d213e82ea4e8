"""The smallest thing that writes SVG safely: elements with escaped attributes and text.

Horizontal positions are percentages and vertical ones pixels, so that a chart fills a phone or a
wide screen without its letters shrinking. Colours come from the stylesheet by class, never from
attributes, so that charts follow light and dark.
"""

from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

Attribute = str | float | int | None


def element(name: str, *children: str, **attributes: Attribute) -> SafeString:
    """An element; ``class_`` becomes ``class``, ``_`` becomes ``-``; None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{conditional_escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(conditional_escape(child) for child in children)
    return mark_safe(f"<{name}{written}>{inside}</{name}>")  # noqa: S308 - escaped above


def join(parts: list[SafeString]) -> SafeString:
    return mark_safe("".join(parts))  # noqa: S308 - every part is safe already


def percent(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> SafeString:
    """A line; x in percent of the width, y in pixels."""
    return element("line", x1=percent(x1), y1=y1, x2=percent(x2), y2=y2, class_=class_)


def rectangle(x: float, y: float, width: float, height: float, class_: str) -> SafeString:
    return element(
        "rect",
        x=percent(x),
        y=y,
        width=percent(max(width, 0)),
        height=max(height, 0),
        class_=class_,
    )


def label(text: str, x: float, y: float, class_: str = "tick", anchor: str = "start") -> SafeString:
    return element("text", text, x=percent(x), y=y, class_=class_, text_anchor=anchor)


_SHAPES = {
    "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "diamond": "M0 -6.2L6.2 0L0 6.2L-6.2 0z",
    "square": "M-4.4 -4.4H4.4V4.4H-4.4z",
    "triangle": "M0 -5.6L5.4 4.4H-5.4z",
}


def marker(shape: str, x: float, y: float, class_: str, tooltip: str = "") -> SafeString:
    """A mark of a fixed size: shape and fill tell the series apart without colour."""
    path = element("path", d=_SHAPES[shape], class_=class_)
    parts = [element("title", tooltip)] if tooltip else []
    return element("svg", *parts, path, x=percent(x), y=y, overflow="visible", width=1, height=1)


def stretched(
    points: list[tuple[float, float]], height: float, class_: str, closed: bool = False
) -> SafeString:
    """A polyline or area over the full width: x in percent, y in pixels of ``height``.

    Its strokes keep their width (``vector-effect`` in the stylesheet) while it is stretched.
    """
    text = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    shape = element("polygon" if closed else "polyline", points=text, class_=class_)
    return element(
        "svg",
        shape,
        viewBox=f"0 0 100 {height:g}",
        preserveAspectRatio="none",
        x=0,
        y=0,
        width="100%",
        height=height,
    )


def _plain(value: Attribute) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
