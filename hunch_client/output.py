"""What the commands show: progress on standard error, results on standard output or as JSON."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from hunch_client.records import Effect, Job, Verdict

errors = Console(stderr=True, highlight=False)
REMINDER = "A prediction is a hypothesis, not a guarantee: retraining decides."


def emit(value: Any, as_json: bool, text: str = "") -> None:
    """Print the value as JSON, or the text."""
    if as_json:
        json.dump(_plain(value), sys.stdout, indent=1)
        sys.stdout.write("\n")
    elif text:
        sys.stdout.write(f"{text}\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows as a table; texts are shown as they are."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def show_effects(effects: Sequence[Effect], as_json: bool) -> None:
    """Predicted changes as a table, with their warnings."""
    if as_json:
        emit(list(effects), True)
        return
    table = Table("Behaviour", "Predicted change", "Interval", "Unit", "Better")
    for one in effects:
        interval = f"{one.low:+.4g} … {one.high:+.4g} ({one.level:.0%})"
        row = (one.behaviour, f"{one.value:+.4g}", interval, one.unit, one.better)
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    console.print(table)
    for one in effects:
        if one.combined:
            added = " + ".join(f"{weight:.2f} × {name}" for name, weight in one.combined.items())
            console.print(Text(f"{one.behaviour}: combination of {added}"))
    for warning in dict.fromkeys(warning for one in effects for warning in one.warnings):
        console.print(Text(f"Note: {warning}"))
    console.print(REMINDER)


def show_verdicts(verdicts: Sequence[Verdict], as_json: bool) -> None:
    """Predicted beside actual."""
    if as_json:
        emit(list(verdicts), True)
        return
    table = Table("Behaviour", "Predicted", "Actual", "Verdict", "Reason")
    for one in verdicts:
        name = f"{one.behaviour} (primary)" if one.is_primary else one.behaviour
        predicted = f"{one.predicted:+.4g} [{one.predicted_low:+.4g}, {one.predicted_high:+.4g}]"
        row = (name, predicted, _interval(one), one.outcome.replace("_", " "), one.reason)
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def _interval(one: Verdict) -> str:
    if one.actual is None:
        return "–"
    text = f"{one.actual:+.4g}"
    if one.actual_low is not None and one.actual_high is not None:
        text += f" [{one.actual_low:+.4g}, {one.actual_high:+.4g}]"
    return text


class WorkBars:
    """Progress of uploads in bytes and of jobs in their own steps, one line each."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._upload: TaskID | None = None
        self._job: TaskID | None = None

    def upload(self, done: int, total: int) -> None:
        if self._upload is None:
            self._upload = self._bars.add_task("Uploading", total=total)
        text = f"Uploading {done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
        self._bars.update(self._upload, description=text, completed=done, total=total)

    def job(self, job: Job) -> None:
        if self._job is None:
            self._job = self._bars.add_task(job.kind)
        count = f" {job.done:,} of {job.total:,}" if job.total else ""
        text = escape(f"{job.stage or job.state}{count}")
        total = job.total or None
        self._bars.update(self._job, description=text, completed=job.done, total=total)


@contextmanager
def work_bars() -> Iterator[WorkBars]:
    """Progress bars on standard error that vanish at the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as bars:
        yield WorkBars(bars)
