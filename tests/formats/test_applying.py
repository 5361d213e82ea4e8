"""Applying a proposal to a dataset: removed rows go, repeated ones come again, all else stays."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workers.formats.applying import apply_weights
from workers.formats.canonical import CanonicalWriter, canonical_schema, content_hash
from workers.formats.errors import FormatError
from workers.formats.limits import DatasetLimits

CLASSES = {"task": "text_classification", "classes": ["x", "y"], "feature_names": [],
           "image_shape": None}  # fmt: skip


def write(path: Path, splits: str, ids: list[str] | None = None) -> Path:
    """One row a letter of `splits`: t trains, p probes."""
    schema = canonical_schema(
        "text_classification", features=0, image=0, messages=False, attributes=["source"]
    )
    train, probe = [], []
    for letter in splits:
        train.append(sum(n is not None for n in train) if letter == "t" else None)
        probe.append(sum(n is not None for n in probe) if letter == "p" else None)
    count = len(splits)
    columns: dict[str, Any] = {
        "example_id": ids or [f"e{n}" for n in range(count)],
        "position": list(range(count)),
        "split": ["train" if letter == "t" else "probe" for letter in splits],
        "train_index": train,
        "probe_index": probe,
        "text": [f"text {n}" for n in range(count)],
        "label": ["x" if n % 2 else "y" for n in range(count)],
        "attribute_source": ["s"] * count,
    }
    with CanonicalWriter(path, schema) as writer:
        writer.write(pa.record_batch(columns, schema=schema))
        writer.close(CLASSES)
        writer.promote()
    return path


def applied(tmp_path: Path, splits: str, weights: dict[int, float], **more: Any) -> pa.Table:
    source = write(tmp_path / "source.parquet", splits, **more)
    apply_weights(source, weights, tmp_path / "out.parquet", DatasetLimits())
    return pq.read_table(tmp_path / "out.parquet")


def test_weight_zero_leaves_out_and_indices_are_numbered_anew(tmp_path: Path) -> None:
    table = applied(tmp_path, "tpttp", {1: 0.0})
    assert table["example_id"].to_pylist() == ["e0", "e1", "e3", "e4"]
    assert table["train_index"].to_pylist() == [0, None, 1, None]
    assert table["probe_index"].to_pylist() == [None, 0, None, 1]
    assert table["position"].to_pylist() == [0, 1, 2, 3]
    assert table["text"].to_pylist() == ["text 0", "text 1", "text 3", "text 4"]


def test_a_whole_weight_repeats_with_ids_of_their_own(tmp_path: Path) -> None:
    table = applied(tmp_path, "ttp", {0: 3.0})
    assert table["example_id"].to_pylist() == ["e0", "e0#2", "e0#3", "e1", "e2"]
    assert table["text"].to_pylist()[:3] == ["text 0"] * 3


def test_without_edits_the_content_hash_stays(tmp_path: Path) -> None:
    source = write(tmp_path / "source.parquet", "tptp")
    summary = apply_weights(source, {}, tmp_path / "out.parquet", DatasetLimits())
    assert (
        summary["content_sha256"] == content_hash(source) == content_hash(tmp_path / "out.parquet")
    )


def test_the_summary_counts_what_was_written(tmp_path: Path) -> None:
    source = write(tmp_path / "source.parquet", "ttttpp")
    summary = apply_weights(source, {0: 0, 1: 2}, tmp_path / "out.parquet", DatasetLimits())
    assert (summary["rows"], summary["train_rows"], summary["probe_rows"]) == (6, 4, 2)
    assert summary["classes"] == ["x", "y"]
    assert summary["statistics"]["exact_duplicates"]["rows"] == 2


@pytest.mark.parametrize(
    ("weights", "ids", "says"),
    [
        ({0: 0.5}, None, "whole weights"),
        ({0: 0, 1: 0}, None, "no training example"),
        ({7: 0}, None, "no train example 7"),
        ({0: 2}, ["a", "a#2", "p"], "'a#2' of a copy is taken"),
        ({0: 2}, ["a" * 200, "b", "p"], "too long"),
    ],
)
def test_what_cannot_be_applied_is_refused_and_leaves_nothing(
    tmp_path: Path, weights: dict[int, float], ids: list[str] | None, says: str
) -> None:
    source = write(tmp_path / "source.parquet", "ttp", ids=ids)
    with pytest.raises(FormatError, match=says):
        apply_weights(source, weights, tmp_path / "out.parquet", DatasetLimits())
    assert [file.name for file in tmp_path.iterdir()] == ["source.parquet"]
