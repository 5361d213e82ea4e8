"""The networks Hunch can train: what each is, the tasks it fits, its settings, how it is built.

A network is added by adding one file and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from workers.training.networks.bag_of_embeddings import build_bag_of_embeddings
from workers.training.networks.causal_transformer import build_causal_transformer
from workers.training.networks.convolutional import build_convolutional
from workers.training.networks.language_model import build_language_model
from workers.training.networks.linear import build_linear
from workers.training.networks.mlp import build_mlp
from workers.training.networks.settings import (
    ArchitectureError,
    Check,
    Setting,
    choice,
    from_data,
    integer,
    integer_list,
    switch,
)
from workers.training.networks.transformer import build_transformer
from workers.training.networks.uploaded import build_uploaded

__all__ = [
    "ARCHITECTURES",
    "UPLOADED",
    "Architecture",
    "ArchitectureError",
    "architectures_for",
    "build_network",
    "default_architecture",
    "validate_architecture",
]


@dataclass(frozen=True)
class Architecture:
    """One family of networks. `tasks` are dataset tasks; `settings` name every field allowed."""

    name: str
    title: str
    explanation: str
    tasks: tuple[str, ...]
    settings: tuple[Setting, ...]
    build: Callable[[dict[str, Any], torch.Generator], nn.Module]
    check: Check | None = None

    def setting(self, name: str) -> Setting | None:
        return next((setting for setting in self.settings if setting.name == name), None)


ACTIVATION = choice("activation", "Activation", "gelu", ("gelu", "tanh", "silu", "softplus"))
OUTPUTS = from_data(integer("number_of_outputs", "Number of outputs", 1, 1, 10_000))
FEATURES = from_data(integer("number_of_features", "Number of features", 1, 1, 100_000))
VOCABULARY = from_data(integer("vocabulary_size", "Vocabulary size", 1, 1, 1_000_000))
STANDARDISE = switch("standardise", "Standardise the inputs on the train split", True)
STANDARDISE_TARGET = switch(
    "standardise_target", "Standardise a regression target on the train split", True
)
LOSS_ON = choice("loss_on", "Tokens that count", "completion", ("completion", "all"))
LORA_RANK = integer("lora_rank", "Rank of the adapters", 8, 1, 512)
LORA_SCALE = integer("lora_scale", "Scale of the adapters (divided by the rank)", 16, 1, 4_096)
MODEL_CONFIGURATION = from_data(
    Setting("model_configuration", "Model configuration", "object", None)
)
MODEL_HASH = from_data(Setting("model_sha256", "Model hash", "text", None))
TRANSFORMER_SETTINGS = (
    integer("width", "Width", 64, 4, 2_048),
    integer("layers", "Layers", 2, 1, 48),
    integer("heads", "Attention heads", 4, 1, 64),
    integer("maximum_length", "Longest text, in tokens", 64, 2, 4_096),
    choice("tokenizer", "Tokenizer", "trained", ("trained", "bytes")),
    integer("tokenizer_size", "Tokens of a trained tokenizer", 2_000, 300, 100_000),
    VOCABULARY,
)


def check_heads(architecture: Mapping[str, Any]) -> None:
    if architecture["width"] % architecture["heads"]:
        raise ArchitectureError("heads", "the width must be a multiple of the number of heads")


def check_bag(architecture: Mapping[str, Any]) -> None:
    buckets = architecture["buckets"]
    if buckets & (buckets - 1):
        raise ArchitectureError("buckets", "must be a power of two")


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "softmax_regression",
            "Softmax regression",
            "One linear score per class: fast, convex and easy to check.",
            ("tabular_classification",),
            (STANDARDISE, FEATURES, OUTPUTS),
            build_linear,
        ),
        Architecture(
            "linear_regression",
            "Linear regression",
            "One linear score; with weight decay it is ridge regression.",
            ("tabular_regression",),
            (STANDARDISE, STANDARDISE_TARGET, FEATURES, OUTPUTS),
            build_linear,
        ),
        Architecture(
            "mlp",
            "Multilayer perceptron",
            "Hidden layers on numeric features, for relations that are not linear.",
            ("tabular_classification", "tabular_regression"),
            (
                integer_list("hidden", "Hidden layers", (64,), 1, 4_096, longest=8),
                ACTIVATION,
                STANDARDISE,
                STANDARDISE_TARGET,
                FEATURES,
                OUTPUTS,
            ),
            build_mlp,
        ),
        Architecture(
            "bag_of_embeddings",
            "Bag of embeddings",
            "Sums embeddings of words and character n-grams: a quick first text classifier.",
            ("text_classification",),
            (
                choice("tokenizer", "Units", "hashed", ("hashed", "trained")),
                integer("buckets", "Hash buckets", 4_096, 64, 262_144),
                integer("tokenizer_size", "Tokens of a trained tokenizer", 2_000, 300, 100_000),
                integer("most_units", "Most different units of a text", 256, 1, 4_096),
                integer("width", "Embedding width", 16, 1, 1_024),
                integer("hidden", "Hidden units (0 for none)", 16, 0, 4_096),
                ACTIVATION,
                VOCABULARY,
                OUTPUTS,
            ),
            build_bag_of_embeddings,
            check_bag,
        ),
        Architecture(
            "convolutional",
            "Small convolutional network",
            "A few convolutions for small images stored as arrays.",
            ("image_classification",),
            (
                integer_list("channels", "Channels", (16, 32), 1, 512, longest=8),
                ACTIVATION,
                STANDARDISE,
                from_data(
                    integer_list("image_shape", "Image shape", (1, 1, 1), 1, 4_096, 3, shortest=3)
                ),
                OUTPUTS,
            ),
            build_convolutional,
        ),
        Architecture(
            "transformer",
            "Small transformer",
            "A small attention encoder trained from scratch on the texts.",
            ("text_classification",),
            (*TRANSFORMER_SETTINGS, OUTPUTS),
            build_transformer,
            check_heads,
        ),
        Architecture(
            "causal_transformer",
            "Small language model",
            "A small causal transformer that learns to predict the next token.",
            ("text", "prompt_completion"),
            (
                *TRANSFORMER_SETTINGS,
                LOSS_ON,
                choice("trained_part", "Trained part", "all", ("all", "lora")),
                LORA_RANK,
                LORA_SCALE,
            ),
            build_causal_transformer,
            check_heads,
        ),
        Architecture(
            "transformers",
            "Uploaded model",
            "An uploaded transformers model with a new classification head: encoder frozen, its "
            "last layers trained, or trained whole.",
            ("text_classification",),
            (
                choice("trained_part", "Trained part", "head", ("head", "last_layers", "all")),
                integer("last_layers", "Last layers that are trained", 1, 1, 128),
                choice("pooling", "Pooling", "mean", ("mean", "first", "last")),
                integer_list("hidden", "Hidden layers of the head", (), 1, 4_096, longest=4),
                ACTIVATION,
                integer("maximum_length", "Longest text, in tokens", 128, 2, 8_192),
                STANDARDISE,
                MODEL_CONFIGURATION,
                MODEL_HASH,
                FEATURES,
                OUTPUTS,
            ),
            build_uploaded,
        ),
        Architecture(
            "uploaded_language_model",
            "Uploaded language model",
            "An uploaded causal language model that goes on learning to predict the next token: "
            "trained whole, in its last layers, or by low-rank adapters (LoRA).",
            ("text", "prompt_completion"),
            (
                choice("trained_part", "Trained part", "all", ("all", "last_layers", "lora")),
                integer("last_layers", "Last layers that are trained", 1, 1, 128),
                LORA_RANK,
                LORA_SCALE,
                LOSS_ON,
                choice("chat", "Chat messages", "template", ("template", "plain")),
                integer("maximum_length", "Longest text, in tokens", 128, 2, 8_192),
                MODEL_CONFIGURATION,
                MODEL_HASH,
                VOCABULARY,
            ),
            build_language_model,
        ),
    )
}

UPLOADED = ("transformers", "uploaded_language_model")


def architectures_for(task: str) -> list[Architecture]:
    """The networks that fit a dataset task, the suggested one first."""
    suggested = SUGGESTED.get(task)
    fitting = [entry for entry in ARCHITECTURES.values() if task in entry.tasks]
    return sorted(fitting, key=lambda entry: entry.name != suggested)


SUGGESTED = {
    "text_classification": "bag_of_embeddings",
    "tabular_classification": "mlp",
    "tabular_regression": "linear_regression",
    "image_classification": "convolutional",
    "text": "causal_transformer",
    "prompt_completion": "causal_transformer",
}


def default_architecture(name: str, task_metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of `name` at its default, with the sizes that the metadata already tells.

    `task_metadata` is the dataset's `hunch` metadata. Sizes that only encoding knows (such as the
    vocabulary) are filled in by `encode_examples`. Raises ArchitectureError on `name` when it is
    unknown or does not fit the task.
    """
    entry = _entry(name)
    task = task_metadata["task"]
    if task not in entry.tasks:
        raise ArchitectureError("name", f"{entry.title} does not fit the task {task!r}")
    architecture = {"name": name} | {
        setting.name: setting.default_value() for setting in entry.settings if not setting.from_data
    }
    return architecture | sizes_from_metadata(entry, task_metadata)


def sizes_from_metadata(entry: Architecture, task_metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The data's sizes among the settings of `entry`, as far as the dataset's metadata has them."""
    classes = task_metadata.get("classes") or []
    known = {
        "number_of_outputs": 1 if task_metadata["task"] == "tabular_regression" else len(classes),
        "number_of_features": len(task_metadata.get("feature_names") or []),
        "image_shape": list(task_metadata.get("image_shape") or []),
    }
    return {name: value for name, value in known.items() if value and entry.setting(name)}


def validate_architecture(architecture: Mapping[str, Any], *, complete: bool = False) -> None:
    """Raise ArchitectureError naming the first field that breaks a rule.

    With `complete` the sizes that come from the data must be there too, as `build_network` needs.
    """
    entry = _entry(architecture.get("name"))
    for field in architecture:
        if field != "name" and entry.setting(field) is None:
            raise ArchitectureError(str(field), f"is not a setting of {entry.title}")
    for setting in entry.settings:
        if setting.name in architecture:
            setting.check(architecture[setting.name])
        elif complete and setting.from_data and setting.needed(architecture):
            raise ArchitectureError(setting.name, "is missing; encode the examples first")
    if entry.check is not None:
        entry.check(_with_defaults(entry, architecture))


def build_network(
    architecture: Mapping[str, Any], seed: int, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """A new network whose weights depend on `architecture` and `seed` alone.

    Weights are drawn in float32 and then cast, so that one seed means one network in every
    precision. The process's random state is neither read nor changed. The encoded inputs are the
    keyword arguments of `forward`; outputs are scores (B, C), one column (B, 1) for regression, or
    (B, L, V) for a language model. Parameters that are not trained have `requires_grad` off.
    Raises ArchitectureError naming a wrong or missing field.
    """
    validate_architecture(architecture, complete=True)
    entry = _entry(architecture["name"])
    generator = torch.Generator().manual_seed(seed)
    return entry.build(_with_defaults(entry, architecture), generator).to(dtype)


def _entry(name: object) -> Architecture:
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ArchitectureError("name", f"must be one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def _with_defaults(entry: Architecture, architecture: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {setting.name: setting.default_value() for setting in entry.settings}
    return defaults | dict(architecture)
