"""Encodings: fitted on the train split alone, the same for later rows, nothing lost silently."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from workers.formats.errors import FormatError
from workers.training.encoding import encode_examples, encode_rows, text_table
from workers.training.encoding.hashing import hashed_counts
from workers.training.encoding.language import joined, shortened
from workers.training.encoding.tokenizers import BEGIN, END, flat_ids, padded
from workers.training.networks.registry import build_network, default_architecture
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import train

TEXTS = [
    "A wonderful, warm film :)",
    "dull and far too long",
    "Not bad — not bad at all!",
    "the plot is a plot is a plot",
    "Ünïcode ½ 中文 😀😀",
    "",
    "wonderful",
    "too dull",
]
LABELS = ["good", "bad", "good", "bad", "good", "bad", "good", "bad"]
SPLITS = ["train", "probe", "train", "train", "train", "train", "probe", "probe"]


def indices(splits: list[str], name: str) -> pa.Array:
    count = iter(range(len(splits)))
    return pa.array([next(count) if split == name else None for split in splits], pa.int32())


def table(splits: list[str] = SPLITS, **columns: object) -> pa.Table:
    return pa.table(
        {
            "split": splits,
            "train_index": indices(splits, "train"),
            "probe_index": indices(splits, "probe"),
            **columns,
        }
    )


TEXT_METADATA = {"task": "text_classification", "classes": ["bad", "good"]}
TEXT_TABLE = table(text=TEXTS, label=LABELS)


def encoded_texts(name: str, **extra: object):
    architecture = default_architecture(name, TEXT_METADATA) | extra
    return encode_examples(TEXT_TABLE, TEXT_METADATA, architecture)


TEXT_ENCODINGS = [
    ("bag_of_embeddings", {"tokenizer": "hashed"}),
    ("bag_of_embeddings", {"tokenizer": "trained", "tokenizer_size": 300}),
    ("transformer", {"tokenizer": "trained", "tokenizer_size": 300}),
    ("transformer", {"tokenizer": "bytes"}),
]


@pytest.mark.parametrize(("name", "extra"), TEXT_ENCODINGS)
def test_texts_become_examples_that_a_network_takes(name, extra):
    encoded = encoded_texts(name, **extra)
    assert len(encoded.train) == 5 and len(encoded.probe) == 3
    assert encoded.train.targets.tolist() == [1, 1, 0, 1, 0]
    assert encoded.probe.targets.tolist() == [0, 1, 0]
    assert encoded.loss == "cross_entropy" and encoded.starting_weights is None
    outputs = build_network(encoded.architecture, 0)(**encoded.train.inputs)
    assert outputs.shape == (5, 2) and bool(torch.isfinite(outputs).all())


@pytest.mark.parametrize(("name", "extra"), TEXT_ENCODINGS)
def test_later_texts_are_encoded_as_the_same_texts_were(name, extra):
    encoded = encoded_texts(name, **extra)
    state = json.loads(json.dumps(encoded.state))
    network = build_network(encoded.architecture, 0)
    expected = network(**encoded.probe.inputs)
    pasted = text_table([TEXTS[1], TEXTS[6], TEXTS[7]], ["bad", "good", "bad"])
    again = encode_rows(pasted, state)
    assert torch.equal(again.targets, encoded.probe.targets)
    torch.testing.assert_close(network(**again.inputs), expected)


@pytest.mark.parametrize(("name", "extra"), TEXT_ENCODINGS)
def test_probe_texts_decide_nothing_about_the_encoding(name, extra):
    other = table(
        text=[
            text if split == "train" else "zebra xylophone" * 9
            for text, split in zip(TEXTS, SPLITS, strict=True)
        ],
        label=LABELS,
    )
    architecture = default_architecture(name, TEXT_METADATA) | extra
    changed = encode_examples(other, TEXT_METADATA, architecture)
    encoded = encoded_texts(name, **extra)
    assert changed.state == encoded.state
    for key, tensor in encoded.train.inputs.items():
        assert torch.equal(tensor, changed.train.inputs[key])


def test_rows_follow_their_index_not_their_place_in_the_table():
    shuffled = TEXT_TABLE.take([7, 3, 0, 2, 6, 5, 4, 1])
    architecture = default_architecture("transformer", TEXT_METADATA) | {"tokenizer": "bytes"}
    first = encode_examples(TEXT_TABLE, TEXT_METADATA, architecture)
    again = encode_examples(shuffled, TEXT_METADATA, architecture)
    assert torch.equal(first.train.inputs["ids"], again.train.inputs["ids"])
    assert torch.equal(first.probe.targets, again.probe.targets)


def test_a_trained_tokenizer_is_the_same_in_every_process():
    program = (
        "import hashlib, pyarrow as pa\n"
        "from workers.training.encoding.tokenizers import fit_tokenizer\n"
        "texts = pa.array([f'the {i % 7} cats and {i % 5} dogs of {i}' for i in range(300)])\n"
        "print(hashlib.sha256(fit_tokenizer(texts, 400).encode()).hexdigest())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(answers) == 1


def test_a_text_that_spells_a_special_token_is_only_text():
    for tokenizer in ("bytes", "trained"):
        encoded = encoded_texts("transformer", tokenizer=tokenizer, tokenizer_size=300)
        rows = encode_rows(text_table(["<end><padding><begin>"]), encoded.state)
        ids = rows.inputs["ids"][0].tolist()
        assert ids[0] == BEGIN and not {0, BEGIN, END} & set(ids[1:])


def test_a_text_without_a_label_gets_the_ignored_class():
    state = encoded_texts("transformer", tokenizer="bytes").state
    assert encode_rows(text_table(["fine"]), state).targets.tolist() == [-100]


def test_a_label_outside_the_classes_is_refused_by_row():
    state = encoded_texts("transformer", tokenizer="bytes").state
    with pytest.raises(FormatError) as caught:
        encode_rows(text_table(["fine", "odd"], ["good", "ugly"]), state)
    assert caught.value.row == 2 and caught.value.field == "label"


def test_shortened_texts_are_counted_aloud():
    encoded = encoded_texts("transformer", tokenizer="bytes", maximum_length=8)
    assert encoded.train.inputs["ids"].shape[1] == 8
    assert encoded.warnings[0].startswith("4 of 5 train and 3 of 3 probe texts")
    assert encoded_texts("transformer", tokenizer="bytes").warnings == ()


# Bags of units


def test_a_bag_holds_words_pairs_and_character_trigrams():
    row, _, count = hashed_counts(pa.array(["ab cd", "AB  CD", ""]), 2**18)
    # Words: ab, cd; pair: ab cd; trigrams: "ab ", "b c", " cd".
    assert np.bincount(row, minlength=3).tolist() == [6, 7, 0]
    assert set(count.tolist()) == {1}


def test_case_and_unicode_form_do_not_change_a_bag():
    same = hashed_counts(pa.array(["Café ﬁn", "cafe\u0301 fin"]), 4096)
    row, bucket, count = same
    first, second = ((bucket[row == r].tolist(), count[row == r].tolist()) for r in (0, 1))
    assert first == second


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_the_bag_of_a_text_does_not_depend_on_its_neighbours(texts):
    row, bucket, count = hashed_counts(pa.array(texts, pa.string()), 4096)
    for place, text in enumerate(texts):
        _, alone_bucket, alone_count = hashed_counts(pa.array([text], pa.string()), 4096)
        assert bucket[row == place].tolist() == alone_bucket.tolist()
        assert count[row == place].tolist() == alone_count.tolist()


def test_a_large_set_in_pieces_gives_the_bags_of_the_whole(monkeypatch):
    from workers.training.encoding import hashing

    texts = pa.array([f"text number {i} of many" for i in range(50)])
    whole = hashed_counts(texts, 4096)
    monkeypatch.setattr(hashing, "CHARACTERS_AT_ONCE", 60)
    for left, right in zip(whole, hashed_counts(texts, 4096), strict=True):
        assert np.array_equal(left, right)


def test_hash_buckets_fill_evenly():
    letters = np.random.default_rng(0).integers(0x4E00, 0x9FA5, (5_000, 4))
    words = pa.array(["".join(map(chr, word)) for word in letters])
    _, bucket, count = hashed_counts(words, 256)
    share = np.bincount(bucket, count, minlength=256) / count.sum()
    assert share.min() > 0.5 / 256 and share.max() < 1.5 / 256


def test_bag_weights_have_length_one_and_keep_the_rarest_units():
    encoded = encoded_texts("bag_of_embeddings", most_units=5)
    weights = encoded.train.inputs["weights"]
    lengths = weights.norm(dim=1)
    filled = lengths > 0
    torch.testing.assert_close(lengths[filled], torch.ones(int(filled.sum())))
    assert weights.shape[1] == 5 and filled.tolist() == [True, True, True, True, False]
    assert "different units" in encoded.warnings[0]


# Language models


def sequences(count_prompts: str = "completion", **extra: object):
    metadata = {"task": "prompt_completion"}
    rows = table(
        ["train", "train", "probe"],
        prompt=["Hi ", "A long prompt: ", ""],
        completion=["you", "end", "zz"],
    )
    architecture = default_architecture("causal_transformer", metadata) | {
        "tokenizer": "bytes",
        "loss_on": count_prompts,
        **extra,
    }
    return encode_examples(rows, metadata, architecture)


def test_targets_are_the_inputs_shifted_by_one_and_prompts_do_not_count():
    encoded = sequences()
    ids, targets = encoded.train.inputs["ids"][0], encoded.train.targets[0]
    byte = {letter: ord(letter) + 3 for letter in "Hi you"}
    assert ids[:7].tolist() == [BEGIN, *(byte[letter] for letter in "Hi you")]
    assert targets[:7].tolist() == [-100] * 3 + [byte[c] for c in "you"] + [END]
    assert set(targets[7:].tolist()) == {-100} and not encoded.train.inputs["mask"][0, 7:].any()
    assert encoded.loss == "next_token"
    outputs = build_network(encoded.architecture, 0)(**encoded.train.inputs)
    assert outputs.shape == (*encoded.train.targets.shape, encoded.architecture["vocabulary_size"])


def test_all_tokens_count_when_asked():
    targets = sequences("all").train.targets[0]
    assert targets[:3].tolist() == [ord(letter) + 3 for letter in "Hi "]


def test_a_sequence_too_long_loses_the_start_of_its_prompt_first():
    encoded = sequences(maximum_length=8)
    ids, targets = encoded.train.inputs["ids"][1], encoded.train.targets[1]
    assert ids.tolist() == [BEGIN, *(ord(letter) + 3 for letter in "pt: end"[-7:])]
    assert targets.tolist()[-4:] == [*(ord(letter) + 3 for letter in "end"), END]
    assert encoded.warnings


def test_plain_texts_count_from_their_first_token():
    metadata = {"task": "text"}
    rows = table(["train", "probe"], text=["abc", "d"])
    architecture = default_architecture("causal_transformer", metadata) | {"tokenizer": "bytes"}
    encoded = encode_examples(rows, metadata, architecture)
    assert encoded.train.targets[0].tolist() == [*(ord(letter) + 3 for letter in "abc"), END]
    assert encoded.train.inputs["ids"][0].tolist() == [BEGIN, *(ord(c) + 3 for c in "abc")]


@given(st.lists(st.lists(st.integers(1, 99), max_size=5), min_size=1, max_size=5))
def test_ragged_rows_are_joined_cut_and_padded_like_lists(rows):
    flat = np.array([value for row in rows for value in row], np.int64)
    lengths = np.array([len(row) for row in rows])
    both, both_lengths = joined([(flat, lengths), (flat * 100, lengths)])
    ids, mask = padded(both, both_lengths, 7)
    for place, row in enumerate(rows):
        expected = (row + [100 * value for value in row])[:7]
        assert ids[place][mask[place]].tolist() == expected
    kept, kept_lengths = shortened(flat, lengths, np.full(len(rows), 2), from_start=True)
    assert kept.tolist() == [value for row in rows for value in row[-2:]]
    assert kept_lengths.tolist() == [min(len(row), 2) for row in rows]


def test_raw_bytes_are_the_text_in_utf8():
    ids, lengths = flat_ids(pa.array(["é", "ab"]), None)
    assert (ids - 3).tolist() == [0xC3, 0xA9, 97, 98] and lengths.tolist() == [2, 2]


# Numbers and images


def number_table(features: np.ndarray, **columns: object) -> pa.Table:
    splits = ["train"] * (len(features) - 2) + ["probe"] * 2
    flat = pa.array(features.reshape(-1).astype(np.float32))
    return table(
        splits, features=pa.FixedSizeListArray.from_arrays(flat, features.shape[1]), **columns
    )


def test_features_are_standardised_with_the_train_split_alone():
    features = np.random.default_rng(0).normal(5, 3, (9, 4)) * [1, 100, 0.01, 0]
    metadata = {"task": "tabular_classification", "classes": ["a", "b"]}
    metadata["feature_names"] = list("wxyz")
    rows = number_table(features, label=["a", "b"] * 4 + ["a"])
    encoded = encode_examples(rows, metadata, default_architecture("mlp", metadata))
    peer = StandardScaler().fit(features[:7].astype(np.float32).astype(float))
    np.testing.assert_allclose(
        encoded.probe.inputs["features"], peer.transform(features[7:]), rtol=1e-4, atol=1e-5
    )
    plain = default_architecture("mlp", metadata) | {"standardise": False}
    kept = encode_examples(rows, metadata, plain).probe.inputs["features"]
    np.testing.assert_allclose(kept, features[7:], rtol=1e-6)


def test_a_regression_target_can_be_brought_back_to_its_own_unit():
    features = np.random.default_rng(0).normal(size=(8, 2))
    target = 1000 + 50 * features[:, 0]
    metadata = {"task": "tabular_regression", "feature_names": ["x", "y"]}
    rows = number_table(features, target=target)
    encoded = encode_examples(rows, metadata, default_architecture("linear_regression", metadata))
    state = encoded.state["targets"]
    assert encoded.loss == "squared_error" and abs(float(encoded.train.targets.mean())) < 1e-6
    back = encoded.probe.targets.double() * state["scale"] + state["mean"]
    np.testing.assert_allclose(back, target[6:], rtol=1e-5)


def test_images_share_one_mean_and_scale_a_channel():
    pixels = np.random.default_rng(0).uniform(0, 255, (6, 2 * 4 * 3)).astype(np.float32)
    metadata = {"task": "image_classification", "classes": ["a", "b"], "image_shape": [2, 4, 3]}
    splits = ["train"] * 4 + ["probe"] * 2
    images = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), 24)
    rows = table(splits, image=images, label=["a", "b"] * 3)
    encoded = encode_examples(rows, metadata, default_architecture("convolutional", metadata))
    image = encoded.train.inputs["image"]
    assert image.shape == (4, 2, 4, 3)
    torch.testing.assert_close(image.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(image.std((0, 2, 3), correction=0), torch.ones(2))
    assert build_network(encoded.architecture, 0)(**encoded.probe.inputs).shape == (2, 2)


def test_a_missing_number_is_refused():
    features = np.ones((4, 2))
    features[1, 1] = np.nan
    metadata = {"task": "tabular_classification", "classes": ["a"], "feature_names": ["x", "y"]}
    with pytest.raises(FormatError, match="not finite"):
        encode_examples(
            number_table(features, label=["a"] * 4), metadata, default_architecture("mlp", metadata)
        )


# The whole way


@pytest.mark.parametrize(("name", "extra"), TEXT_ENCODINGS)
def test_a_text_classifier_learns_its_train_texts(name, extra):
    encoded = encoded_texts(name, **extra)
    problem = TrainingProblem(
        encoded.architecture,
        encoded.train,
        Recipe(learning_rate=1e-2, epochs=60, batch_size=5),
        encoded.loss,
    )
    network = problem.build_network(0)
    before = torch.nn.functional.cross_entropy(
        network(**encoded.train.inputs), encoded.train.targets
    )
    run = train(problem, 0)
    from workers.training.parameters import ParameterLayout

    named = ParameterLayout.of(network).unflatten(run.parameters)
    outputs = torch.func.functional_call(network, named, (), encoded.train.inputs)
    after = torch.nn.functional.cross_entropy(outputs, encoded.train.targets)
    assert float(after) < 0.2 * float(before.detach())
