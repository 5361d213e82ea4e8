"""What happens to complete jobs while every part of the site is killed, how many hostile files are
refused, and how many routes are checked for access. The campaign itself is in
tests/faults/campaign.py; files and routes are counted by running the tests that send them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.report import ROOT, Report, Row

SEED = 0
COMPLETE_JOBS = 50
MEAN_GAP = 6.0  # seconds between two faults
HOSTILE = ("tests/formats/test_hostile_datasets.py", "tests/formats/test_models.py")
BY_HAND = "refused or is_stopped"  # one test, one file
FUZZED = "damaged or arbitrary or any_values or any_expression"
ACCESS = ("tests/api/test_access.py", "tests/web/test_access.py", "tests/security")
EXAMPLES = re.compile(r"(\d+) passing(?: examples?)?, (\d+) failing")
EMPTY = {
    "unfinished": "jobs that did not end",
    "without_reason": "jobs that ended without success and without a reason",
    "twice": "things made twice by calls sent again",
    "different": "numbers other than the undisturbed run's",
    "lost_files": "files lost or changed",
    "orphans": "files and work folders left over after tidying",
}
NOTES = [
    "A private site (PostgreSQL, Valkey, two web processes, two workers, the clock) takes complete "
    "jobs over its API, three at a time: upload, import, baseline of two seeds, influence by "
    "replay, a bank, a proposal, its registration, retrains of three arms, verdict. Meanwhile one "
    "part after the other gets `kill -9`, or the broker loses all it holds, at moments and in an "
    "order drawn from the seed. The supervisor starts what died again; callers insist with the "
    "same idempotency keys.",
    "Every parameter vector, score column, bank retrain, confirmatory retrain and verdict is then "
    "compared for equality with one undisturbed run, and every arm of every test, the placebo's "
    "too, is trained once more and compared.",
    "Hostile files are those that the tests build by hand and those that hypothesis makes; a test "
    "that fails counts as a file not refused. Routes are those that the access tests walk as "
    "stranger, viewer, editor, reviewer, owner and with each scope of a token.",
]


@dataclass(frozen=True)
class Tests:
    """A run of tests: how many passed and failed, and the examples that hypothesis made."""

    passed: int
    failed: int
    examples: int


def run() -> Report:
    rows = [*campaign_rows(campaign()), *hostile_rows(), *route_rows()]
    return Report(
        title="Is anything lost under faults, and does anyone get in?",
        rows=rows,
        seeds=[SEED],
        notes=NOTES,
    )


def campaign() -> dict[str, Any]:
    """The outcome of the soak campaign, run in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="hunch-faults-") as folder:
        options = ["--jobs", str(COMPLETE_JOBS), "--seed", str(SEED), "--mean-gap", str(MEAN_GAP)]
        found = subprocess.run(
            [sys.executable, "-m", "tests.faults.campaign", f"{folder}/var", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    outcome: dict[str, Any] = json.loads(found.stdout)
    return outcome


def campaign_rows(outcome: dict[str, Any]) -> list[Row]:
    task = "Complete jobs under fire"
    rows = [Row(task, name, "times", count) for name, count in outcome["faults"].items()]
    rows += [
        Row(task, "all faults", "injected", sum(outcome["faults"].values()), target=">= 100"),
        Row(task, "complete jobs", "run", outcome["complete_jobs"], target=f">= {COMPLETE_JOBS}"),
        Row(task, "jobs of workers", "run", outcome["jobs"]),
        Row(task, "jobs of workers", "attempts", outcome["attempts"]),
        Row(task, "jobs that failed, said why and were tried again", "number",
            len(outcome["stated_failures"])),
        Row(task, "results", "compared", outcome["compared"]),
        Row(task, "results", "lost", outcome["results_lost"], target="<= 0"),
        Row(task, "left by killed processes and tidied", "number", outcome["cleaned"]),
        Row(task, "campaign", "seconds", outcome["seconds"]),
    ]  # fmt: skip
    rows += [Row(task, words, "number", len(outcome[key]), target="<= 0")
             for key, words in EMPTY.items()]  # fmt: skip
    return rows


def hostile_rows() -> list[Row]:
    task = "Hostile files"
    by_hand = run_tests(*HOSTILE, "-k", f"({BY_HAND}) and not ({FUZZED})")
    fuzzed = run_tests(*HOSTILE, "-k", FUZZED)
    return [
        Row(task, "built by hand", "refused", by_hand.passed),
        Row(task, "built by hand", "not refused", by_hand.failed, target="<= 0"),
        Row(task, "made by hypothesis", "refused or read without harm", fuzzed.examples),
        Row(task, "made by hypothesis", "tests failed", fuzzed.failed, target="<= 0"),
        Row(task, "all", "files", by_hand.passed + fuzzed.examples, target=">= 300"),
    ]


def route_rows() -> list[Row]:
    task = "Access"
    walked = run_tests(*ACCESS)
    api, pages = number_of_routes()
    return [
        Row(task, "routes of the API", "checked", api),
        Row(task, "routes of the pages", "checked", pages),
        Row(task, "tests of access and attacks", "passed", walked.passed),
        Row(task, "tests of access and attacks", "failed", walked.failed, target="<= 0"),
    ]


def run_tests(*arguments: str) -> Tests:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        found = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}",
             "--hypothesis-show-statistics", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if not report.exists():
            raise RuntimeError(f"the tests did not run: {found.stdout[-2000:]}")
        suite = next(ElementTree.parse(report).iter("testsuite"))  # noqa: S314  written just now
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    return Tests(
        passed=int(suite.attrib["tests"]) - failed - int(suite.attrib["skipped"]),
        failed=failed,
        examples=sum(int(passing) for passing, _ in EXAMPLES.findall(found.stdout)),
    )


def number_of_routes() -> tuple[int, int]:
    """(routes of the API, routes of the pages): the lists that the access tests walk."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "curation.settings")
    import django

    django.setup()
    from curation.web.urls import urlpatterns
    from tests.api.test_access import ROUTES

    return len(ROUTES), len(urlpatterns)
