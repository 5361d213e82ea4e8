"""A small pre-norm transformer (Vaswani et al. 2017; Xiong et al. 2020) trained from scratch: the
encoder that classifies texts, and the blocks that the causal language model shares.

Attention is written out, since fused kernels have no second derivative. Padding is masked
everywhere, so that a text's output depends on neither its padding nor the rest of its batch."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from workers.training.networks.layers import Embedding, LayerNorm, Linear, dropout, masked_mean


class SelfAttention(nn.Module):
    """values (B, L, W), blocked (B, 1, 1 or L, L) additive -> (B, L, W)."""

    def __init__(self, width: int, heads: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = Linear(width, 3 * width, generator)
        self.output = Linear(width, width, generator, gain=1 / math.sqrt(2 * layers))

    def forward(self, values: Tensor, blocked: Tensor) -> Tensor:
        batch, length, width = values.shape
        query, key, value = (
            self.query_key_value(values)
            .reshape(batch, length, 3, self.heads, width // self.heads)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        mixed = torch.softmax(scores + blocked, dim=-1) @ value
        result: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        return result


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a layer norm and added to its input."""

    def __init__(self, width: int, heads: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.attention = SelfAttention(width, heads, layers, generator)
        self.feed_forward_norm = LayerNorm(width)
        self.expand = Linear(width, 4 * width, generator)
        self.dropout = dropout()
        self.contract = Linear(4 * width, width, generator, gain=1 / math.sqrt(2 * layers))

    def forward(self, values: Tensor, blocked: Tensor) -> Tensor:
        values = values + self.dropout(self.attention(self.attention_norm(values), blocked))
        inner = functional.gelu(self.expand(self.feed_forward_norm(values)))
        result: Tensor = values + self.dropout(self.contract(inner))
        return result


class TransformerBody(nn.Module):
    """ids (B, L) int, mask (B, L) bool -> hidden states (B, L, W) after the last norm."""

    def __init__(self, architecture: dict[str, Any], causal: bool, generator: torch.Generator):
        super().__init__()
        width, layers = architecture["width"], architecture["layers"]
        self.causal = causal
        self.tokens = Embedding(architecture["vocabulary_size"], width, generator)
        self.positions = Embedding(architecture["maximum_length"], width, generator)
        self.blocks = nn.ModuleList(
            Block(width, architecture["heads"], layers, generator) for _ in range(layers)
        )
        self.norm = LayerNorm(width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        length = ids.shape[-1]
        values = self.tokens(ids) + self.positions.weight[:length]
        allowed = mask[:, None, None, :]
        if self.causal:
            allowed = (
                allowed & torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
            )
        # Finite, so that a row of padding alone gives no NaN.
        blocked = (~allowed).to(values.dtype) * -1e9
        for block in self.blocks:
            values = block(values, blocked)
        hidden: Tensor = self.norm(values)
        return hidden


class TransformerClassifier(nn.Module):
    """ids (B, L) int, mask (B, L) bool -> class scores (B, C), from the mean over tokens."""

    def __init__(self, architecture: dict[str, Any], generator: torch.Generator) -> None:
        super().__init__()
        self.body = TransformerBody(architecture, causal=False, generator=generator)
        self.output = Linear(architecture["width"], architecture["number_of_outputs"], generator)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        scores: Tensor = self.output(masked_mean(self.body(ids, mask), mask))
        return scores


def build_transformer(architecture: dict[str, Any], generator: torch.Generator) -> nn.Module:
    return TransformerClassifier(architecture, generator)
