"""A tiny, complete model folder in the transformers layout, and ways to spoil it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "short", "text", "twice", ",", ".", "12"]
CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 16,
    "max_position_embeddings": 24,
    "hidden_act": "gelu",
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.1,
}


def tiny_tokenizer() -> dict[str, Any]:
    tokenizer = Tokenizer(
        models.WordPiece(
            {token: place for place, token in enumerate(VOCABULARY)}, unk_token="[UNK]"
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return json.loads(tokenizer.to_str())


def write_model(folder: Path) -> Path:
    """A BERT of about 2,000 numbers that passes every check."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = BertConfig(**{k: v for k, v in CONFIG.items() if k != "architectures"})
    network = BertModel(config, add_pooling_layer=False)
    save_file(network.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "tokenizer.json", tiny_tokenizer())
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    return folder


LANGUAGE_TEXTS = ["The sky is blue.", "Grass? green and wet", "The sea is green", "Sky? Sea?"]


def write_language_model(folder: Path, **changes: Any) -> Path:
    """A GPT-2 of about 8,000 numbers with a byte-level tokenizer of its own, which knows a few
    words and begins and ends texts with `<|end|>`; `changes` are of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LANGUAGE_TEXTS * 3, trainer)
    size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 300, "n_positions": 64}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    network = GPT2LMHeadModel(GPT2Config(**size | ends | changes))
    tensors = {k: v for k, v in network.state_dict().items() if k != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", {"model_type": "gpt2", **size, **ends, **changes})
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer"})
    return folder


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def change_json(path: Path, **values: Any) -> None:
    write_json(path, json.loads(path.read_text()) | values)


def safetensors_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header: an object to be written as JSON, or raw bytes."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + data


def tensor(
    begin: int, end: int, shape: list[Any], dtype: str = "F32", **extra: Any
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **extra}
