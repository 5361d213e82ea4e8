"""How a study is told: docs/studies/NAME.md in plain words, its figures, and NAME.json with every
number. The sentences that depend on numbers are made from them, so that a study which fails says
so."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import ROOT, commit, machine
from studies.figures import Point, scatter_plot
from studies.study import LEVEL, SIZE_FACTOR, Attribution, Outcome, Study
from workers.evidence.track_record import Rate, TrackRecord, summarise

FOLDER = ROOT / "docs" / "studies"


@dataclass(frozen=True)
class Table:
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | float | int]]


@dataclass(frozen=True)
class Story:
    """What a study says beside the table of predictions. Paragraphs are Markdown."""

    title: str
    question: Sequence[str]
    setting: Sequence[str]
    findings: Sequence[str]
    limits: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    """SVG texts by title."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What the findings quote, for the JSON and for tests."""


@dataclass(frozen=True)
class Line:
    """One effect that a verdict was given for."""

    edit: str
    behaviour: str
    is_placebo: bool
    predicted: float
    predicted_low: float
    predicted_high: float
    actual: float
    actual_low: float
    actual_high: float
    verdict: str
    reason: str


def lines_of(study: Study, outcome: Outcome) -> list[Line]:
    """The effects that verdicts were given for, in the order of the plan."""
    return list(_lines(study, outcome))


def _lines(study: Study, outcome: Outcome) -> Iterator[Line]:
    plan = outcome.registration
    for e, (edit, verdicts) in enumerate(zip(plan.edits, outcome.verdicts, strict=True)):
        for k, verdict in zip(edit.reads, verdicts, strict=True):
            yield Line(
                edit.name,
                study.names[k],
                edit.is_placebo,
                float(plan.predicted[e, k]),
                float(plan.low[e, k]),
                float(plan.high[e, k]),
                float(outcome.effect[e, k]),
                float(outcome.effect_low[e, k]),
                float(outcome.effect_high[e, k]),
                verdict.verdict,
                verdict.reason,
            )


def record_of(lines: Sequence[Line]) -> TrackRecord:
    """Slope, rank, sign and coverage of these effects; edits count as independent tests."""
    return summarise(
        [line.predicted for line in lines],
        [line.actual for line in lines],
        [line.predicted_low for line in lines],
        [line.predicted_high for line in lines],
        tests=[line.edit for line in lines],
        verdicts=[line.verdict for line in lines],
    )


def write_story(
    study: Study,
    attribution: Attribution,
    outcome: Outcome,
    story: Story,
    folder: Path = FOLDER,
) -> Path:
    """Writes NAME.md, NAME.json and NAME-1.svg, …; returns the path of NAME.md."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = lines_of(study, outcome)
    figures = {"Predicted beside actual": _scatter(lines), **story.figures}
    files = {}
    for number, (title, svg) in enumerate(figures.items(), start=1):
        files[title] = f"{study.name}-{number}.svg"
        (folder / files[title]).write_text(svg, encoding="utf-8")
    record = record_of(lines)
    content = {
        "title": story.title,
        "command": f"make study ARGS={study.name}",
        "commit": commit(),
        "machine": machine(),
        "seconds": {
            "before the plan": round(attribution.seconds, 1),
            "retrains": round(outcome.seconds, 1),
        },
        "baseline_seeds": list(study.baseline_seeds),
        "fresh_seeds": list(study.fresh_seeds),
        "plan": outcome.registration.path.name,
        "plan_sha256": outcome.registration.sha256,
        "track_record": record.to_json(),
        "numbers": dict(story.numbers),
        "effects": [asdict(line) for line in lines],
        "figures": files,
    }
    (folder / f"{study.name}.json").write_text(_json(content), encoding="utf-8")
    path = folder / f"{study.name}.md"
    path.write_text(_markdown(content, story, lines, record), encoding="utf-8")
    return path


def _markdown(
    content: Mapping[str, Any], story: Story, lines: Sequence[Line], record: TrackRecord
) -> str:
    machine_words = ", ".join(f"{key} {value}" for key, value in content["machine"].items())
    seconds = sum(content["seconds"].values())
    files = content["figures"]
    parts = [
        f"# {story.title}",
        *story.question,
        "## What was done",
        *story.setting,
        f"The predictions come from replay over the baseline's seeds "
        f"{_words(content['baseline_seeds'])}. They were written to "
        f"[{content['plan']}]({content['plan']}) before any retrain started; the SHA-256 of that "
        f"file is `{content['plan_sha256']}`. Then every edit was retrained on the fresh seeds "
        f"{_words(content['fresh_seeds'])}, beside unedited runs of the same seeds.",
        "## What came out",
        *story.findings,
        _summary(record),
        *(f"![{title}]({file})" for title, file in files.items()),
        *(part for table in story.tables for part in (f"### {table.title}", _table(table))),
        "### Every registered effect",
        f"Effects are means of edited − unedited; predictions and effects with {LEVEL:.0%} "
        "intervals. A predicted interval knows the noise of seeds and reaches at least from a "
        f"third to {SIZE_FACTOR:g} times the prediction, since first-order estimates miss sizes. "
        "Verdicts follow the rule in the plan.",
        _effects(lines),
        *(["## Limits", *story.limits] if story.limits else []),
        "## Run it again",
        f"`{content['command']}` took {seconds:.0f} s at commit `{content['commit']}` on: "
        f"{machine_words}.",
    ]
    return "\n\n".join(parts) + "\n"


def _summary(record: TrackRecord) -> str:
    verdicts = ", ".join(f"{count} {name}" for name, count in record.verdict_counts.items())
    return (
        f"Over all {record.number_of_pairs} registered effects: the direction was right for "
        f"{_rate(record.sign_rate, percent=True)}, the rank correlation of predicted and actual is "
        f"{_rate(record.rank_correlation)}, and actual over predicted (the slope through the "
        f"origin) is {_rate(record.slope)}. Verdicts: {verdicts}."
    )


def _rate(rate: Rate, percent: bool = False) -> str:
    def spelled(value: float) -> str:
        return (f"{value:.0%}" if percent else f"{value:.2f}").replace("-", "−")

    if not math.isfinite(rate.value):
        return "not known"
    if not (math.isfinite(rate.low) and math.isfinite(rate.high)):
        return spelled(rate.value)
    return f"{spelled(rate.value)} (90% interval {spelled(rate.low)} to {spelled(rate.high)})"


def _effects(lines: Sequence[Line]) -> str:
    rows = [
        (
            line.edit + (" (placebo)" if line.is_placebo else ""),
            line.behaviour,
            _interval(line.predicted, line.predicted_low, line.predicted_high),
            _interval(line.actual, line.actual_low, line.actual_high),
            f"{line.verdict}: {line.reason}",
        )
        for line in lines
    ]
    return _table(Table("", ("edit", "behaviour", "predicted", "actual", "verdict"), rows))


def _interval(value: float, low: float, high: float) -> str:
    return f"{signed(value)} ({signed(low)} to {signed(high)})"


def signed(value: float) -> str:
    """Three digits, with its sign."""
    return f"{value:+.3g}".replace("-", "−")


def _table(table: Table) -> str:
    lines = ["| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
    for row in table.rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _words(numbers: Sequence[int]) -> str:
    return f"{numbers[0]} to {numbers[-1]}"


def _scatter(lines: Sequence[Line]) -> str:
    points = [
        Point(line.behaviour, line.predicted, line.actual, line.actual_low, line.actual_high)
        for line in lines
    ]
    return scatter_plot(
        points, title="Predicted beside actual", x_name="predicted", y_name="actual"
    )


def _json(content: Mapping[str, Any]) -> str:
    def plain(value: object) -> object:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"{type(value).__name__} has no JSON form")

    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, default=plain) + "\n"
