"""The order in which a run sees its training examples; decided by the seed alone."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

PADDING = -1


def batch_order(seed: int, number_of_examples: int, batch_size: int, epochs: int) -> Tensor:
    """int64 (T, B) example indices, T = epochs * ceil(N / B); -1 pads each epoch's last batch.

    Every epoch is a permutation from a generator seeded by (seed, epoch), so the order of an
    epoch does not depend on how many come before it. Weights of examples never play a part.
    """
    steps_per_epoch = -(-number_of_examples // batch_size)
    order = torch.full((epochs, steps_per_epoch * batch_size), PADDING, dtype=torch.int64)
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(_epoch_seed(seed, epoch))
        order[epoch, :number_of_examples] = torch.randperm(number_of_examples, generator=generator)
    return order.reshape(epochs * steps_per_epoch, batch_size)


def steps_in(number_of_examples: int, batch_size: int, epochs: int) -> int:
    """T, the number of optimizer steps of a run."""
    return epochs * -(-number_of_examples // batch_size)


def _epoch_seed(seed: int, epoch: int) -> int:
    """Neighbouring seeds must not share epochs, hence a hash and not seed + epoch."""
    digest = hashlib.sha256(f"batch order {seed} {epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
