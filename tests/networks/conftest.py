"""Small networks of every family, each with inputs that suit it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from workers.training.losses import LOSSES

CLASSES = 3
EXAMPLES = 5

TINY_BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TINY_GPT2 = {
    "model_type": "gpt2",
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "vocab_size": 40,
    "n_positions": 32,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
TINY_LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 32,
}
SMALL_DECODER = {key: value for key, value in TINY_LLAMA.items() if key != "model_type"}
SMALL_DECODER |= {"head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODERS = (
    "gpt_neox", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi",
    "phi3", "smollm3",
)  # fmt: skip
SMALL_TRANSFORMER = {
    "width": 8,
    "heads": 2,
    "layers": 2,
    "maximum_length": 10,
    "vocabulary_size": 40,
}


@dataclass(frozen=True)
class Case:
    """An architecture with a batch for it; `loss` names its loss."""

    architecture: dict[str, Any]
    inputs: dict[str, Tensor]
    targets: Tensor
    loss: str = "cross_entropy"

    def losses(self, outputs: Tensor) -> Tensor:
        return LOSSES[self.loss](outputs, self.targets)


def uploaded(configuration: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {
        "name": "transformers",
        "trained_part": "all",
        "number_of_outputs": CLASSES,
        "model_configuration": configuration,
        **settings,
    }


def language_model(configuration: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {
        "name": "uploaded_language_model",
        "vocabulary_size": 40,
        "model_configuration": configuration,
        **settings,
    }


def make_cases() -> dict[str, Case]:
    generator = torch.Generator().manual_seed(11)
    features = torch.randn(EXAMPLES, 6, generator=generator)
    numbers = torch.randn(EXAMPLES, generator=generator)
    labels = torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)
    ids = torch.randint(3, 40, (EXAMPLES, 7), generator=generator, dtype=torch.int32)
    lengths = torch.tensor([7, 4, 1, 6, 2])
    mask = torch.arange(7) < lengths[:, None]
    texts = {"ids": ids * mask, "mask": mask}
    bag = {"ids": texts["ids"], "weights": mask / lengths[:, None].float()}
    image = {"image": torch.randn(EXAMPLES, 2, 6, 5, generator=generator)}
    next_tokens = torch.where(mask, torch.roll(ids, -1, 1).long(), -100)
    size = {"number_of_outputs": CLASSES}
    flat = {"number_of_features": 6}
    cases = {
        "softmax_regression": Case(
            {"name": "softmax_regression", **flat, **size}, {"features": features}, labels
        ),
        "linear_regression": Case(
            {"name": "linear_regression", **flat, "number_of_outputs": 1},
            {"features": features},
            numbers,
            "squared_error",
        ),
        "mlp": Case(
            {"name": "mlp", "hidden": [7, 5], "activation": "tanh", **flat, **size},
            {"features": features},
            labels,
        ),
        "bag_of_embeddings": Case(
            {"name": "bag_of_embeddings", "width": 4, "vocabulary_size": 40, **size}, bag, labels
        ),
        "convolutional": Case(
            {"name": "convolutional", "channels": [3, 4], "image_shape": [2, 6, 5], **size},
            image,
            labels,
        ),
        "transformer": Case({"name": "transformer", **SMALL_TRANSFORMER, **size}, texts, labels),
        "causal_transformer": Case(
            {"name": "causal_transformer", **SMALL_TRANSFORMER}, texts, next_tokens, "next_token"
        ),
        "uploaded head": Case(
            {"name": "transformers", "trained_part": "head", "hidden": [4], **flat, **size},
            {"features": features},
            labels,
        ),
    }
    for configuration in (TINY_BERT, TINY_GPT2, TINY_LLAMA):
        name = f"uploaded {configuration['model_type']}"
        cases[name] = Case(uploaded(configuration), texts, labels)
    cases["uploaded last layers"] = Case(
        uploaded(TINY_BERT, trained_part="last_layers", last_layers=1), texts, labels
    )
    for name in ("gemma2", "gpt2", "llama", "qwen3"):
        configuration = {"model_type": name, **SMALL_DECODER}
        if name == "gpt2":
            configuration = TINY_GPT2
        cases[f"language model {name}"] = Case(
            language_model(configuration), texts, next_tokens, "next_token"
        )
    for part, configuration in (
        ("last_layers", TINY_GPT2),
        ("lora", TINY_GPT2),
        ("lora", TINY_LLAMA),
    ):
        cases[f"language model {configuration['model_type']} {part}"] = Case(
            language_model(configuration, trained_part=part, lora_rank=2),
            texts,
            next_tokens,
            "next_token",
        )
    return cases


CASES = make_cases()


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(
    params=[
        "transformer",
        "causal_transformer",
        "bag_of_embeddings",
        *(name for name in CASES if name.startswith("uploaded ") and name != "uploaded head"),
        *(name for name in CASES if name.startswith("language model ")),
    ]
)
def text_case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]
