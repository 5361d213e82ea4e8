"""Good uploads become the canonical table, whatever format they came in."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.datasets_fixtures import (
    SMALL,
    TEXT,
    import_bytes,
    json_lines,
    parquet_bytes,
    rows,
)
from workers.formats.canonical import content_hash, read_metadata
from workers.formats.column_mapping import ColumnMapping
from workers.formats.content import DatasetPart
from workers.formats.dataset_import import import_dataset, import_parts
from workers.formats.splits import hash_rows, split_by_text

WITH_IDS = replace(TEXT, example_id="id")


def as_csv(table: pa.Table, delimiter: str = ",") -> bytes:
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink, pa_csv.WriteOptions(delimiter=delimiter))
    return sink.getvalue().to_pybytes()


def as_arrow(table: pa.Table, kind: str) -> bytes:
    sink = pa.BufferOutputStream()
    maker = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with maker(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    return sink.getvalue().to_pybytes()


def every_format() -> dict[str, bytes]:
    table = pa.Table.from_pylist(rows())
    lines = json_lines(rows())
    return {
        "jsonl": lines,
        "jsonl with blank lines and CRLF": lines.replace(b"\n", b"\r\n\r\n"),
        "jsonl with a byte order mark": b"\xef\xbb\xbf" + lines,
        "jsonl without a last newline": lines.rstrip(),
        "json": json.dumps(rows()).encode(),
        "json indented": json.dumps(rows(), indent=2).encode(),
        "csv": as_csv(table),
        "csv with CRLF": as_csv(table).replace(b"\n", b"\r\n"),
        "csv with a byte order mark": b"\xef\xbb\xbf" + as_csv(table),
        "semicolons": as_csv(table, ";"),
        "tsv": as_csv(table, "\t"),
        "gzip csv": gzip.compress(as_csv(table)),
        "gzip jsonl": gzip.compress(lines),
        "parquet": parquet_bytes(table),
        "parquet of many row groups": parquet_bytes(table, row_group_size=2),
        "parquet without dictionaries": parquet_bytes(table, use_dictionary=False),
        "arrow file": as_arrow(table, "file"),
        "arrow stream": as_arrow(table, "stream"),
    }


@pytest.mark.parametrize("form", every_format())
def test_every_format_gives_the_same_content(form, tmp_path):
    summary, table = import_bytes(tmp_path, every_format()[form], WITH_IDS)
    reference, _ = import_bytes(tmp_path, json_lines(rows()), WITH_IDS)
    assert summary.content_sha256 == reference.content_sha256
    assert table["example_id"].to_pylist() == [f"e{k}" for k in range(12)]
    assert table["text"].to_pylist() == [f"text number {k}" for k in range(12)]
    assert table["label"].to_pylist() == ["spam", "ham"] * 6
    assert table["attribute_split"].to_pylist() == ["train", "train", "test"] * 4
    assert summary.classes == ["ham", "spam"]


def test_the_name_of_the_file_decides_nothing(tmp_path):
    for name in ("data.parquet", "../../etc/passwd", "x.csv\0.exe", "🙂" * 500):
        summary, _ = import_bytes(tmp_path, json_lines(rows()), name=name)
        assert summary.format == "jsonl"


def test_indices_count_within_each_split(tmp_path):
    _, table = import_bytes(tmp_path, json_lines(rows()))
    split = np.array(table["split"].to_pylist())
    train = [k for k in table["train_index"].to_pylist() if k is not None]
    probe = [k for k in table["probe_index"].to_pylist() if k is not None]
    assert train == list(range(8))
    assert probe == list(range(4))
    assert all(
        (t is None) == (s == "probe")
        for t, s in zip(table["train_index"].to_pylist(), split, strict=True)
    )
    assert table["position"].to_pylist() == list(range(12))


def test_the_schema_is_the_documented_one(tmp_path):
    import_bytes(tmp_path, json_lines(rows()))
    path = tmp_path / "canonical.parquet"
    schema = pq.read_schema(path)
    assert [(f.name, str(f.type)) for f in schema] == [
        ("example_id", "string"),
        ("position", "int64"),
        ("split", "string"),
        ("train_index", "int32"),
        ("probe_index", "int32"),
        ("text", "string"),
        ("label", "string"),
        ("attribute_id", "string"),
        ("attribute_split", "string"),
    ]
    assert json.loads(schema.metadata[b"hunch"]) == read_metadata(path)
    assert read_metadata(path)["classes"] == ["ham", "spam"]


def test_without_an_id_column_the_row_number_is_the_id(tmp_path):
    _, table = import_bytes(tmp_path, json_lines(rows()))
    assert table["example_id"].to_pylist() == [str(k) for k in range(1, 13)]


def test_probe_rows_take_the_probe_label_and_both_answers_stay_as_attributes(tmp_path):
    records = [r | {"crowd": "spam" if k == 2 else "ham"} for k, r in enumerate(rows())]
    mapping = replace(TEXT, probe_label="crowd")
    _, table = import_bytes(tmp_path, json_lines(records), mapping)
    for row in table.to_pylist():
        source = row["attribute_crowd"] if row["split"] == "probe" else row["attribute_label"]
        assert row["label"] == source


def test_the_hash_is_of_the_content_not_of_the_bytes(tmp_path):
    summary, table = import_bytes(tmp_path, json_lines(rows()))
    other = tmp_path / "other.parquet"
    pq.write_table(table, other, compression="gzip", row_group_size=3, use_dictionary=False)
    assert content_hash(other) == summary.content_sha256
    changed, _ = import_bytes(
        tmp_path, json_lines([r | {"text": r["text"].replace("5", "6 ")} for r in rows()])
    )
    assert changed.content_sha256 != summary.content_sha256


def test_equal_contents_never_cross_a_split_by_hash(tmp_path):
    records = [
        {"text": f"Text, {k % 40}!" if k % 2 else f"text {k % 40}", "label": str(k % 2)}
        for k in range(400)
    ]
    mapping = ColumnMapping("text_classification", text="text", label="label", probe_fraction=0.3)
    summary, table = import_bytes(tmp_path, json_lines(records), mapping)
    split_of: dict[str, set[str]] = {}
    for row in table.to_pylist():
        key = row["text"].lower().replace(",", "").replace("!", "")
        split_of.setdefault(key, set()).add(row["split"])
    assert all(len(splits) == 1 for splits in split_of.values())
    assert 0 < summary.probe_rows < 400
    assert summary.statistics["exact_duplicates"]["across_splits"] == 0


def test_the_split_by_hash_has_the_asked_size_and_depends_on_the_seed():
    text = pa.array([f"example {k}" for k in range(20_000)])
    first, again, other = (split_by_text(text, 0.2, seed) for seed in (0, 0, 1))
    assert abs(first.mean() - 0.2) < 4 * (0.2 * 0.8 / 20_000) ** 0.5
    assert (first == again).all()
    assert 0.25 < (first != other).mean() < 0.39  # 2 · 0.2 · 0.8 = 0.32 when independent


def test_row_hashes_see_every_number_and_its_place():
    matrix = np.random.default_rng(0).normal(size=(500, 7)).astype(np.float32)
    hashes = hash_rows(matrix)
    assert len(np.unique(hashes)) == 500
    assert (hash_rows(matrix[::-1]) == hashes[::-1]).all()
    assert not (hash_rows(matrix[:, ::-1]) == hashes).any()
    negative_zero = np.zeros((1, 7), np.float32) * -1
    assert hash_rows(negative_zero) == hash_rows(np.zeros((1, 7), np.float32))


TABULAR = ColumnMapping("tabular_classification", features=("a", "b"), label="label", split="split")


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_numeric_columns_become_features(form, tmp_path):
    records = [r | {"a": k / 8, "b": -k} for k, r in enumerate(rows())]
    table = pa.Table.from_pylist(records)
    data = {"jsonl": json_lines(records), "csv": as_csv(table), "parquet": parquet_bytes(table)}
    summary, written = import_bytes(tmp_path, data[form], TABULAR)
    assert written["features"].to_pylist() == [[k / 8, -k] for k in range(12)]
    assert str(written.schema.field("features").type).startswith("fixed_size_list<")
    assert summary.feature_names == ["a", "b"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_list_column_becomes_features(form, tmp_path):
    records = [r | {"x": [k, 0.5, -1.0]} for k, r in enumerate(rows())]
    table = pa.Table.from_pylist(records)
    flat = pa.Table.from_pylist([r | {"x": json.dumps(r["x"])} for r in records])
    data = {"jsonl": json_lines(records), "csv": as_csv(flat), "parquet": parquet_bytes(table)}
    mapping = replace(TABULAR, features=("x",))
    summary, written = import_bytes(tmp_path, data[form], mapping)
    assert written["features"].to_pylist() == [[k, 0.5, -1.0] for k in range(12)]
    assert summary.feature_names == ["x[0]", "x[1]", "x[2]"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_nested_images_are_flattened_row_by_row(form, tmp_path):
    image = np.arange(12 * 6).reshape(12, 1, 2, 3).tolist()
    records = [r | {"image": image[k]} for k, r in enumerate(rows())]
    data = json_lines(records) if form == "jsonl" else parquet_bytes(pa.Table.from_pylist(records))
    mapping = ColumnMapping(
        "image_classification", image="image", image_shape=(1, 2, 3), label="label", split="split"
    )
    summary, written = import_bytes(tmp_path, data, mapping)
    assert written["image"].to_pylist()[3] == [18, 19, 20, 21, 22, 23]
    assert summary.image_shape == [1, 2, 3]


def test_regression_keeps_targets_as_numbers(tmp_path):
    records = [r | {"a": k, "b": 1, "y": k * 1.5} for k, r in enumerate(rows())]
    mapping = ColumnMapping("tabular_regression", features=("a", "b"), target="y", split="split")
    summary, table = import_bytes(tmp_path, json_lines(records), mapping)
    assert table["target"].to_pylist() == [k * 1.5 for k in range(12)]
    assert summary.classes == []
    assert summary.statistics["target"]["maximum"] == 16.5


def test_chat_messages_become_prompt_and_completion(tmp_path):
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi 'there'"},
        {"role": "assistant", "content": "Hello."},
    ]
    records = [{"messages": turns, "split": r["split"], "n": k} for k, r in enumerate(rows())]
    mapping = ColumnMapping("prompt_completion", messages="messages", split="split")
    _, table = import_bytes(tmp_path, json_lines(records), mapping)
    assert table["prompt"][0].as_py() == "system: Be brief.\nuser: Hi 'there'"
    assert table["completion"][0].as_py() == "Hello."
    assert json.loads(table["messages"][0].as_py()) == turns


def test_prompts_and_completions(tmp_path):
    records = [{"q": f"q{k}", "a": f"a{k}", "split": r["split"]} for k, r in enumerate(rows())]
    mapping = ColumnMapping("prompt_completion", prompt="q", completion="a", split="split")
    _, table = import_bytes(tmp_path, json_lines(records), mapping)
    assert table["completion"].to_pylist() == [f"a{k}" for k in range(12)]


def test_stopping_an_import_leaves_nothing_behind(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(json_lines(rows()))
    output = tmp_path / "out" / "canonical.parquet"
    output.parent.mkdir()

    class Cancelled(Exception):
        pass

    def cancel(done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        import_dataset(source, "x", TEXT, SMALL, output, cancel)
    assert list(output.parent.iterdir()) == []


def test_progress_ends_at_the_size_of_the_upload(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(json_lines(rows(3_000)))
    seen: list[tuple[int, int]] = []
    import_parts(
        [DatasetPart(source, "x")], TEXT, SMALL, tmp_path / "out", lambda d, n: seen.append((d, n))
    )
    size = source.stat().st_size
    assert seen[-1] == (size, size)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)


TEXTS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40
).filter(lambda text: pc.utf8_trim_whitespace(text).as_py() != "")


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXTS, min_size=4, max_size=12))
def test_any_text_survives_json_and_parquet_unchanged(texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    splits = ["train", "test"] * len(texts)
    records = [
        {"text": t, "label": "ab"[k // 2 % 2], "split": splits[k]} for k, t in enumerate(texts)
    ]
    kept = []
    for data in (json_lines(records), parquet_bytes(pa.Table.from_pylist(records))):
        _, table = import_bytes(folder, data)
        kept.append(table["text"].to_pylist())
    assert kept == [texts, texts]


def test_mappings_survive_json():
    mapping = replace(TABULAR, probe_label="c", image_shape=(1, 2, 3), left_out=("z",), seed=4)
    assert ColumnMapping.from_json(json.loads(json.dumps(mapping.to_json()))) == mapping


def test_empty_lists_in_a_mapping_mean_the_defaults():
    value = TEXT.to_json() | {"train_values": [], "probe_values": None}
    assert ColumnMapping.from_json(value) == TEXT
