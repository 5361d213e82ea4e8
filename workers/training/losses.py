"""Losses, one number per example, so that every example can carry its own weight."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

IGNORED_TOKEN = -100


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) negative log-probability, in nats, of the class `targets` (B,) under `logits` (B, C)."""
    return F.cross_entropy(logits, targets, reduction="none")


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(B,) squared error (f - y)^2, without a factor 1/2; outputs (B,) or (B, 1), targets (B,)."""
    return (outputs.reshape(targets.shape) - targets).square()


def next_token(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) mean negative log-probability, in nats, of each example's own non-ignored tokens.

    `logits` (B, L, V) at place l predict `targets` (B, L) at place l: the targets come already
    shifted, -100 marks tokens that do not count. Dividing by the example's own count makes the
    loss of an example independent of its neighbours in the batch and of padding.
    """
    return token_shares(logits, targets).sum(1)


def token_shares(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, L) each token's part of `next_token`, whose sum over an example is its loss: the token's
    negative log-probability over the number of the example's tokens, 0 where none counts."""
    flat = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=IGNORED_TOKEN
    )
    counts = (targets != IGNORED_TOKEN).sum(1).clamp_min(1)
    return flat.reshape(targets.shape) / counts[:, None].to(flat.dtype)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
    "next_token": next_token,
}


def loss_for_targets(targets: Tensor) -> str:
    """The name of the loss that fits targets of this type and shape."""
    if targets.ndim == 2:
        return "next_token"
    return "squared_error" if targets.is_floating_point() else "cross_entropy"
