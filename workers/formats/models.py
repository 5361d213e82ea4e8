"""An uploaded model folder in the transformers layout: checked file by file, then loaded.

Nothing of an upload is executed or unpickled: weights are safetensors, the classes are those that
transformers ships, and every file must be one of the known names with the content it claims.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.formats.chat_templates import ChatTemplate, read_chat_template
from workers.formats.errors import FormatError
from workers.formats.models_config import CheckedConfiguration, checked_configuration
from workers.formats.models_json import parse_json_object, short
from workers.formats.models_safetensors import (
    TensorEntry,
    check_index,
    read_safetensors_header,
)
from workers.formats.models_tokenizer import (
    LONGEST_TEMPLATE,
    check_tokenizer,
    check_tokenizer_config,
    load_tokenizer,
)

if TYPE_CHECKING:
    from torch import nn

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
POOLING = "1_Pooling/config.json"
JSON_FILES = (
    CONFIG,
    INDEX,
    POOLING,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
)
TEXT_FILES = (
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "modules.json",
    "data_config.json",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    ".gitattributes",
)
KNOWN_FOLDERS = ("1_Pooling",)
READ_FILES = (CONFIG, INDEX, "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt")
DEEPEST_JSON = 24


@dataclass(frozen=True)
class ModelLimits:
    """Upper bounds of an upload; sizes in bytes, times in seconds."""

    files: int = 200
    total_size: int = 16 * 1024**3
    json_size: int = 64 * 1024**2
    text_size: int = 16 * 1024**2
    header_size: int = 16 * 1024**2
    tensors: int = 20_000
    parameters: int = 4_000_000_000
    trial_seconds: int = 120
    trial_memory: int = 24 * 1024**3


@dataclass(frozen=True)
class ModelSummary:
    """What a checked folder holds. `sha256` covers the files that decide the model's outputs."""

    model_type: str
    number_of_parameters: int
    number_of_layers: int
    hidden_size: int
    vocabulary_size: int
    longest_input: int
    suggested_pooling: str
    dtypes: tuple[str, ...]
    size_in_bytes: int
    sha256: str
    files: tuple[str, ...]
    configuration: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class UploadedModel:
    """A loaded upload: tokenizer, and backbone in evaluation mode and float32, without head or, as
    a language model, with the one that scores the next token."""

    backbone: nn.Module
    tokenizer: Any
    padding_id: int
    summary: ModelSummary
    chat_template: ChatTemplate | None = None


def inspect_model_folder(
    folder: Path,
    limits: ModelLimits = ModelLimits(),
    *,
    trial: bool = False,
    language_model: bool = False,
) -> ModelSummary:
    """Check every file of an uploaded folder and say what it holds.

    Raises FormatError naming file, field and rule on the first thing refused; as a
    `language_model` it must also be of a causal family. With `trial` the tokenizer and the weights
    are also loaded and run on hard texts in a process of their own with memory and time limits, so
    that no upload can take the caller down.
    """
    files = list_files(folder, limits)
    for name, path in files.items():
        check_text_content(path, name, limits)
    if CONFIG not in files:
        raise FormatError(file=CONFIG, rule="is missing")
    raw = read_json(files, CONFIG, limits)
    configuration = checked_configuration(raw, most_parameters=limits.parameters)
    if language_model:
        check_is_causal(configuration.values["model_type"])
    tensors = check_weights(files, limits)
    check_tokenizer_files(files, configuration.vocabulary_size, limits)
    number_of_parameters = sum(entry.number_of_elements for entry in tensors)
    if number_of_parameters > limits.parameters:
        raise FormatError(rule=f"the weights hold more than {limits.parameters:,} numbers")
    summary = ModelSummary(
        model_type=configuration.values["model_type"],
        number_of_parameters=number_of_parameters,
        number_of_layers=configuration.number_of_layers,
        hidden_size=configuration.hidden_size,
        vocabulary_size=configuration.vocabulary_size,
        longest_input=configuration.longest_input,
        suggested_pooling=suggested_pooling(files, configuration, limits),
        dtypes=tuple(sorted({entry.dtype for entry in tensors})),
        size_in_bytes=sum(path.stat().st_size for path in files.values()),
        sha256=content_hash(files),
        files=tuple(files),
        configuration=configuration.values,
    )
    if trial:
        from workers.formats.models_trial import run_trial

        run_trial(folder, summary, limits, language_model=language_model)
    return summary


def check_is_causal(model_type: str) -> None:
    from workers.training.networks.uploaded import is_encoder

    if is_encoder(model_type):
        raise FormatError(
            file=CONFIG,
            field="model_type",
            rule=f"{model_type} reads whole texts and does not predict a next token; choose a "
            "causal language model",
        )


def list_files(folder: Path, limits: ModelLimits) -> dict[str, Path]:
    """Name in the folder -> path, sorted; refuses what is not a plain, known, bounded file."""
    found: dict[str, Path] = {}
    total = 0
    if not folder.is_dir():
        raise FormatError(rule="the model must be a folder")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise FormatError(file=name, rule="links are not allowed")
        if path.is_dir():
            if name not in KNOWN_FOLDERS:
                raise FormatError(file=name, rule="folders are not allowed in a model")
            continue
        if not path.is_file():
            raise FormatError(file=name, rule="is not an ordinary file")
        if name not in JSON_FILES + TEXT_FILES + (WEIGHTS,) and not SHARD.fullmatch(name):
            raise FormatError(file=name, rule=rule_for_unknown(name))
        total += path.stat().st_size
        found[name] = path
        if len(found) > limits.files:
            raise FormatError(rule=f"a model may have at most {limits.files} files")
        if total > limits.total_size:
            raise FormatError(rule=f"the files are larger than {limits.total_size:,} bytes")
    return found


def rule_for_unknown(name: str) -> str:
    ending = Path(name).suffix.lower()
    if ending in (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"):
        return "pickled weights are never read; convert them to safetensors"
    if ending == ".py":
        return "uploaded code is never run; remove it"
    if ending in (".zip", ".tar", ".gz", ".7z", ".xz"):
        return "archives are not allowed; upload the files themselves"
    if ending == ".model":
        return "sentencepiece files are not read; save the tokenizer as tokenizer.json"
    if ending == ".safetensors":
        return f"weights must be named {WEIGHTS} or model-00001-of-0000N.safetensors"
    return "is not a file that a model may have"


def check_text_content(path: Path, name: str, limits: ModelLimits) -> None:
    """JSON and text files must be bounded UTF-8 without NUL; weights have their own check."""
    if name.endswith(".safetensors"):
        return
    largest = limits.json_size if name in JSON_FILES else limits.text_size
    if path.stat().st_size > largest:
        raise FormatError(file=name, rule=f"is larger than {largest:,} bytes")
    content = path.read_bytes()
    if b"\0" in content:
        raise FormatError(file=name, rule="holds NUL bytes: it is not text")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(file=name, rule=f"not UTF-8 text (byte {error.start})") from None
    if name.endswith(".json") and name in JSON_FILES:
        parse_json_object(content, name, deepest=DEEPEST_JSON)
    if name == "chat_template.jinja" and len(content) > LONGEST_TEMPLATE:
        raise FormatError(file=name, rule=f"is larger than {LONGEST_TEMPLATE} bytes")


def read_json(files: Mapping[str, Path], name: str, limits: ModelLimits) -> dict[str, Any]:
    return parse_json_object(files[name].read_bytes(), name, deepest=DEEPEST_JSON)


def check_weights(files: Mapping[str, Path], limits: ModelLimits) -> list[TensorEntry]:
    """All tensors of the folder; an index must name exactly the shards and tensors that exist."""
    shards = [name for name in files if name.endswith(".safetensors")]
    if not shards:
        raise FormatError(file=WEIGHTS, rule="is missing; only safetensors weights are read")
    if WEIGHTS in shards and len(shards) > 1:
        raise FormatError(file=WEIGHTS, rule="stands beside shards; keep one or the other")
    if WEIGHTS not in shards and INDEX not in files:
        raise FormatError(file=INDEX, rule="is missing, but the weights are in shards")
    where: dict[str, str] = {}
    entries: list[TensorEntry] = []
    for shard in shards:
        header = read_safetensors_header(
            files[shard], shard, largest_header=limits.header_size, most_tensors=limits.tensors
        )
        for entry in header:
            if where.setdefault(entry.name, shard) != shard:
                raise FormatError(file=shard, field=entry.name, rule="stands in two shards")
        entries += header
    if not entries:
        raise FormatError(file=shards[0], rule="holds no tensor")
    if INDEX in files:
        check_index(read_json(files, INDEX, limits), where, INDEX)
    return entries


def check_tokenizer_files(
    files: Mapping[str, Path], vocabulary_size: int, limits: ModelLimits
) -> None:
    if "tokenizer.json" in files:
        check_tokenizer(
            read_json(files, "tokenizer.json", limits), "tokenizer.json", vocabulary_size
        )
    elif "vocab.json" in files:
        if "merges.txt" not in files:
            raise FormatError(file="merges.txt", rule="is missing beside vocab.json")
        model = {"type": "BPE", "vocab": read_json(files, "vocab.json", limits)}
        check_tokenizer({"model": model}, "vocab.json", vocabulary_size)
    elif "vocab.txt" not in files:
        raise FormatError(file="tokenizer.json", rule="is missing")
    for name in files.keys() & {"tokenizer_config.json", "generation_config.json"}:
        raw = read_json(files, name, limits)
        for key in ("auto_map", "trust_remote_code"):
            if key in raw:
                raise FormatError(file=name, field=key, rule="uploaded code is never run")
        if name == "tokenizer_config.json":
            check_tokenizer_config(raw, name)


def suggested_pooling(
    files: Mapping[str, Path], configuration: CheckedConfiguration, limits: ModelLimits
) -> str:
    """How the upload's own sentence embedding pools, or what suits its family."""
    if POOLING in files:
        raw = read_json(files, POOLING, limits)
        for key, pooling in (
            ("pooling_mode_mean_tokens", "mean"),
            ("pooling_mode_cls_token", "first"),
            ("pooling_mode_lasttoken", "last"),
        ):
            if raw.get(key) is True:
                return pooling
    from workers.training.networks.uploaded import is_encoder

    return "mean" if is_encoder(configuration.values["model_type"]) else "last"


def content_hash(files: Mapping[str, Path]) -> str:
    """SHA-256 over names and contents of configuration, weights and tokenizer."""
    total = hashlib.sha256()
    for name in sorted(files):
        if name in READ_FILES or name.endswith(".safetensors"):
            with files[name].open("rb") as stream:
                part = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(json.dumps([name, part]).encode())
    return total.hexdigest()


def load_model(
    folder: Path, limits: ModelLimits = ModelLimits(), *, language_model: bool = False
) -> UploadedModel:
    """Check and load an uploaded folder: float32 weights, eager attention, dropout off.

    Raises FormatError when a check fails, or when weights and configuration do not fit. The random
    state of the process is left as it was.
    """
    summary = inspect_model_folder(folder, limits, language_model=language_model)
    tokenizer = load_tokenizer(folder, summary.vocabulary_size)
    padding = summary.configuration.get("pad_token_id")
    return UploadedModel(
        load_backbone(folder, summary.configuration, language_model=language_model),
        tokenizer,
        padding if isinstance(padding, int) and 0 <= padding < summary.vocabulary_size else 0,
        summary,
        read_chat_template(folder) if language_model else None,
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no load report, whose problems become errors here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_backbone(
    folder: Path, configuration: Mapping[str, Any], *, language_model: bool = False
) -> nn.Module:
    """The weights of a checked folder in the class that its configuration names."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    from workers.formats.models_config import make_configuration
    from workers.training.networks.uploaded import has_optional_pooler

    settings = dict(configuration)
    model_type = settings.pop("model_type")
    extra = {"add_pooling_layer": False} if has_optional_pooler(model_type) else {}
    try:
        with torch.random.fork_rng(devices=[]), quiet_transformers():
            loader: Any = AutoModelForCausalLM if language_model else AutoModel
            backbone, report = loader.from_pretrained(
                folder,
                config=make_configuration(model_type, settings),
                dtype=torch.float32,
                attn_implementation="eager",
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **extra,
            )
    except Exception as error:
        raise FormatError(
            file=WEIGHTS, rule=f"does not fit the configuration: {short(error)}"
        ) from error
    for problem in ("missing_keys", "mismatched_keys"):
        if report.get(problem):
            first = sorted(map(str, report[problem]))[0]
            kind = "missing" if problem == "missing_keys" else "of another shape than configured"
            raise FormatError(file=WEIGHTS, field=first, rule=f"the tensor is {kind}")
    loaded: nn.Module = backbone.eval()
    return loaded
