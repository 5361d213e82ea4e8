"""Per-seed dots: what each retrain gave, arm by arm, with the mean and its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from curation.web.charts.figure import (
    LegendEntry,
    Table,
    empty_figure,
    figure,
    horizontal_axis,
)
from curation.web.charts.forest import Measure
from curation.web.charts.scale import Scale, padded
from curation.web.charts.svg import join, label, line, marker, rectangle
from curation.web.formatting import (
    change,
    change_unit,
    decimals_for,
    estimate,
    in_unit,
    plural,
    with_unit,
)

ROW_HEIGHT = 54
_LOOKS = {
    "predicted": "circle",
    "actual": "diamond",
    "placebo": "square",
    "edited": "diamond",
    "unedited": "circle",
}


@dataclass(frozen=True)
class SeedGroup:
    """The values of one arm: ``values`` maps seed to value; ``kind`` decides colour and shape."""

    label: str
    kind: str
    values: dict[int, float]
    mean: Measure | None = None


def seed_dots(
    groups: Sequence[SeedGroup],
    *,
    identifier: str,
    unit: str,
    title: str = "Every retrain",
    changes: bool = True,
    predicted: Measure | None = None,
) -> SafeString:
    """One dot a seed. ``changes`` are differences (with sign and zero line), else levels.

    ``predicted`` is drawn as a band behind the dots, so that one sees which retrains it covers.
    """
    groups = [group for group in groups if group.values]
    if not groups:
        return empty_figure(
            kind="seeds", identifier=identifier, title=title, reason="No retrain has finished yet."
        )
    extents: list[float | None] = [value for group in groups for value in group.values.values()]
    for measure in [predicted, *(group.mean for group in groups)]:
        if measure:
            extents += [measure.value, measure.low, measure.high]
    scale = Scale(*padded(extents, include_zero=changes), 2, 98)
    height = ROW_HEIGHT * len(groups)
    factor = 100.0 if in_unit(1.0, unit)[1] == "%" else 1.0
    shown_unit = f"change, {change_unit(unit)}" if changes else in_unit(1.0, unit)[1]
    drawn = []
    if predicted and predicted.low is not None and predicted.high is not None:
        left, right = scale(predicted.low), scale(predicted.high)
        drawn.append(rectangle(left, 4, right - left, height - 4, "predicted-band"))
    drawn.append(horizontal_axis(scale, 4, height, shown_unit, with_sign=changes, factor=factor))
    write = _writer(groups, unit, changes)
    for row, group in enumerate(groups):
        drawn.append(_group(group, scale, row * ROW_HEIGHT, write))
    rows = [
        [group.label, str(seed), write(value)]
        for group in groups
        for seed, value in sorted(group.values.items())
    ]
    return figure(
        kind="seeds",
        identifier=identifier,
        title=title,
        summary=_summary(groups, unit, changes),
        drawing=join(drawn),
        height=height + 40,
        table=Table(["Arm", "Seed", "Value"], rows),
        legend=_legend(groups, predicted),
    )


def _writer(groups: Sequence[SeedGroup], unit: str, changes: bool) -> Callable[[float], str]:
    """One number of decimals for every dot, from the spread of all of them."""
    values = [value for group in groups for value in group.values.values()]
    factor = 100 if in_unit(1.0, unit)[1] == "%" else 1
    decimals = decimals_for(
        factor * (max(values) - min(values)) or factor * max(map(abs, values)), significant=3
    )
    write = change if changes else with_unit
    return lambda value: write(value, unit, decimals)


def _group(group: SeedGroup, scale: Scale, top: float, write: Callable[[float], str]) -> SafeString:
    shape = _LOOKS.get(group.kind, "circle")
    middle = top + 36
    drawn = [label(f"{group.label}, {plural(len(group.values), 'seed')}", 0, top + 16, "row-name")]
    for order, (seed, value) in enumerate(sorted(group.values.items())):
        # A fixed zigzag keeps equal values apart without pretending that height means anything.
        y = middle + (-5, 5, 0)[order % 3]
        drawn.append(
            marker(shape, scale(value), y, f"{group.kind} seed-dot", f"seed {seed}: {write(value)}")
        )
    if group.mean:
        if group.mean.low is not None and group.mean.high is not None:
            drawn.append(
                line(
                    scale(group.mean.low),
                    middle,
                    scale(group.mean.high),
                    middle,
                    f"{group.kind} whisker",
                )
            )
        drawn.append(
            line(
                scale(group.mean.value),
                middle - 10,
                scale(group.mean.value),
                middle + 10,
                f"{group.kind} mean-tick",
            )
        )
    return join(drawn)


def _summary(groups: Sequence[SeedGroup], unit: str, changes: bool) -> str:
    sentences, write = [], _writer(groups, unit, changes)
    for group in groups:
        values = list(group.values.values())
        if group.mean and changes:
            said = f"mean {estimate(group.mean.value, group.mean.low, group.mean.high, unit)}"
        else:
            said = f"mean {write(sum(values) / len(values))}"
        sentences.append(
            f"{group.label}: {said}, seeds from {write(min(values))} to {write(max(values))}."
        )
    return " ".join(sentences)


def _legend(groups: Sequence[SeedGroup], predicted: Measure | None) -> list[LegendEntry]:
    entries = [
        LegendEntry(group.label, _LOOKS.get(group.kind, "circle"), group.kind) for group in groups
    ]
    if predicted and predicted.low is not None:
        entries.append(LegendEntry("predicted interval (hypothesis)", "band", "predicted-band"))
    return entries
