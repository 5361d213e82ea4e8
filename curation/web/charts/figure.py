"""The frame around every chart: title, text summary, legend, drawing and the numbers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import conditional_escape
from django.utils.safestring import SafeString

from curation.web.charts.scale import Scale, tick_decimals, ticks
from curation.web.charts.svg import element, join, label, line, marker
from curation.web.formatting import number, signed


@dataclass(frozen=True)
class LegendEntry:
    """One key of the legend; ``shape`` is a marker name, ``line`` or ``band``."""

    text: str
    shape: str
    class_: str


@dataclass(frozen=True)
class Table:
    """The chart's numbers: the first cell of each row is its heading."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


def figure(
    *,
    kind: str,
    identifier: str,
    title: str,
    summary: str,
    drawing: SafeString,
    height: float,
    table: Table,
    legend: Sequence[LegendEntry] = (),
    mark: SafeString | str = "",
) -> SafeString:
    """A ``<figure>`` whose drawing is one image, named by ``title`` and described by ``summary``.

    ``identifier`` must be unique on the page; ``mark`` stands beside the title.
    """
    title_id, summary_id = f"{identifier}-title", f"{identifier}-summary"
    image = element(
        "svg",
        element("title", title, id=title_id),
        element("desc", summary, id=summary_id),
        drawing,
        role="img",
        aria_labelledby=title_id,
        aria_describedby=summary_id,
        width="100%",
        height=height,
        class_="chart-image",
    )
    caption = element(
        "figcaption",
        element("span", title, class_="chart-title"),
        conditional_escape(mark),
        element("span", summary, class_="chart-summary"),
    )
    parts = [caption, legend_list(legend), image, data_table(table, title)]
    return element(
        "figure",
        join([part for part in parts if part]),
        class_=f"chart chart-{kind}",
        id=identifier,
    )


def empty_figure(*, kind: str, identifier: str, title: str, reason: str) -> SafeString:
    """What stands in a chart's place while there is nothing to draw: the reason, not a blank."""
    caption = element("figcaption", element("span", title, class_="chart-title"))
    return element(
        "figure",
        caption,
        element("p", reason, class_="empty-note"),
        class_=f"chart chart-{kind}",
        id=identifier,
    )


def legend_list(entries: Sequence[LegendEntry]) -> SafeString:
    if not entries:
        return join([])
    return element(
        "ul",
        *(element("li", _swatch(entry), element("span", entry.text)) for entry in entries),
        class_="chart-legend",
    )


def _swatch(entry: LegendEntry) -> SafeString:
    if entry.shape == "line":
        drawn = element("line", x1=1, y1=8, x2=23, y2=8, class_=entry.class_)
    elif entry.shape == "band":
        drawn = element("rect", x=1, y=3, width=22, height=10, class_=entry.class_)
    else:
        drawn = join(
            [
                element("line", x1=1, y1=8, x2=23, y2=8, class_=f"{entry.class_} whisker"),
                marker(entry.shape, 50, 8, entry.class_),
            ]
        )
    return element("svg", drawn, width=24, height=16, aria_hidden="true", class_="swatch")


def data_table(table: Table, caption: str) -> SafeString:
    """The numbers behind a chart, folded away."""
    head = element("tr", *(element("th", heading, scope="col") for heading in table.headings))
    body = [
        element(
            "tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])
        )
        for row in table.rows
    ]
    written = element(
        "table",
        element("caption", caption, class_="visually-hidden"),
        element("thead", head),
        element("tbody", *body),
        class_="numbers",
    )
    scroll = element(
        "div",
        written,
        class_="table-scroll",
        tabindex=0,
        role="region",
        aria_label=f"Numbers: {caption}",
    )
    return element("details", element("summary", "Show the numbers"), scroll, class_="chart-data")


def horizontal_axis(
    scale: Scale,
    top: float,
    bottom: float,
    unit: str,
    *,
    with_sign: bool = False,
    factor: float = 1.0,
) -> SafeString:
    """Grid lines from ``top`` to ``bottom`` with their values, and the unit, below.

    ``factor`` turns data into the shown unit (100 for percentages).
    """
    values = ticks(scale.low * factor, scale.high * factor, 5)
    decimals = tick_decimals(values)
    write = signed if with_sign else number
    drawn = []
    for value in values:
        x = scale(value / factor)
        kind = "zero-line" if value == 0 and with_sign else "grid"
        drawn.append(line(x, top, x, bottom, kind))
        anchor = "start" if x < 6 else "end" if x > 94 else "middle"
        drawn.append(label(write(value, decimals), x, bottom + 15, "tick", anchor))
    drawn.append(label(unit, 100, bottom + 31, "axis-name", "end"))
    return join(drawn)


def vertical_axis(scale: Scale, *, with_sign: bool = False, factor: float = 1.0) -> SafeString:
    """Grid lines over the full width, each with its value on top at the left edge."""
    values = ticks(scale.low * factor, scale.high * factor, 4)
    decimals = tick_decimals(values)
    write = signed if with_sign else number
    drawn = []
    for value in values:
        y = scale(value / factor)
        drawn.append(line(0, y, 100, y, "zero-line" if value == 0 and with_sign else "grid"))
        drawn.append(label(write(value, decimals), 0, y - 4))
    return join(drawn)
