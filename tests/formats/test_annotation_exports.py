"""Saved datasets, hub shards, Label Studio and Argilla exports import without being rewritten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.formats.datasets_fixtures import (
    SMALL,
    TEXT,
    import_bytes,
    json_lines,
    parquet_bytes,
    rows,
)
from workers.formats.column_mapping import ColumnMapping
from workers.formats.content import DatasetPart
from workers.formats.dataset_inspection import inspect_parts
from workers.formats.dataset_reader import parts_from_folder
from workers.formats.errors import FormatError
from workers.formats.readers import split_in_name

PLAIN = ColumnMapping("text_classification", text="text", label="label", split="split")


def shard(start: int, count: int = 6) -> pa.Table:
    """Text and ClassLabel numbers, as a hub stores them."""
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
    }
    table = pa.table(
        {"text": [f"text {k}" for k in range(start, start + count)], "label": [0, 1] * (count // 2)}
    )
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def arrow_stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_hub_parquet_shards_take_split_and_class_names_from_the_hub(tmp_path):
    files = {
        "data/train-00000-of-00002.parquet": parquet_bytes(shard(0)),
        "data/train-00001-of-00002.parquet": parquet_bytes(shard(6)),
        "data/test-00000-of-00001.parquet": parquet_bytes(shard(12, 4)),
        "README.md": b"# A dataset",
        ".gitattributes": b"*.parquet filter=lfs",
    }
    summary, table = import_bytes(tmp_path, files, PLAIN)
    assert (summary.train_rows, summary.probe_rows) == (12, 4)
    assert summary.classes == ["neg", "pos"]
    train = table.filter(pa.compute.equal(table["split"], "train"))
    assert train["text"].to_pylist() == [f"text {k}" for k in range(12)]
    assert train["label"].to_pylist() == ["neg", "pos"] * 6


def test_a_saved_dataset_folder_is_read_from_its_arrow_files(tmp_path):
    folder = tmp_path / "saved"
    for split, start, count in (("train", 0, 8), ("validation", 8, 4)):
        (folder / split).mkdir(parents=True)
        data = arrow_stream(shard(start, count))
        (folder / split / "data-00000-of-00001.arrow").write_bytes(data)
        (folder / split / "state.json").write_text('{"_data_files": []}')
        (folder / split / "dataset_info.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    (folder / "outside.arrow").symlink_to("/etc/passwd")
    parts = parts_from_folder(folder)
    assert "outside.arrow" not in [part.name for part in parts]
    inspection = inspect_parts(parts, SMALL)
    assert inspection.suggested_mapping is not None
    assert inspection.suggested_mapping.split == "split"
    files = {part.name: part.path.read_bytes() for part in parts}
    summary, _ = import_bytes(tmp_path, files, inspection.suggested_mapping)
    assert (summary.train_rows, summary.probe_rows) == (8, 4)
    assert summary.format == "arrow"


def test_a_missing_class_number_is_a_missing_label(tmp_path):
    table = shard(0, 6).set_column(1, "label", pa.array([0, 1, 0, -1, 0, 1]))
    files = {
        "train.parquet": parquet_bytes(table.replace_schema_metadata(shard(0).schema.metadata)),
        "test.parquet": parquet_bytes(shard(6)),
    }
    with pytest.raises(FormatError) as caught:
        import_bytes(tmp_path, files, PLAIN)
    assert (caught.value.file, caught.value.row, caught.value.field) == (
        "train.parquet", 4, "label",
    )  # fmt: skip


def test_shards_with_other_columns_are_refused_by_name(tmp_path):
    files = {"train.jsonl": json_lines(rows()), "test.jsonl": json_lines(rows(extra=1))}
    with pytest.raises(FormatError) as caught:
        import_bytes(tmp_path, files, TEXT)
    assert caught.value.field == "extra"


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(FormatError, match="no data file"):
        import_bytes(tmp_path, {"README.md": b"x", "dataset_info.json": b"{}"}, TEXT)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00001.parquet", "train"),
        ("data/test-0.parquet", "test"),
        ("validation/0000.parquet", "validation"),
        ("..\\train\\x.arrow", "train"),
        ("../../dev/passwd", "dev"),
        ("training_set.csv", None),
        ("trainer.csv", None),
    ],
)
def test_the_split_is_read_from_shard_names(name, split):
    assert split_in_name(name) == (split if name != "training_set.csv" else "training")


def label_studio_task(number: int, *choices: str, cancelled: bool = False) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"text": f"text {number}", "split": "test" if number % 3 == 2 else "train"},
        "annotations": [
            {
                "completed_by": k,
                "was_cancelled": cancelled and k == 0,
                "result": [
                    {
                        "type": "choices",
                        "from_name": "sentiment",
                        "to_name": "text",
                        "value": {"choices": [choice]},
                    }
                ],
            }
            for k, choice in enumerate(choices)
        ],
        "predictions": [],
    }


SENTIMENT = ColumnMapping(
    "text_classification", example_id="id", text="text", label="sentiment", split="split"
)


def test_label_studio_choices_become_labels_with_their_agreement(tmp_path):
    tasks = [label_studio_task(k, "pos" if k % 2 else "neg") for k in range(12)]
    tasks[0] = label_studio_task(0, "pos", "neg", "neg")
    tasks[1] = label_studio_task(1, "neg", "pos", cancelled=True)
    summary, table = import_bytes(tmp_path, json.dumps(tasks).encode(), SENTIMENT)
    assert table["label"].to_pylist() == ["neg", "pos"] * 6
    assert table["attribute_sentiment_agreement"][0].as_py() == "0.6667"
    assert table["attribute_sentiment_answers"].to_pylist()[:2] == ["3", "1"]
    assert summary.rows == 12


def test_a_label_studio_task_without_an_annotation_has_no_label(tmp_path):
    tasks = [label_studio_task(k, "pos" if k % 2 else "neg") for k in range(12)]
    tasks[4]["annotations"] = []
    with pytest.raises(FormatError) as caught:
        import_bytes(tmp_path, json.dumps(tasks).encode(), SENTIMENT)
    assert (caught.value.row, caught.value.field) == (5, "sentiment")


def argilla_record(number: int, responses: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "status": "completed",
        "fields": {"text": f"text {number}"},
        "metadata": {"split": "test" if number % 3 == 2 else "train"},
        "suggestions": {"sentiment": {"value": "pos", "score": 0.9, "agent": "model"}},
        "responses": responses,
    }


def test_argilla_2_responses_become_labels(tmp_path):
    records = [
        argilla_record(
            k,
            {
                "sentiment": [
                    {"value": "pos" if k % 2 else "neg", "user_id": "a", "status": "submitted"},
                    {"value": "other", "user_id": "b", "status": "discarded"},
                ]
            },
        )
        for k in range(12)
    ]
    _, table = import_bytes(tmp_path, json.dumps(records).encode(), SENTIMENT)
    assert table["label"].to_pylist() == ["neg", "pos"] * 6
    assert table["example_id"].to_pylist()[:2] == ["r0", "r1"]
    assert set(table["attribute_sentiment_suggestion"].to_pylist()) == {"pos"}


def test_argilla_1_responses_become_labels(tmp_path):
    records = [
        argilla_record(
            k,
            [
                {
                    "values": {"sentiment": {"value": "pos" if k % 2 else "neg"}},
                    "status": "submitted",
                }
            ],
        )
        for k in range(12)
    ]
    _, table = import_bytes(tmp_path, json_lines(records), SENTIMENT)
    assert table["label"].to_pylist() == ["neg", "pos"] * 6


@pytest.mark.parametrize(
    "broken", [{"data": [], "annotations": []}, {"annotations": {}}, {"data": {"text": 1}}]
)
def test_a_broken_task_names_its_row(broken, tmp_path):
    tasks = [label_studio_task(k, "pos" if k % 2 else "neg") for k in range(6)]
    tasks[3] = broken
    with pytest.raises(FormatError) as caught:
        import_bytes(tmp_path, json.dumps(tasks).encode(), SENTIMENT)
    assert caught.value.row == 4


def test_inspecting_an_annotation_export_shows_flat_columns(tmp_path):
    path = Path(tmp_path / "export")
    path.write_text(
        json.dumps([label_studio_task(k, "pos" if k % 2 else "neg") for k in range(12)])
    )
    inspection = inspect_parts([DatasetPart(path, "export.json")], SMALL)
    assert inspection.suggested_mapping == SENTIMENT
