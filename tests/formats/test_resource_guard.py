"""A child that uses too much ends with a clear error, and its parent goes on."""

from __future__ import annotations

import os
import signal

import pytest

from tests.formats import guarded_functions
from tests.formats.datasets_fixtures import SMALL, TEXT, json_lines, rows
from workers.formats.content import DatasetPart
from workers.formats.errors import FormatError
from workers.formats.guarded import import_guarded, inspect_guarded
from workers.formats.resource_guard import ResourceLimitExceeded, ResourceLimits, run_guarded

LIMITS = ResourceLimits(memory_bytes=3 * 1024**3, cpu_seconds=60, wall_seconds=60)


def test_results_and_progress_come_back():
    seen: list[tuple[int, int]] = []
    result = run_guarded(
        guarded_functions.counts, {"to": 3}, LIMITS, lambda done, total: seen.append((done, total))
    )
    assert result == {"counted": 3}
    assert seen[-1] == (3, 3)


def test_a_refusal_in_the_child_is_the_same_refusal_here():
    with pytest.raises(FormatError) as caught:
        run_guarded(guarded_functions.refuses, {}, LIMITS)
    error = caught.value
    assert (error.file, error.row, error.field, error.rule) == ("a.csv", 3, "text", "is wrong")


@pytest.mark.parametrize(
    ("function", "limits", "limit"),
    [
        ("fills_memory", ResourceLimits(memory_bytes=1024**3), "memory"),
        ("spins", ResourceLimits(cpu_seconds=1), "processor time"),
        ("waits", ResourceLimits(wall_seconds=0.5), "time"),
        ("fills_disk", ResourceLimits(largest_file_bytes=1024), "disk"),
        ("crashes", LIMITS, "crash"),
    ],
)
def test_each_limit_ends_the_child_and_is_named(function, limits, limit, tmp_path):
    arguments = {"path": str(tmp_path / "file")} if function == "fills_disk" else {}
    with pytest.raises(ResourceLimitExceeded) as caught:
        run_guarded(getattr(guarded_functions, function), arguments, limits)
    assert caught.value.limit == limit


def test_another_failure_is_told_in_words():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run_guarded(guarded_functions.fails, {}, LIMITS)


def test_cancelling_from_progress_ends_the_child():
    class Cancelled(Exception):
        pass

    children: list[int] = []

    def cancel(done: int, total: int) -> None:
        children.append(done)
        raise Cancelled

    with pytest.raises(Cancelled):
        run_guarded(guarded_functions.reports_its_process, {}, LIMITS, cancel)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], signal.SIG_DFL)


def test_the_child_sees_no_secrets(monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "hidden")
    assert "SECRET_KEY" not in run_guarded(guarded_functions.environment_names, {}, LIMITS)


def test_inspection_and_import_run_guarded(tmp_path):
    source = tmp_path / "stored"
    source.write_bytes(json_lines(rows()))
    parts = [DatasetPart(source, "x.csv")]
    assert inspect_guarded(parts, SMALL, LIMITS)["format"] == "jsonl"
    summary = import_guarded(parts, TEXT, SMALL, tmp_path / "out.parquet", LIMITS)
    assert summary["rows"] == 12
    assert (tmp_path / "out.parquet").exists()


def test_a_killed_import_leaves_nothing_behind(tmp_path):
    source = tmp_path / "stored"
    source.write_bytes(json_lines(rows(50_000)))
    folder = tmp_path / "out"
    folder.mkdir()
    leftover = folder / f".canonical.parquet.{'0' * 16}.partial"
    leftover.write_bytes(b"half")
    small = ResourceLimits(memory_bytes=200 * 1024**2)
    with pytest.raises(ResourceLimitExceeded):
        import_guarded([DatasetPart(source, "x")], TEXT, SMALL, folder / "canonical.parquet", small)
    assert list(folder.iterdir()) == []
