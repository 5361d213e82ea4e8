"""Edits leave as files that other tools read, and that spreadsheets do not run."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.formats.datasets_fixtures import TEXT, import_bytes, json_lines, rows
from workers.formats.export import (
    FORMATS,
    escape_formulas,
    export_issue_table,
    export_weighted_dataset,
    weighted_sampler_snippet,
)


@pytest.fixture
def canonical(tmp_path):
    records = rows()
    records[0]["text"] = "=HYPERLINK(0)"
    records[1]["note"] = 'a "quoted", note\nof two lines'
    import_bytes(tmp_path, json_lines(records), TEXT)
    return tmp_path / "canonical.parquet"


def read(path, file_format):
    if file_format == "parquet":
        return pq.read_table(path).to_pylist()
    if file_format == "jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("file_format", FORMATS)
def test_removed_rows_are_gone_and_the_others_carry_their_weight(file_format, canonical, tmp_path):
    output = tmp_path / "edited"
    assert export_weighted_dataset(canonical, {"1": 3.0, "2": 0.0}, output, file_format) == 11
    written = read(output, file_format)
    assert [r["example_id"] for r in written] == ["1", *(str(k) for k in range(3, 13))]
    assert [float(r["weight"]) for r in written] == [3.0] + [1.0] * 10
    assert written[0]["id"] == "e0"
    text = written[0]["text"]
    assert text == ("'=HYPERLINK(0)" if file_format == "csv" else "=HYPERLINK(0)")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "canonical.parquet", "edited", "stored-0",
    ]  # fmt: skip


def test_an_export_can_be_imported_again(canonical, tmp_path):
    output = tmp_path / "edited"
    export_weighted_dataset(canonical, {}, output, "jsonl")
    summary, table = import_bytes(tmp_path, output.read_bytes(), TEXT)
    assert summary.rows == 12
    assert table["text"][0].as_py() == "=HYPERLINK(0)"


@pytest.mark.parametrize("weights", [{"3": 0.0}, {"nobody": 2.0}])
def test_only_train_examples_can_be_edited(weights, canonical, tmp_path):
    with pytest.raises(KeyError, match="no train example"):
        export_weighted_dataset(canonical, weights, tmp_path / "x")


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_must_be_finite_and_not_negative(weight, canonical, tmp_path):
    with pytest.raises(ValueError, match="at least 0"):
        export_weighted_dataset(canonical, {"1": weight}, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_issue_table_ranks_the_most_harmful_lowest(canonical, tmp_path):
    influence = np.array([3.0, -2.0, 0.0, 1.0, 5.0, -1.0, 2.0, 4.0])
    output = tmp_path / "issues.csv"
    assert export_issue_table(canonical, {"2": 0.0, "4": 2.0}, influence, output) == 8
    written = read(output, "csv")
    by_score = sorted(written, key=lambda r: float(r["influence_score"]))
    assert [float(r["influence"]) for r in by_score] == sorted(influence)
    assert [r["example_id"] for r in written if r["is_influence_issue"] == "true"] == ["2"]
    assert written[1]["given_label"] == "ham"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("＝1", "'＝1"),
        ("-2.5", "-2.5"),
        ("+1e-3", "+1e-3"),
        ("-2.5+cmd", "'-2.5+cmd"),
        ("-1\n=2", "'-1\n=2"),
        ("plain = text", "plain = text"),
        ("", ""),
        (None, None),
    ],
)
def test_cells_that_start_a_formula_are_escaped(cell, expected):
    assert escape_formulas(pa.array([cell], pa.string())).to_pylist() == [expected]


def test_the_sampler_snippet_runs_on_an_export(canonical, tmp_path):
    output = tmp_path / 'it\'s "edited".parquet'
    export_weighted_dataset(canonical, {"1": 50.0}, output)
    names: dict[str, object] = {}
    exec(compile(weighted_sampler_snippet(str(output)), "snippet", "exec"), names)
    drawn = [example for batch in names["loader"] for example in batch]
    assert len(drawn) == 8
    assert sum(example["example_id"] == "1" for example in drawn) >= 4
