"""Kill -9 of worker, web server, broker and database at random moments while complete jobs run:
every job ends, every result is there once and is the undisturbed one, nothing is orphaned."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def campaign(folder: Path, *options: str) -> dict[str, Any]:
    """Run it in a process of its own, with database and broker of its own."""
    found = subprocess.run(
        [sys.executable, "-m", "tests.faults.campaign", str(folder / "var"), *options],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-5000:]
    return json.loads(found.stdout)


def check(outcome: dict[str, Any]) -> None:
    for finding in ("unfinished", "without_reason", "twice", "different", "lost_files", "orphans"):
        assert outcome[finding] == [], finding
    assert outcome["results_lost"] == 0
    assert outcome["results"] > 0


@pytest.mark.slow
def test_a_complete_job_under_fire_ends_with_the_numbers_of_the_undisturbed_one(tmp_path):
    faults = ["--seed", "1", "--mean-gap", "0.8", "--most-faults", "9"]
    outcome = campaign(tmp_path, "--jobs", "1", "--small", *faults)
    check(outcome)
    assert len(outcome["faults"]) >= 8


@pytest.mark.soak
def test_fifty_complete_jobs_under_fire_lose_nothing(tmp_path):
    outcome = campaign(tmp_path, "--jobs", "50", "--seed", "0", "--mean-gap", "4")
    check(outcome)
    assert outcome["complete_jobs"] == 50
    assert min(outcome["faults"].values()) >= 5
    assert len(outcome["faults"]) == 9
