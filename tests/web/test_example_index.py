"""Pages of examples agree with a plain sort and filter of the same rows, in every order."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from curation.queries import example_index
from curation.queries.example_index import ExampleIndex, _build, _sortable

TEXTS = st.text("abAB é→😀", max_size=6)
ROWS = st.lists(
    st.tuples(TEXTS, st.sampled_from(["x", "y", None]), st.sampled_from(["train", "probe"]),
              st.sampled_from(["p", "q"])),
    min_size=1, max_size=40,
)  # fmt: skip
SCORES = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, float("nan"), float("inf")])


def make_index(folder: Path, rows: list[tuple[Any, ...]]) -> ExampleIndex:
    """A canonical table in two row groups, and the index built from it."""
    texts, labels, splits, sources = zip(*rows, strict=True)
    train = np.cumsum([s == "train" for s in splits]) - 1
    probe = np.cumsum([s == "probe" for s in splits]) - 1
    table = pa.table(
        {
            "example_id": [f"e{n}" for n in range(len(rows))],
            "position": range(len(rows)),
            "split": splits,
            "train_index": pa.array(
                [int(t) if s == "train" else None for t, s in zip(train, splits, strict=True)],
                pa.int32(),
            ),
            "probe_index": pa.array(
                [int(t) if s == "probe" else None for t, s in zip(probe, splits, strict=True)],
                pa.int32(),
            ),
            "text": pa.array(texts, pa.string()),
            "label": pa.array(labels, pa.string()),
            "attribute_source": sources,
        }
    )
    pq.write_table(table, folder / "examples.parquet", row_group_size=max(1, len(rows) // 2))
    _build(folder / "examples.parquet", folder / "index" / "built")
    return ExampleIndex(folder / "index" / "built")


@hypothesis_settings(deadline=None, max_examples=60)
@given(rows=ROWS, data=st.data())
def test_every_page_is_a_slice_of_the_plain_sort(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    index = make_index(tmp_path_factory.mktemp("index"), rows)
    train = [n for n, row in enumerate(rows) if row[2] == "train"]
    drawn = st.lists(SCORES, min_size=len(train), max_size=len(train))
    scores = np.array(data.draw(drawn), np.float32)
    score_of = {n: float(s) for n, s in zip(train, scores, strict=True) if np.isfinite(s)}
    keys_of: dict[str, Any] = {
        "text": (index.array("content_rank"), lambda n: rows[n][0].encode()),
        "label": (index.array("answer_rank"), lambda n: rows[n][1]),
        "score": (index.score_keys(scores, magnitude=False), score_of.get),
    }
    keys, value = keys_of[data.draw(st.sampled_from(sorted(keys_of)))]
    split = data.draw(st.sampled_from(["", "train", "probe"]))
    descending = data.draw(st.booleans())
    offset, limit = data.draw(st.integers(0, 45)), data.draw(st.integers(1, 45))

    matching = index.matching(equal={"split": split} if split else {})
    found = index.ordered(
        matching, offset=offset, limit=limit, keys=np.asarray(keys, np.int64), descending=descending
    )

    chosen = [n for n in range(len(rows)) if not split or rows[n][2] == split]
    known = [n for n in chosen if value(n) is not None]
    missing = [n for n in chosen if value(n) is None]
    plain = sorted(known, key=value, reverse=descending)
    expected = (plain + missing)[offset : offset + limit]
    assert found.tolist() == expected


@hypothesis_settings(deadline=None, max_examples=60)
@given(rows=ROWS, search=st.text("abAB é.*(", min_size=1, max_size=3))
def test_a_search_finds_exactly_the_texts_that_hold_it_in_any_case(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]], search: str
) -> None:
    index = make_index(tmp_path_factory.mktemp("index"), rows)
    for equal in ({}, {"attribute_source": "p"}):
        found = index.matching(search=search, equal=equal)
        assert found is not None
        assert found.tolist() == [
            n
            for n, row in enumerate(rows)
            if search.lower() in row[0].lower() and (not equal or row[3] == "p")
        ]


def test_rows_come_in_the_asked_order_with_their_values(tmp_path: Path) -> None:
    index = make_index(tmp_path, [(f"t{n}", "x", "train", "p") for n in range(10)])
    rows = index.rows([7, 2, 7, 0], ["example_id", "content"])
    assert [(row["example_id"], row["content"]) for row in rows] == [
        ("e7", "t7"), ("e2", "t2"), ("e7", "t7"), ("e0", "t0"),
    ]  # fmt: skip


def test_facets_count_each_value_in_each_split(tmp_path: Path) -> None:
    rows = [("a", "x", "train", "p"), ("b", "x", "probe", "q"), ("c", None, "train", "p")]
    index = make_index(tmp_path, rows)
    assert index.facets["label"] == {"all": [["x", 2]], "train": [["x", 1]], "probe": [["x", 1]]}
    assert index.facets["attribute_source"]["all"] == [["p", 2], ["q", 1]]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_integers_of_scores_sort_like_the_scores(values: list[float]) -> None:
    scores = np.array(values, np.float32)
    by_integer = np.argsort(_sortable(scores), kind="stable")
    assert by_integer.tolist() == np.argsort(scores, kind="stable").tolist()


def test_a_copy_that_was_not_used_longest_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = make_index(tmp_path, [("a", "x", "train", "p")])
    old = index.folder.parent / "old"
    old.mkdir()
    (old / "examples.arrow").write_bytes(b"0" * 1000)
    os.utime(old, (1, 1))
    size = sum(f.stat().st_size for f in index.folder.iterdir())
    monkeypatch.setattr(example_index, "MOST_BYTES", size + 500)
    example_index._make_room(index.folder.parent)
    assert not old.exists()
    assert index.folder.exists()


def test_prompts_and_completions_are_one_content(tmp_path: Path) -> None:
    table = pa.table(
        {
            "example_id": ["a"], "position": [0], "split": ["train"],
            "train_index": pa.array([0], pa.int32()), "probe_index": pa.array([None], pa.int32()),
            "prompt": ["one"], "completion": ["two"],
        }
    )  # fmt: skip
    metadata = {"hunch": json.dumps({"task": "prompt_completion"})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "examples.parquet")
    _build(tmp_path / "examples.parquet", tmp_path / "index" / "built")
    row = ExampleIndex(tmp_path / "index" / "built").rows([0], ["content"])[0]
    assert row["content"] == "one → two"
