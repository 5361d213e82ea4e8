"""The configuration of an uploaded model: an allow-list of families that transformers implements
itself, with the type and size of every value checked before a model class sees it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workers.formats.errors import FormatError
from workers.formats.models_json import short

FILE = "config.json"

# model_type -> how the names of its model classes begin
FAMILIES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "mpnet": "MPNet",
    "gpt2": "GPT2",
    "gpt_neox": "GPTNeoX",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "gemma": "Gemma",
    "gemma2": "Gemma2",
    "gemma3_text": "Gemma3",
    "phi": "Phi",
    "phi3": "Phi3",
    "smollm3": "SmolLM3",
}
FORBIDDEN_KEYS = (
    "auto_map",
    "trust_remote_code",
    "custom_pipelines",
    "quantization_config",
    "peft_config",
    "adapter_config",
)
MUST_BE_FALSE = ("is_decoder", "is_encoder_decoder", "add_cross_attention")
ROTARY_KEYS = (
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "rotary_pct",
    "rotary_emb_base",
    "partial_rotary_factor",
    "rope_local_base_freq",
)
# Whether a value of the upload reaches the model is decided here; the rest is dropped.
DROPPED_KEYS = frozenset(
    (
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "architectures",
        "dtype",
        "torch_dtype",
        "pruned_heads",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "use_cache",
        "torchscript",
        "use_return_dict",
        "chunk_size_feed_forward",
        "gradient_checkpointing",
        "transformers_version",
        "name_or_path",
        "model_type",
        "is_decoder",
        "is_encoder_decoder",
        "add_cross_attention",
    )
)
SIZES = {
    "hidden_size": 16_384,
    "dim": 16_384,
    "n_embd": 16_384,
    "embedding_size": 16_384,
    "intermediate_size": 131_072,
    "hidden_dim": 131_072,
    "n_inner": 131_072,
    "num_hidden_layers": 256,
    "n_layers": 256,
    "n_layer": 256,
    "num_attention_heads": 512,
    "n_heads": 512,
    "n_head": 512,
    "num_key_value_heads": 512,
    "head_dim": 2_048,
    "vocab_size": 1_000_000,
    "max_position_embeddings": 2_097_152,
    "original_max_position_embeddings": 2_097_152,
    "n_positions": 131_072,
    "n_ctx": 131_072,
    "type_vocab_size": 4_096,
    "sliding_window": 2_097_152,
    "relative_attention_num_buckets": 4_096,
    "max_window_layers": 100_000,
}
LEARNED_POSITIONS = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "mpnet",
    "gpt2",
)


@dataclass(frozen=True)
class CheckedConfiguration:
    """What an upload's config.json says, as far as Hunch uses it.

    `values` holds `model_type` and keyword arguments of the transformers configuration, with
    dropout and caches off; it is plain JSON.
    """

    values: dict[str, Any]
    hidden_size: int
    number_of_layers: int
    vocabulary_size: int
    longest_input: int
    largest_estimate: int


def checked_configuration(raw: Mapping[str, Any], *, most_parameters: int) -> CheckedConfiguration:
    """Check config.json; raises FormatError naming the field and the rule."""
    check_forbidden(raw)
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise refuse("model_type", f"must be one of {', '.join(FAMILIES)}")
    check_architectures(raw.get("architectures"), model_type)
    for name in MUST_BE_FALSE:
        if raw.get(name) not in (None, False):
            raise refuse(name, "must be false: cross-attention and decoders of pairs are not read")
    values = known_values(raw, model_type)
    config = make_configuration(model_type, values)
    hidden, layers = config.hidden_size, config.num_hidden_layers
    positions = int(config.max_position_embeddings)
    estimate = estimated_parameters(config, model_type)
    if estimate > most_parameters:
        raise refuse(
            "hidden_size",
            f"the model would have about {estimate:,} parameters, above the limit "
            f"of {most_parameters:,}",
        )
    windows = [positions - 2 if "roberta" in model_type or model_type in OFFSET else positions]
    if isinstance(getattr(config, "sliding_window", None), int):
        windows.append(config.sliding_window)
    return CheckedConfiguration(
        {"model_type": model_type, **values},
        hidden,
        layers,
        config.vocab_size,
        min(windows),
        estimate,
    )


OFFSET = ("camembert", "mpnet")  # position ids start after the padding id, like RoBERTa's


def check_forbidden(raw: Mapping[str, Any]) -> None:
    for key, _ in walk(raw):
        if key in FORBIDDEN_KEYS:
            raise refuse(key, "is refused: uploaded or quantised code paths are never used")


def check_architectures(architectures: object, model_type: str) -> None:
    if architectures is None:
        return
    if not isinstance(architectures, list) or not all(isinstance(n, str) for n in architectures):
        raise refuse("architectures", "must be a list of class names")
    for name in architectures:
        if not name.startswith(FAMILIES[model_type]):
            raise refuse("architectures", f"{short_text(name)} is not a class of {model_type}")


def known_values(raw: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """The values that the family's configuration knows, each of the right type and in bounds."""
    from transformers import CONFIG_MAPPING

    defaults = CONFIG_MAPPING[model_type]().to_dict()
    aliases = getattr(CONFIG_MAPPING[model_type], "attribute_map", {})
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key.startswith("_") or key in DROPPED_KEYS:
            continue
        name = aliases.get(key, key)
        if name in SIZES:
            check_size(name, value, optional=defaults.get(name) is None)
        if name not in defaults and name not in ROTARY_KEYS:
            continue
        check_value(name, value, defaults.get(name))
        values[name] = value
    for name in defaults:
        if is_dropout(name):
            values[name] = 0.0
    return values | {"use_cache": False}


def is_dropout(name: str) -> bool:
    return "dropout" in name or name.endswith(("_pdrop", "_prob")) or name == "layerdrop"


def check_size(name: str, value: object, optional: bool) -> None:
    if value is None and (optional or name in ("sliding_window", "n_inner")):
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SIZES[name]:
        raise refuse(name, f"must be a whole number up to {SIZES[name]:,}")
    if value == 0 and name != "type_vocab_size" and name != "max_window_layers":
        raise refuse(name, "must be at least 1")


def check_value(name: str, value: object, default: object) -> None:
    if isinstance(value, str) and len(value) > 100:
        raise refuse(name, "is longer than 100 characters")
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) > 1e12:
        raise refuse(name, "is too large a number")
    if isinstance(value, list | dict):
        nested = list(walk(value))
        if len(nested) > 2_000:
            raise refuse(name, "holds more than 2,000 values")
        for key, inner in nested:
            if not isinstance(inner, dict | list):
                check_value(f"{name}.{key}", inner, None)
    if default is None or value is None:
        return
    if name.endswith("token_id") and isinstance(value, list):
        return
    same = isinstance(value, bool) == isinstance(default, bool)
    if isinstance(default, int | float) and isinstance(value, int | float) and same:
        if isinstance(default, int) and not isinstance(value, int):
            raise refuse(name, "must be a whole number")
        return
    if not isinstance(value, type(default)):
        raise refuse(name, f"must be of type {type(default).__name__}")
    if name in ("hidden_act", "activation", "activation_function", "hidden_activation"):
        from transformers.activations import ACT2FN

        if value not in ACT2FN:
            raise refuse(name, f"{short_text(str(value))} is not a known activation")


def make_configuration(model_type: str, values: Mapping[str, Any]) -> Any:
    """The transformers configuration, its own complaints turned into a FormatError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(model_type, **dict(values))
    except Exception as error:
        raise FormatError(file=FILE, rule=f"not a valid configuration: {short(error)}") from error


def estimated_parameters(config: Any, model_type: str) -> int:
    """Parameters of embeddings, attention and feed-forward layers, from the sizes alone."""
    hidden = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None)
    inner = inner or getattr(config, "n_inner", None) or 4 * hidden
    heads = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    attention = 4 * hidden * max(hidden, config.num_attention_heads * heads)
    positions = config.max_position_embeddings if model_type in LEARNED_POSITIONS else 0
    embeddings = (config.vocab_size + positions + getattr(config, "type_vocab_size", 0)) * max(
        hidden, getattr(config, "embedding_size", 0) or 0
    )
    return int(embeddings + config.num_hidden_layers * (attention + 3 * hidden * inner))


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) inside nested objects and lists; list items carry their position."""
    items: list[tuple[str, Any]] = (
        list(value.items())
        if isinstance(value, Mapping)
        else [(str(place), entry) for place, entry in enumerate(value)]
    )
    for key, inner in items:
        yield key, inner
        if isinstance(inner, Mapping | list):
            yield from walk(inner)


def refuse(field: str, rule: str) -> FormatError:
    return FormatError(file=FILE, field=field, rule=rule)


def short_text(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
