"""Frames and saved datasets of the libraries that people use, as one Arrow table."""

import json

import datasets
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hunch_client import HunchError
from hunch_client.frames import table_of_folder, table_of_frame
from hunch_client.sources import as_file

COLUMNS = {"text": ["a", "b", "c"], "label": ["x", "y", "x"]}
TABLE = pa.table(COLUMNS)


@pytest.mark.parametrize(
    "frame",
    [
        TABLE,
        pandas.DataFrame(COLUMNS),
        pandas.DataFrame(COLUMNS, index=[7, 8, 9]),
        polars.DataFrame(COLUMNS),
        polars.LazyFrame(COLUMNS),
        datasets.Dataset.from_dict(COLUMNS),
    ],
    ids=["arrow", "pandas", "pandas with an index", "polars", "lazy polars", "datasets"],
)
def test_a_frame_has_its_rows_and_columns(frame):
    table = table_of_frame(frame)
    assert table.to_pydict() == COLUMNS
    with as_file(frame) as path:
        assert pq.read_table(path).to_pydict() == COLUMNS
    assert not path.exists()


def test_a_shuffled_choice_of_a_dataset_comes_in_its_own_order():
    chosen = datasets.Dataset.from_dict(COLUMNS).select([2, 0])
    assert table_of_frame(chosen)["text"].to_pylist() == ["c", "a"]


@pytest.mark.parametrize("frame", [pandas.DataFrame(COLUMNS), polars.DataFrame(COLUMNS)], ids=str)
def test_frames_by_split_get_a_split_column(frame):
    table = table_of_frame({"train": frame, "test": frame})
    assert table["split"].to_pylist() == ["train"] * 3 + ["test"] * 3


def test_missing_values_stay_missing():
    for frame in (pandas.DataFrame({"a": ["x", None]}), polars.DataFrame({"a": ["x", None]})):
        assert table_of_frame(frame)["a"].to_pylist() == ["x", None]


def test_what_is_no_frame_is_named():
    with pytest.raises(HunchError, match="A int is neither a file nor a frame"):
        table_of_frame(5)
    with pytest.raises(HunchError, match="holds no frame"):
        table_of_frame({})
    with (
        pytest.raises(HunchError, match="There is no file or folder nowhere"),
        as_file("nowhere"),
    ):
        pass


@pytest.fixture
def labelled():
    """Labels as numbers with names, as the Hub stores them."""
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["down", "up"])}
    )
    rows = {"text": [f"text {k}" for k in range(6)], "label": [0, 1] * 3}
    return datasets.Dataset.from_dict(rows, features=features)


def names_of_classes(table):
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    return features["label"]["names"]


def test_a_saved_dataset_with_splits_and_shards(tmp_path, labelled):
    saved = datasets.DatasetDict(train=labelled.shuffle(seed=0), test=labelled.select([1]))
    saved.save_to_disk(tmp_path / "saved", num_shards={"train": 2, "test": 1})
    table = table_of_folder(tmp_path / "saved")
    assert table["text"].to_pylist() == [*saved["train"]["text"], "text 1"]
    assert table["split"].to_pylist() == ["train"] * 6 + ["test"]
    assert names_of_classes(table) == ["down", "up"]
    with as_file(tmp_path / "saved") as path:
        assert path.name == "saved.parquet"
        assert names_of_classes(pq.read_table(path)) == ["down", "up"]


def test_a_saved_dataset_without_splits(tmp_path, labelled):
    labelled.save_to_disk(tmp_path / "one")
    table = table_of_folder(tmp_path / "one")
    assert table.column_names == ["text", "label"]
    assert table.num_rows == 6


def test_parquet_shards_by_split_as_on_the_hub(tmp_path, labelled):
    (tmp_path / "data").mkdir()
    for number in range(2):
        labelled.shard(2, number).to_parquet(tmp_path / f"data/train-0000{number}-of-00002.parquet")
    labelled.to_parquet(tmp_path / "data/test-00000-of-00001.parquet")
    table = table_of_folder(tmp_path)
    splits = table["split"].to_pylist()
    assert (splits.count("train"), splits.count("test")) == (6, 6)
    assert sorted(set(table["text"].to_pylist())) == [f"text {k}" for k in range(6)]
    assert names_of_classes(table) == ["down", "up"]


def test_parquet_files_in_a_folder_a_split(tmp_path, labelled):
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        labelled.to_parquet(tmp_path / split / "0000.parquet")
    assert set(table_of_folder(tmp_path)["split"].to_pylist()) == {"train", "validation"}


def test_paths_in_a_saved_dataset_do_not_lead_out_of_it(tmp_path, labelled):
    labelled.save_to_disk(tmp_path / "saved")
    state = tmp_path / "saved" / "state.json"
    known = json.loads(state.read_text())
    state.write_text(json.dumps({**known, "_data_files": [{"filename": "../outside.arrow"}]}))
    (tmp_path / "outside.arrow").write_bytes(b"")
    with pytest.raises(OSError, match=r"saved/outside\.arrow"):
        table_of_folder(tmp_path / "saved")


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(HunchError, match="neither a saved dataset nor Parquet"):
        table_of_folder(tmp_path)


def test_splits_that_do_not_fit_together_are_refused():
    frames = {"train": pa.table({"a": [1]}), "test": pa.table({"a": ["x"]})}
    with pytest.raises(HunchError, match="do not have the same columns"):
        table_of_frame(frames)
