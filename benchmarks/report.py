"""The one form in which benchmarks speak: rows of measured values with their targets, written as
docs/benchmarks/NAME.json and as a readable NAME.md made from it. What is measured lives in the
benchmark's own file."""

from __future__ import annotations

import json
import math
import operator
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "benchmarks"
MEASURED_CODE = ("benchmarks", "curation", "embedded", "studies", "workers", "hunch_client")
COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Row:
    """One measured value. ``low`` and ``high`` bound it; ``target`` is "<= 3.0", ">= 0.95" or
    "0.9 to 1.1". A row that misses its target stays. A ``value`` of None is what could not be
    measured, for the ``reason`` given."""

    task: str
    subject: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    target: str | None = None
    reason: str | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the value meets the target; None without one. Raises ValueError for a target in
        another form."""
        if self.target is None or self.value is None:
            return None
        words = self.target.split()
        if len(words) == 3 and words[1] == "to":
            return float(words[0]) <= self.value <= float(words[2])
        if len(words) != 2 or words[0] not in COMPARISONS:
            raise ValueError(f"a target reads “<= 3.0” or “0.9 to 1.1”, not “{self.target}”")
        return bool(COMPARISONS[words[0]](self.value, float(words[1])))


@dataclass(frozen=True)
class Report:
    """What a benchmark's ``run()`` returns. ``notes`` are paragraphs of Markdown, ``figures`` SVG
    texts by title, ``machine`` is what the described machine lacks (an accelerator)."""

    title: str
    rows: Sequence[Row]
    seeds: Sequence[int]
    notes: Sequence[str] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)


def write_report(name: str, report: Report, seconds: float, folder: Path = FOLDER) -> Path:
    """Write NAME.json, NAME.md and the figures; returns the path of NAME.md. Raises ValueError for
    a value that is not a number."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for number, (title, svg) in enumerate(report.figures.items(), start=1):
        figures[title] = f"{name}-{number}.svg"
        (folder / figures[title]).write_text(svg, encoding="utf-8")
    content = {
        "title": report.title,
        "command": f"make bench ARGS={name}",
        "commit": commit(),
        "machine": {**machine(), **report.machine},
        "seconds": round(seconds, 1),
        "seeds": list(report.seeds),
        "notes": list(report.notes),
        "figures": figures,
        "rows": [_row(row) for row in report.rows],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    path = folder / f"{name}.md"
    path.write_text(markdown(content), encoding="utf-8")
    return path


def markdown(content: Mapping[str, Any]) -> str:
    """The readable form of a benchmark's JSON."""
    rows = content["rows"]
    judged = [row for row in rows if row["holds"] is not None]
    missed = sum(not row["holds"] for row in judged)
    machine_words = ", ".join(f"{key} {value}" for key, value in content["machine"].items())
    parts = [
        f"# {content['title']}",
        f"`{content['command']}` at commit `{content['commit']}`, {content['seconds']:g} s on: "
        f"{machine_words}. Seeds: {', '.join(map(str, content['seeds']))}.",
        f"{len(judged)} of {len(rows)} values have a target; {missed} miss theirs.",
        *content["notes"],
        *(f"![{title}]({file})" for title, file in content["figures"].items()),
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        lines = [
            "| subject | metric | value | interval | target | holds |",
            "|---|---|---:|---|---|---|",
            *(_line(row) for row in rows if row["task"] == task),
        ]
        parts += [f"## {task}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def commit() -> str:
    """The commit that was measured, and whether the measured code had changes beyond it."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    head = git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *MEASURED_CODE)
    return head + (" with local changes" if changed else "")


def machine() -> dict[str, Any]:
    """Cores, memory and processor family, without any name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    family = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                family = f"{line.partition(':')[2].strip()} ({family})"
                break
    return {
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory": f"{memory:.0f} GiB",
        "processor": family,
        "Python": platform.python_version(),
    }


def _row(row: Row) -> dict[str, Any]:
    if row.value is not None and not math.isfinite(row.value):
        raise ValueError(f"{row.task}, {row.subject}, {row.metric} is {row.value}")
    if row.value is None and not row.reason:
        raise ValueError(f"{row.task}, {row.subject}, {row.metric} has neither value nor reason")
    reason = {"reason": row.reason} if row.value is None else {}
    return {
        "task": row.task,
        "subject": row.subject,
        "metric": row.metric,
        "value": None if row.value is None else _rounded(row.value),
        "low": None if row.low is None else _rounded(row.low),
        "high": None if row.high is None else _rounded(row.high),
        "target": row.target,
        "holds": row.holds,
        **reason,
    }


def _rounded(value: float) -> float | int:
    return value if isinstance(value, int) else float(f"{value:.5g}")


def _line(row: Mapping[str, Any]) -> str:
    interval = "" if row["low"] is None else f"{row['low']:.4g} to {row['high']:.4g}"
    holds = {True: "yes", False: "**no**", None: ""}[row["holds"]]
    value = "none" if row["value"] is None else f"{row['value']:.4g}"
    interval = row.get("reason", interval)
    cells = [row["subject"], row["metric"], value, interval, row["target"] or ""]
    return "| " + " | ".join([*(str(cell).replace("|", "\\|") for cell in cells), holds]) + " |"
