"""Encoded examples: tensors ready for a network. How they are encoded is not decided here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EncodedExamples:
    """N examples as tensors.

    `inputs` are the keyword arguments of the network's forward, each with leading dimension N.
    `targets` are (N,) int64 classes, (N,) float regression targets, or (N, L) int64 tokens in
    which -100 is ignored. Raises ValueError when the leading dimensions differ.
    """

    inputs: dict[str, Tensor]
    targets: Tensor

    def __post_init__(self) -> None:
        for name, tensor in self.inputs.items():
            if len(tensor) != len(self.targets):
                raise ValueError(
                    f"input “{name}” has {len(tensor)} rows, the targets {len(self.targets)}"
                )

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, indices: Tensor) -> EncodedExamples:
        """The examples at `indices` (int64, any shape); that shape replaces the leading N."""
        return EncodedExamples(
            {name: tensor[indices] for name, tensor in self.inputs.items()}, self.targets[indices]
        )

    def to(self, device: torch.device) -> EncodedExamples:
        """The same examples on `device`."""
        if self.targets.device == device:
            return self
        moved = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return EncodedExamples(moved, self.targets.to(device))

    def to_dtype(self, dtype: torch.dtype) -> EncodedExamples:
        """The same examples with every floating tensor in `dtype`; integers stay."""
        return EncodedExamples(
            {name: _cast(tensor, dtype) for name, tensor in self.inputs.items()},
            _cast(self.targets, dtype),
        )


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
