"""What people already have is imported through the client on a live site, whole and with labels."""

import json
from pathlib import Path

import datasets
import pandas
import polars
import pyarrow.parquet as pq
import pytest

from curation.models import DatasetVersion
from curation.services.files import local_path
from hunch_client import HunchError

pytestmark = pytest.mark.django_db(transaction=True)
TRAIN, TEST = 20, 8


def rows(count, start=0):
    return [
        {"text": f"sentence {k}", "label": ("down", "up")[k % 2]}
        for k in range(start, start + count)
    ]


@pytest.fixture
def imported(hunch, jobs_run_at_once):
    """Push it, import it, and read the examples that the site then holds."""

    def push(source, **options):
        project = hunch.create_project("imports")
        version = hunch.push_dataset(project, "data", source, **options)
        assert version.state == "ready"
        found = DatasetVersion.objects.get(pk=version.id)
        return pq.read_table(local_path(found.examples_file)).to_pylist()

    return push


def check(examples, label="label"):
    by_split = {
        split: [one for one in examples if one["split"] == split] for split in ("train", "probe")
    }
    assert {split: len(found) for split, found in by_split.items()} == {
        "train": TRAIN, "probe": TEST,
    }  # fmt: skip
    for one in examples:
        number = int(one["text"].removeprefix("sentence "))
        assert one["label"] == ("down", "up")[number % 2]


@pytest.fixture
def labelled():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["down", "up"])}
    )
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_list(found, features=features)
            for split, found in (("train", rows(TRAIN)), ("test", rows(TEST, TRAIN)))
        }
    )


def test_a_saved_dataset_of_hugging_face(imported, labelled, tmp_path):
    labelled.save_to_disk(tmp_path / "saved", num_shards={"train": 3, "test": 1})
    check(imported(tmp_path / "saved"))


def test_parquet_shards_of_the_hub(imported, labelled, tmp_path):
    for number in range(3):
        part = labelled["train"].shard(3, number, contiguous=True)
        part.to_parquet(tmp_path / f"train-0000{number}-of-00003.parquet")
    labelled["test"].to_parquet(tmp_path / "test-00000-of-00001.parquet")
    check(imported(tmp_path))


def test_datasets_in_memory(imported, labelled):
    check(imported(labelled))


@pytest.mark.parametrize("library", [pandas, polars], ids=["pandas", "polars"])
def test_frames(imported, library):
    check(
        imported(
            {
                "train": library.DataFrame(rows(TRAIN)),
                "test": library.DataFrame(rows(TEST, TRAIN)),
            }
        )
    )


def label_studio(number):
    """A task as Label Studio exports it as JSON: an answer, and one that was cancelled."""
    row = rows(1, number)[0]

    def annotation(choice, cancelled):
        return {
            "id": number * 2 + cancelled, "completed_by": 1 + cancelled,
            "was_cancelled": cancelled, "ground_truth": False, "lead_time": 3.1,
            "result": [
                {
                    "id": f"r{number}", "type": "choices", "origin": "manual",
                    "from_name": "sentiment", "to_name": "text", "value": {"choices": [choice]},
                }
            ],
        }  # fmt: skip

    return {
        "id": number, "inner_id": number + 1, "file_upload": "tweets.csv", "total_annotations": 1,
        "data": {"text": row["text"], "split": "train" if number < TRAIN else "test"},
        "meta": {}, "predictions": [], "drafts": [], "project": 7,
        "annotations": [annotation("neither", True), annotation(row["label"], False)],
    }  # fmt: skip


def argilla(number):
    """A record as Argilla 2.8 gives it by `Record.to_dict`."""
    row = rows(1, number)[0]
    return {
        "id": f"r{number}", "fields": {"text": row["text"]},
        "metadata": {"split": "train" if number < TRAIN else "test"},
        "suggestions": {"sentiment": {"value": "down", "score": 0.7, "agent": "model"}},
        "responses": {
            "sentiment": [
                {"value": row["label"], "user_id": "0dde33f8-88b1-4c19-a244-c04170ec1211"}
            ]
        },
        "vectors": {}, "status": "completed", "_server_id": None,
    }  # fmt: skip


@pytest.mark.parametrize("record", [label_studio, argilla])
def test_exports_of_annotation_tools(imported, tmp_path, record):
    path = tmp_path / "export.json"
    path.write_text(json.dumps([record(number) for number in range(TRAIN + TEST)]))
    examples = imported(path)
    check(examples)
    assert {one["attribute_sentiment_answers"] for one in examples} == {"1"}


def test_columns_that_explain_no_task_are_asked_for(imported, tmp_path):
    path = Path(tmp_path / "numbers.csv")
    path.write_text("a,b\n" + "".join(f"{k},{k % 7}\n" for k in range(40)))
    with pytest.raises(HunchError, match="say which is which"):
        imported(path)
