"""Charts are safe markup, tell their content in words and show every number in a table."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from curation.web.charts.curve import Curve, learning_curve
from curation.web.charts.forest import ForestRow, Measure, forest_plot, forest_summary
from curation.web.charts.histogram import Bar, bar_list, histogram
from curation.web.charts.scale import Scale, padded, ticks
from curation.web.charts.scatter import ScatterPoint, _clipped, scatter_plot
from curation.web.charts.seeds import SeedGroup, seed_dots
from curation.web.charts.waterfall import WaterfallStep, waterfall

ATTACK = '<script>alert("x")</script>'


def every_chart(name: str = "Positive tweets") -> dict[str, str]:
    measure = Measure(0.03, 0.01, 0.05)
    return {
        "forest": forest_plot(
            [ForestRow(name, "logits", measure, measure, measure, 0.02, note=name)],
            identifier="a",
            title=name,
        ),
        "scatter": scatter_plot(
            [ScatterPoint(name, 0.1, 0.2, name), ScatterPoint("other", -0.1, 0.1)],
            identifier="b",
            unit="logits",
            noise=0.05,
            slope=1.3,
            title=name,
        ),
        "waterfall": waterfall(
            (name, 0.3),
            [WaterfallStep(name, -0.1, name)],
            ("actual", 0.1),
            identifier="c",
            unit="logits",
        ),
        "curve": learning_curve(
            [Curve(name, [0, 1, 2], [[1.0, 0.5, 0.2], [1.1, 0.4, 0.3]])],
            identifier="d",
            unit="nats",
        ),
        "histogram": histogram(
            [0, 1, 2], [3, 4], identifier="e", title=name, unit=name, marks=[(name, 1.0)]
        ),
        "bars": bar_list([Bar(name, 3, 4), Bar("b", 1, 1)], identifier="f", title=name),
        "seeds": seed_dots(
            [SeedGroup(name, "actual", {5: 0.1, 6: 0.2}, Measure(0.15, 0.1, 0.2))],
            identifier="g",
            unit="logits",
            predicted=measure,
        ),
    }


@pytest.mark.parametrize("kind", sorted(every_chart()))
class TestEveryChart:
    def test_text_of_users_is_escaped_everywhere(self, kind: str) -> None:
        chart = every_chart(ATTACK)[kind]
        assert "<script" not in chart
        assert "&lt;script&gt;" in chart

    def test_it_is_well_formed_and_passes_a_strict_content_security_policy(self, kind: str) -> None:
        chart = every_chart()[kind]
        ElementTree.fromstring(chart)
        assert " style=" not in chart
        assert not re.search(r"\son\w+=", chart)

    def test_the_image_has_a_name_a_summary_and_a_table(self, kind: str) -> None:
        root = ElementTree.fromstring(every_chart()[kind])
        image = next(node for node in root.iter("svg") if node.get("role") == "img")
        named = {node.get("id"): node.text for node in root.iter() if node.get("id")}
        assert named[image.get("aria-labelledby")]
        assert named[image.get("aria-describedby")]
        assert root.find("details/div/table/tbody/tr") is not None

    def test_positions_are_finite(self, kind: str) -> None:
        assert "nan" not in every_chart()[kind].lower().replace("finance", "")


def tooltips(chart: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(chart).iter("title")]


def test_forest_rows_of_different_units_never_share_an_axis() -> None:
    rows = [
        ForestRow("margin", "logits", Measure(5.0, 4.0, 6.0)),
        ForestRow("chance", "probability", Measure(0.02, 0.01, 0.03)),
    ]
    chart = forest_plot(rows, identifier="f")
    assert "change, logits" in chart
    assert "change, points" in chart
    assert any("+2.00" in text and "points" in text for text in tooltips(chart))


def test_forest_summary_counts_intervals_that_hold_the_actual_change() -> None:
    inside = ForestRow("a", "nats", Measure(0.3, 0.1, 0.5), Measure(0.2, 0.1, 0.3))
    outside = ForestRow("b", "nats", Measure(0.3, -0.1, 0.5), Measure(0.9, 0.8, 1.0))
    summary = forest_summary([inside, outside])
    assert "1 of 2 predicted intervals exclude no change" in summary
    assert "inside the predicted interval for 1 of 2" in summary


def test_forest_says_why_it_is_empty() -> None:
    assert "No prediction yet" in forest_plot([ForestRow("a", "nats")], identifier="f")


def test_the_noise_band_of_the_scatter_stays_inside_the_plot() -> None:
    corners = [(-1.0, -1.5), (1.0, 0.5), (1.0, 1.5), (-1.0, -0.5)]
    clipped = _clipped(corners, -1.0, 1.0)
    assert all(-1.0 <= y <= 1.0 for _, y in clipped)
    assert (-0.5, -1.0) in [(round(x, 9), round(y, 9)) for x, y in clipped]


def test_every_pair_is_drawn_even_when_the_table_is_shortened() -> None:
    points = [ScatterPoint(f"pair {n}", n / 700, n / 700) for n in range(700)]
    chart = scatter_plot(points, identifier="s", unit="nats")
    assert chart.count("point series-1") == 700
    assert "and 200 more, all drawn above" in chart


def test_the_ladder_shows_what_its_steps_leave_open() -> None:
    chart = waterfall(
        ("predicted", 0.3),
        [WaterfallStep("solver", -0.1)],
        ("actual", 0.1),
        identifier="w",
        unit="nats",
    )
    assert "Not explained" in chart
    closed = waterfall(
        ("predicted", 0.3),
        [WaterfallStep("solver", -0.2)],
        ("actual", 0.1),
        identifier="w",
        unit="nats",
    )
    assert "Not explained" not in closed


def test_every_seed_is_a_dot_that_says_its_value() -> None:
    chart = seed_dots(
        [SeedGroup("Edited", "actual", {7: 0.1, 8: -0.2, 9: 0.1})], identifier="d", unit="logits"
    )
    assert {"seed 7: +0.100\u00a0logits", "seed 8: −0.200\u00a0logits"} <= set(tooltips(chart))


def test_a_histogram_refuses_edges_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="2 counts need 3 edges"):
        histogram([0, 1], [1, 2], identifier="h", title="Lengths", unit="words")


class TestScales:
    @pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.013, 0.0021), (3e-9, 8e-9), (-1e6, 5e7)])
    def test_ticks_are_round_ordered_and_inside(self, low: float, high: float) -> None:
        values = ticks(low, high)
        assert 2 <= len(values) <= 9
        assert values == sorted(values)
        slack = 1e-9 * (high - low)
        assert all(low - slack <= value <= high + slack for value in values)

    def test_a_constant_still_gets_room(self) -> None:
        low, high = padded([0.4, 0.4])
        assert low < 0.4 < high

    def test_missing_and_infinite_values_do_not_move_the_scale(self) -> None:
        assert padded([0.0, 1.0, None, float("inf"), float("nan")]) == padded([0.0, 1.0])

    def test_a_scale_maps_ends_to_ends(self) -> None:
        scale = Scale(-1, 3, 10, 90)
        assert (scale(-1), scale(3), scale(1)) == (10, 90, 50)
