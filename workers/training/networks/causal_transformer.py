"""A small causal language model trained from scratch, on bytes or on a fitted tokenizer."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from workers.training.networks.low_rank import add_adapters
from workers.training.networks.transformer import TransformerBody


class CausalTransformer(nn.Module):
    """ids (B, L) int, mask (B, L) bool -> next-token scores (B, L, V).

    Position t scores the token after position t; the encoding shifts the targets, so scores and
    targets align. The output layer shares the token embedding (Press & Wolf 2017).
    """

    def __init__(self, architecture: dict[str, Any], generator: torch.Generator) -> None:
        super().__init__()
        self.body = TransformerBody(architecture, causal=True, generator=generator)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return functional.linear(self.body(ids, mask), self.body.tokens.weight)


def build_causal_transformer(architecture: dict[str, Any], generator: torch.Generator) -> nn.Module:
    network = CausalTransformer(architecture, generator)
    if architecture["trained_part"] == "lora":
        rank = architecture["lora_rank"]
        add_adapters(network, rank, architecture["lora_scale"] / rank, generator)
    return network
