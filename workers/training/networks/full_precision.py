"""Attention and norms of transformers models in the precision of their inputs.

transformers computes softmax and RMS norms in float32 whatever the inputs are. In float32 that
changes nothing; in float64, where derivatives are checked, it would round away nine digits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

ATTENTION = "hunch_written_out"


class RootMeanSquareNorm(nn.Module):
    """values (..., W) / sqrt(mean square + epsilon) · (offset + weight), Zhang & Sennrich 2019; at
    least in float32. Gemma's families store the weight less 1: their offset is 1."""

    def __init__(self, weight: nn.Parameter, epsilon: float, offset: float) -> None:
        super().__init__()
        self.weight = weight
        self.epsilon = epsilon
        self.offset = offset

    def forward(self, values: Tensor) -> Tensor:
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        if self.offset:
            return (normed * (self.offset + self.weight.to(wide.dtype))).to(values.dtype)
        return self.weight * normed.to(values.dtype)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention written out, (B, heads, L, D) -> (B, L, heads, D), with its weights; the
    softmax at least in float32. Keys and values may have fewer heads than queries (Ainslie 2023);
    `softcap` bounds the scores (Gemma 2). Fused kernels have no second derivative."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    scores = query @ key.transpose(2, 3)
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask
    wide = torch.promote_types(scores.dtype, torch.float32)
    shares = torch.softmax(scores, -1, dtype=wide).to(query.dtype)
    shares = nn.functional.dropout(shares, dropout, module.training)
    return (shares @ value).transpose(1, 2).contiguous(), shares


def keep_precision(model: Any) -> None:
    """Give a transformers model the attention and the norms of this file, with its own weights
    under their own names."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attention)
    model.config._attn_implementation = ATTENTION
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__.endswith("RMSNorm"):
                setattr(parent, name, _norm_like(child))


def _norm_like(norm: Any) -> RootMeanSquareNorm:
    epsilon = norm.variance_epsilon if hasattr(norm, "variance_epsilon") else norm.eps
    offset = 1.0 if type(norm).__name__.startswith("Gemma") else 0.0
    return RootMeanSquareNorm(norm.weight, epsilon, offset)
