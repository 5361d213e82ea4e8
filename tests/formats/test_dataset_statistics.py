"""Duplicates, leakage, conflicts and histograms, against counts made the slow and plain way."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.datasets_fixtures import import_bytes, json_lines
from workers.formats.column_mapping import ColumnMapping
from workers.formats.near_duplicates import near_duplicate_groups
from workers.formats.statistics import dataset_statistics
from workers.formats.text_keys import normalised_text

TEXT = ColumnMapping("text_classification", text="text", label="label", split="split")
WORDS = [f"word{k}" for k in range(400)]


def records_with_duplicates() -> list[dict[str, str]]:
    chooser = random.Random(0)
    texts = [" ".join(chooser.choices(WORDS, k=12)) for _ in range(60)]
    chosen = texts + [chooser.choice(texts) for _ in range(40)]
    return [
        {
            "text": text,
            "label": chooser.choice(["a", "b"]),
            "split": "train" if k < 70 else "test",
            "source": chooser.choice(["web", "book"]),
        }
        for k, text in enumerate(chosen)
    ]


def test_duplicates_leakage_and_conflicts_equal_a_plain_count(tmp_path):
    records = records_with_duplicates()
    summary, _ = import_bytes(tmp_path, json_lines(records), TEXT)
    groups: dict[str, list[dict[str, str]]] = {}
    for record in records:
        groups.setdefault(record["text"], []).append(record)
    repeated = [g for g in groups.values() if len(g) > 1]
    exact = summary.statistics["exact_duplicates"]
    assert exact["groups"] == len(repeated)
    assert exact["rows"] == sum(map(len, repeated))
    assert exact["across_splits"] == sum(len({r["split"] for r in g}) == 2 for g in repeated)
    conflicting = [g for g in repeated if len({r["label"] for r in g}) == 2]
    conflicts = summary.statistics["conflicting_labels"]
    assert conflicts["groups"] == len(conflicting)
    assert conflicts["rows"] == sum(map(len, conflicting))
    for sample in conflicts["samples"]:
        assert len({example["text"] for example in sample}) == 1


def test_counts_lengths_and_attributes(tmp_path):
    records = records_with_duplicates()
    summary, _ = import_bytes(tmp_path, json_lines(records), TEXT)
    statistics = summary.statistics
    assert statistics == dataset_statistics(tmp_path / "canonical.parquet")
    assert statistics["classes"] == summary.class_counts
    for item in statistics["classes"]:
        assert item["train"] == sum(
            r["label"] == item["label"] and r["split"] == "train" for r in records
        )
    lengths = [len(r["text"]) for r in records]
    assert sum(statistics["text_length"]["counts"]) == len(records)
    assert statistics["text_length"]["median"] == np.median(lengths)
    assert statistics["text_length"]["maximum"] == max(lengths)
    source = next(a for a in statistics["attributes"] if a["name"] == "source")
    counts = Counter(r["source"] for r in records)
    assert {m["value"]: m["rows"] for m in source["most_common"]} == counts
    assert source["distinct"] == 2


def shingles(text: str) -> set[bytes]:
    data = text.encode()
    return {data[k : k + 5] for k in range(max(1, len(data) - 4))}


def similarity(first: str, second: str) -> float:
    a, b = shingles(first), shingles(second)
    return len(a & b) / len(a | b)


def test_near_duplicates_are_found_and_others_are_not():
    chooser = random.Random(1)
    originals = [" ".join(chooser.choices(WORDS, k=30)) for _ in range(200)]
    copies = []
    for text in originals:
        words = text.split()
        words[chooser.randrange(30)] = "changed"
        copies.append(" ".join(words))
    texts = originals + copies
    groups = near_duplicate_groups(lambda: [pa.array(texts[:150]), pa.array(texts[150:])])
    similar = [similarity(a, b) for a, b in zip(originals, copies, strict=True)]
    assert min(similar) > 0.8
    found = (groups[:200] == groups[200:]) & (groups[:200] >= 0)
    assert found.mean() >= 0.9  # expected 1 - (1 - 0.87^4)^4, about 0.97
    for a, b in itertools.combinations(range(200), 2):
        assert groups[a] != groups[b] or groups[a] == -1


def test_only_identical_short_texts_are_near_duplicates():
    groups = near_duplicate_groups(lambda: [pa.array(["ab", "ab", "ba", "", "abcd", "abc"])])
    assert groups[0] == groups[1] >= 0
    assert (groups[2:] == -1).all()


def test_batches_do_not_change_the_groups():
    chooser = random.Random(2)
    texts = [" ".join(chooser.choices(WORDS[:30], k=6)) for _ in range(300)]
    whole = near_duplicate_groups(lambda: [pa.array(texts)])
    pieces = near_duplicate_groups(lambda: [pa.array(texts[k : k + 7]) for k in range(0, 300, 7)])
    assert (whole == pieces).all()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(max_codepoint=127), max_size=20), max_size=6))
def test_the_normal_form_of_ascii_equals_a_plain_one(texts):
    def plain(text: str) -> str:
        kept = "".join(c if c.isalnum() else " " for c in text.lower())
        return " ".join(kept.split())

    assert normalised_text(pa.array(texts, pa.string())).to_pylist() == [plain(t) for t in texts]


def test_the_normal_form_lowers_other_alphabets():
    assert normalised_text(pa.array(["ÉCOLE — Ω", None])).to_pylist() == ["école — ω", ""]


@pytest.mark.parametrize("same", [True, False])
def test_equal_feature_rows_are_duplicates(same, tmp_path):
    mapping = ColumnMapping("tabular_classification", features=("a", "b"), label="label")
    records = [{"a": k // 2 if same else k, "b": 0.5, "label": "xy"[k % 2]} for k in range(80)]
    summary, _ = import_bytes(tmp_path, json_lines(records), mapping)
    statistics = summary.statistics
    assert statistics["exact_duplicates"]["groups"] == (40 if same else 0)
    assert statistics["conflicting_labels"]["groups"] == (40 if same else 0)
    assert statistics["near_duplicates"] is None
