"""A first look at an upload: types, preview, and a mapping that works as suggested."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.formats.datasets_fixtures import SMALL, import_bytes, json_lines, parquet_bytes, rows
from workers.formats.dataset_import import import_dataset
from workers.formats.dataset_inspection import PREVIEW_CHARACTERS, inspect_dataset
from workers.formats.limits import DatasetLimits

DEMO = Path("curation/sample_project/vader_tweets_one_rater.jsonl")


def look(folder: Path, data: bytes, limits: DatasetLimits = SMALL):
    path = folder / "upload"
    path.write_bytes(data)
    return inspect_dataset(path, "upload.csv", limits)


def test_types_are_inferred_from_values(tmp_path):
    records = [
        r
        | {
            "whole": k,
            "real": k / 3,
            "flag": k % 2 == 0,
            "vector": [1.0, 2.0, k],
            "grid": [[1, 2], [3, k]],
            "colour": "red" if k % 2 else "blue",
            "other": {"a": 1},
        }
        for k, r in enumerate(rows(60))
    ]
    expected = {
        "id": "text",
        "text": "text",
        "label": "category",
        "split": "category",
        "whole": "integer",
        "real": "number",
        "flag": "boolean",
        "vector": "numbers",
        "grid": "numbers",
        "colour": "category",
        "other": "category",
    }
    for data in (json_lines(records), parquet_bytes(pa.Table.from_pylist(records))):
        inspection = look(tmp_path, data)
        assert {c.name: c.type for c in inspection.columns} == expected
        assert {c.name: c.list_length for c in inspection.columns}["grid"] == 4


def test_the_preview_holds_twenty_rows_of_short_texts(tmp_path):
    records = rows(100)
    records[1]["text"] = "x" * 5_000
    records[2]["text"] = None
    inspection = look(tmp_path, json_lines(records))
    assert len(inspection.preview) == 20
    assert inspection.preview[0] == ["e0", "text number 0", "spam", "train"]
    assert len(inspection.preview[1][1]) == PREVIEW_CHARACTERS
    assert inspection.preview[2][1] is None
    json.dumps(inspection.to_json())


def test_the_demo_is_mapped_as_it_should_be_and_imports(tmp_path):
    limits = DatasetLimits()
    mapping = inspect_dataset(DEMO, DEMO.name, limits).suggested_mapping
    assert mapping is not None
    assert (mapping.example_id, mapping.text) == ("id", "text")
    assert (mapping.label, mapping.probe_label) == ("label", "crowd_label")
    summary = import_dataset(DEMO, DEMO.name, mapping, limits, tmp_path / "out.parquet")
    assert summary.rows == 4_200
    assert summary.classes == ["negative", "neutral", "positive"]
    assert summary.statistics["near_duplicates"]["groups"] > 0


def chat(number: int) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"question {number}"},
        {"role": "assistant", "content": "answer"},
    ]


SUGGESTED = {
    "text_classification": [{"sentence": f"s {k}", "label": "ab"[k % 2]} for k in range(50)],
    "text": [{"content": f"a document {k}"} for k in range(50)],
    "tabular_classification": [{"a": k, "b": k * 0.5, "class": "xy"[k % 2]} for k in range(50)],
    "tabular_regression": [{"a": k, "b": k * 0.5, "target": k * 0.1} for k in range(50)],
    "prompt_completion": [{"messages": chat(k), "n": k} for k in range(50)],
}


@pytest.mark.parametrize("task", SUGGESTED)
def test_a_suggested_mapping_imports_as_it_is(task, tmp_path):
    data = json_lines(SUGGESTED[task])
    mapping = look(tmp_path, data).suggested_mapping
    assert mapping is not None
    assert mapping.task == task
    summary, _ = import_bytes(tmp_path, data, mapping)
    assert summary.rows == 50


def test_only_the_head_of_a_long_file_is_read(tmp_path):
    data = json_lines(rows(40_000)) + b"not JSON at all\n"
    inspection = look(tmp_path, data)
    assert inspection.sampled_rows == 1_000
    assert inspection.rows is None


def test_a_csv_index_column_without_a_name_gets_one(tmp_path):
    inspection = look(tmp_path, b",text,label\n0,a,x\n1,b,y\n")
    assert [c.name for c in inspection.columns] == ["unnamed_1", "text", "label"]
