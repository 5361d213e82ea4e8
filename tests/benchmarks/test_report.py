"""The form of benchmark reports: targets judged, misses kept, no name of the machine."""

import json
import platform

import pytest

from benchmarks.__main__ import benchmark_names
from benchmarks.report import Report, Row, markdown, write_report


@pytest.mark.parametrize(
    ("value", "target", "holds"),
    [
        (3.0, "<= 3.0", True),
        (3.1, "<= 3.0", False),
        (0.95, "> 0.95", False),
        (0.95, "0.9 to 1.1", True),
        (1.2, "0.9 to 1.1", False),
        (1.0, None, None),
    ],
)
def test_a_row_is_held_to_its_target(value, target, holds):
    assert Row("task", "subject", "metric", value, target=target).holds is holds


def test_a_target_in_another_form_is_refused():
    with pytest.raises(ValueError, match="a target reads"):
        assert Row("task", "subject", "metric", 1.0, target="about 1").holds


def test_the_json_has_the_agreed_fields_and_keeps_rows_that_miss(tmp_path):
    rows = [
        Row("digits", "replay", "coverage of 90%", 0.91, 0.88, 0.94, "0.85 to 0.95"),
        Row("digits", "replay", "slope", 1.4, target="0.9 to 1.1"),
        Row("wine", "replay", "edits", 200),
    ]
    report = Report("Intervals", rows, seeds=[1, 2], figures={"Reliability": "<svg/>"})
    path = write_report("intervals", report, 12.0, tmp_path)
    content = json.loads((tmp_path / "intervals.json").read_text())
    assert {"command", "commit", "machine", "seeds", "rows"} <= set(content)
    assert content["rows"][0] == {
        "task": "digits",
        "subject": "replay",
        "metric": "coverage of 90%",
        "value": 0.91,
        "low": 0.88,
        "high": 0.94,
        "target": "0.85 to 0.95",
        "holds": True,
    }
    assert [row["holds"] for row in content["rows"]] == [True, False, None]
    text = path.read_text()
    assert text == markdown(content)
    assert "| replay | slope | 1.4 |  | 0.9 to 1.1 | **no** |" in text
    assert (tmp_path / "intervals-1.svg").read_text() == "<svg/>"
    assert platform.node() not in json.dumps(content["machine"])


def test_a_value_that_is_no_number_is_refused(tmp_path):
    report = Report("T", [Row("a", "b", "c", float("nan"))], seeds=[])
    with pytest.raises(ValueError, match="a, b, c is nan"):
        write_report("t", report, 1.0, tmp_path)


def test_only_files_with_a_run_function_are_benchmarks():
    names = benchmark_names()
    assert "report" not in names
    assert "__main__" not in names
