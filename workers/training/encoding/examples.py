"""Fit an encoding on the train split and encode the canonical table with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from workers.formats.models import UploadedModel, load_model
from workers.formats.models_tokenizer import load_tokenizer
from workers.training.encoding import (
    arrays,
    bags,
    language,
    language_models,
    targets,
    tokenizers,
    uploaded,
)
from workers.training.encoding.uploaded import Progress
from workers.training.examples import EncodedExamples
from workers.training.networks.registry import (
    ARCHITECTURES,
    UPLOADED,
    default_architecture,
    sizes_from_metadata,
    validate_architecture,
)
from workers.training.networks.settings import ArchitectureError

LOSSES = {"tabular_regression": "squared_error", "text": "next_token"}
LOSSES["prompt_completion"] = "next_token"


@dataclass(frozen=True)
class Encoded:
    """A dataset ready for training.

    `train` and `probe` are in the order of train_index and probe_index. `architecture` is complete:
    `build_network` takes it as it is. `state` is plain JSON with which `encode_rows` encodes other
    rows in the same way; a regression target is in units of `state["targets"]["scale"]` around
    `state["targets"]["mean"]`. `starting_weights` belong to the training problem of an uploaded
    model that is trained beyond its head. `warnings` are sentences for a person.
    """

    train: EncodedExamples
    probe: EncodedExamples
    architecture: dict[str, Any]
    state: dict[str, Any]
    loss: str
    starting_weights: dict[str, Any] | None
    warnings: tuple[str, ...]


def encode_examples(
    table: pa.Table,
    metadata: Mapping[str, Any],
    architecture: Mapping[str, Any],
    model_folder: Path | None = None,
    cache_folder: Path | None = None,
    progress: Progress | None = None,
) -> Encoded:
    """Encode both splits of a canonical table for an architecture.

    Everything fitted (tokenizer, vocabulary, document frequencies, standardisation) sees the train
    split alone. `model_folder` is needed for an uploaded model; `cache_folder` keeps a frozen
    encoder's features. Raises FormatError for rows that cannot be encoded and ArchitectureError
    for settings that do not fit; `progress(done, total)` may raise to stop.
    """
    validate_architecture(architecture)
    settings = default_architecture(architecture["name"], metadata) | dict(architecture)
    is_language_model = settings["name"] == "uploaded_language_model"
    if "lora_rank" in settings and "trained_part" not in architecture:
        del settings["trained_part"]  # the recipe decides
    if settings["name"] == "causal_transformer" and "trained_part" not in settings:
        # What a network trained whole is called does not hang on adapters that it lacks.
        for name in {"lora_rank", "lora_scale"} - set(architecture):
            del settings[name]
    train, probe = split(table, "train"), split(table, "probe")
    model = loaded(settings, model_folder)
    if model is not None and "pooling" in settings and "pooling" not in architecture:
        settings["pooling"] = model.summary.suggested_pooling
    if model is not None and settings.get("trained_part") == "last_layers":
        check_last_layers(settings, model)
    state = fit(train, dict(metadata), settings, model, cache_folder, progress)
    encoded_train, cut_train = encode(train, state, model, cache_folder, progress)
    encoded_probe, cut_probe = encode(probe, state, model, cache_folder, progress)
    settings |= data_sizes(settings, metadata, state, encoded_train, model)
    validate_architecture(settings, complete=True)
    weights = None
    if model is not None and settings.get("trained_part") != "head":
        prefix = "model" if is_language_model else "backbone"
        weights = {f"{prefix}.{name}": p.detach() for name, p in model.backbone.named_parameters()}
    return Encoded(
        encoded_train,
        encoded_probe,
        settings,
        state,
        LOSSES.get(metadata["task"], "cross_entropy"),
        weights,
        shortening_warnings(settings, cut_train, len(train), cut_probe, len(probe)),
    )


def encode_rows(
    table: pa.Table,
    state: Mapping[str, Any],
    model_folder: Path | None = None,
    cache_folder: Path | None = None,
    *,
    completions_only: bool = False,
    ends: bool = True,
) -> EncodedExamples:
    """Encode further rows with a fitted state, in the table's order.

    A table without labels gets targets of −100, which suits behaviours that read no label. For a
    language model, a table with `prompt` and `completion` is read as such whatever it was trained
    on; with `completions_only` the prompt's tokens never count, and without `ends` a completion
    may go on: the token that ends a text is left out.
    """
    inputs = dict(state["inputs"])
    model = None
    if inputs["kind"].startswith("uploaded"):
        reads_sequences = inputs["kind"] == "uploaded_sequences"
        name = "uploaded_language_model" if reads_sequences else "transformers"
        model = loaded({"name": name}, model_folder)
        if model is not None and model.summary.sha256 != inputs["model_sha256"]:
            raise ValueError("the model folder is not the one the encoding was fitted with")
    if completions_only:
        inputs["count_prompts"] = False
    return encode(table, {**state, "inputs": inputs}, model, cache_folder, None, ends)[0]


def token_texts(
    tokens: Sequence[int], state: Mapping[str, Any], model_folder: Path | None = None
) -> list[str]:
    """How each token id of a language model's encoding reads, one text a token."""
    inputs = state["inputs"]
    tokenizer = None
    if inputs["kind"] == "uploaded_sequences":
        assert model_folder is not None
        tokenizer = load_tokenizer(model_folder, inputs["vocabulary_size"])
    elif inputs["tokenizer_json"] is not None:
        tokenizer = Tokenizer.from_str(inputs["tokenizer_json"])
    return tokenizers.token_texts(list(tokens), tokenizer)


def text_table(
    texts: Sequence[str], labels: Sequence[str] | None = None, prompts: Sequence[str] | None = None
) -> pa.Table:
    """Pasted texts as rows for `encode_rows`; with `prompts` the texts are completions."""
    columns: dict[str, Any] = {"text": pa.array(texts, pa.string())}
    if prompts is not None:
        columns = {
            "prompt": pa.array(prompts, pa.string()),
            "completion": pa.array(texts, pa.string()),
        }
    if labels is not None:
        columns["label"] = pa.array(labels, pa.string())
    return pa.table(columns)


def split(table: pa.Table, name: str) -> pa.Table:
    rows = table.filter(pc.equal(table["split"], name))
    return rows.sort_by(f"{name}_index")


def loaded(settings: Mapping[str, Any], model_folder: Path | None) -> UploadedModel | None:
    if settings["name"] not in UPLOADED:
        return None
    if model_folder is None:
        raise ArchitectureError("name", "an uploaded model needs its folder")
    return load_model(model_folder, language_model=settings["name"] == "uploaded_language_model")


def check_last_layers(settings: Mapping[str, Any], model: UploadedModel) -> None:
    if settings["last_layers"] > model.summary.number_of_layers:
        raise ArchitectureError(
            "last_layers", f"the model has {model.summary.number_of_layers} layers"
        )


def fit(
    train: pa.Table,
    metadata: dict[str, Any],
    settings: dict[str, Any],
    model: UploadedModel | None,
    cache_folder: Path | None,
    progress: Progress | None,
) -> dict[str, Any]:
    task = metadata["task"]
    inputs: dict[str, Any]
    if model is not None and settings["name"] == "uploaded_language_model":
        inputs = language_models.fit_language_model(
            settings, model, has_messages="messages" in train.column_names
        )
    elif model is not None:
        inputs = uploaded.fit_uploaded(
            column(train, "text"), settings, model, cache_folder, progress
        )
    elif task.startswith("tabular"):
        values = arrays.matrix(train["features"], "features")
        inputs = {"kind": "features"}
        inputs["scaling"] = arrays.fit_scaling(values, values.shape[1], settings["standardise"])
    elif task == "image_classification":
        values = arrays.matrix(train["image"], "image")
        inputs = {"kind": "image", "image_shape": list(metadata["image_shape"])}
        inputs["scaling"] = arrays.fit_scaling(
            values, metadata["image_shape"][0], settings["standardise"]
        )
    elif settings["name"] == "bag_of_embeddings":
        inputs = bags.fit_bag(column(train, "text"), settings)
    else:
        inputs = language.fit_tokens(all_texts(train, task), settings)
        if task in ("text", "prompt_completion"):
            inputs["kind"] = "sequences"
            inputs["count_prompts"] = settings["loss_on"] == "all"
    state = {"version": 1, "task": task, "inputs": inputs}
    if not inputs["kind"].endswith("sequences"):
        state["targets"] = targets.fit_targets(train, metadata, settings)
    return state


def encode(
    table: pa.Table,
    state: dict[str, Any],
    model: UploadedModel | None,
    cache_folder: Path | None,
    progress: Progress | None,
    ends: bool = True,
) -> tuple[EncodedExamples, int]:
    """The rows as tensors, and how many were shortened."""
    inputs, cut = state["inputs"], 0
    kind = inputs["kind"]
    if kind.endswith("sequences"):
        tensors, tokens, cut = encode_texts(table, state, model, ends)
        return EncodedExamples(tensors, tokens), cut
    if kind == "features":
        tensors = {"features": scaled_column(table, "features", inputs)}
    elif kind == "image":
        shape = inputs["image_shape"]
        tensors = {"image": scaled_column(table, "image", inputs).reshape(-1, *shape)}
    elif kind == "bag":
        tensors, cut = bags.encode_bag(column(table, "text"), inputs)
    elif kind == "tokens":
        tensors, cut = language.encode_tokens(column(table, "text"), inputs)
    else:
        assert model is not None
        tensors, cut = uploaded.encode_uploaded(
            column(table, "text"), inputs, model, cache_folder, progress
        )
    return EncodedExamples(tensors, targets.encode_targets(table, state["targets"])), cut


def encode_texts(
    table: pa.Table, state: dict[str, Any], model: UploadedModel | None, ends: bool
) -> tuple[dict[str, Any], Any, int]:
    """The rows as sequences whose next tokens are learnt: inputs, targets, and how many were
    shortened."""
    inputs = state["inputs"]
    names = table.column_names
    has_prompts = state["task"] == "prompt_completion" or (
        "completion" in names and "text" not in names
    )
    prompts = column(table, "prompt") if has_prompts else None
    texts = column(table, "completion" if has_prompts else "text")
    if model is None:
        return language.encode_sequences(prompts, texts, inputs, inputs["count_prompts"], ends)
    messages = column(table, "messages") if "messages" in names else None
    return language_models.encode_for_model(prompts, texts, messages, inputs, model, ends)


def scaled_column(table: pa.Table, name: str, inputs: dict[str, Any]) -> Any:
    return arrays.scaled(arrays.matrix(table[name], name), inputs["scaling"])


def column(table: pa.Table, name: str) -> pa.Array:
    """One text column as a single array, null as the empty text."""
    filled = pc.fill_null(table[name].cast(pa.large_string()), "")
    return pa.concat_arrays(filled.chunks) if filled.num_chunks else pa.array([], pa.large_string())


def all_texts(train: pa.Table, task: str) -> pa.Array:
    if task != "prompt_completion":
        return column(train, "text")
    return pa.concat_arrays([column(train, "prompt"), column(train, "completion")])


def data_sizes(
    settings: Mapping[str, Any],
    metadata: Mapping[str, Any],
    state: Mapping[str, Any],
    train: EncodedExamples,
    model: UploadedModel | None,
) -> dict[str, Any]:
    """The settings that the encoded data decide."""
    entry = ARCHITECTURES[settings["name"]]
    sizes = sizes_from_metadata(entry, metadata)
    if "features" in train.inputs:
        sizes["number_of_features"] = train.inputs["features"].shape[1]
    if "vocabulary_size" in state["inputs"]:
        sizes["vocabulary_size"] = state["inputs"]["vocabulary_size"]
    if model is not None:
        sizes["model_sha256"] = model.summary.sha256
        sizes["model_configuration"] = model.summary.configuration
        sizes["maximum_length"] = state["inputs"]["maximum_length"]
    return sizes


def shortening_warnings(
    settings: Mapping[str, Any], cut_train: int, train: int, cut_probe: int, probe: int
) -> tuple[str, ...]:
    if not cut_train + cut_probe:
        return ()
    if settings["name"] == "bag_of_embeddings":
        what = f"had more than {settings['most_units']} different units; the rarest were left out"
    else:
        what = f"were longer than {settings['maximum_length']} tokens and were shortened"
    return (f"{cut_train:,} of {train:,} train and {cut_probe:,} of {probe:,} probe texts {what}.",)
