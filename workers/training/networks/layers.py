"""The layers that the built-in networks share. Their initial weights come from a generator that the
caller seeds, so that building a network neither reads nor moves the process's random state."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

# Smooth only: exact replay differentiates each training step twice.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "softplus": functional.softplus,
}


def normal_parameter(
    shape: Sequence[int], standard_deviation: float, generator: torch.Generator
) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=generator) * standard_deviation)


class Linear(nn.Module):
    """(..., inputs) -> (..., outputs); weights are normal with variance gain² / inputs."""

    def __init__(
        self, inputs: int, outputs: int, generator: torch.Generator, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = normal_parameter((outputs, inputs), gain / math.sqrt(inputs), generator)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.weight, self.bias)


class Embedding(nn.Module):
    """Integer ids (...) -> (..., width)."""

    def __init__(
        self,
        entries: int,
        width: int,
        generator: torch.Generator,
        standard_deviation: float = 0.02,
    ) -> None:
        super().__init__()
        self.weight = normal_parameter((entries, width), standard_deviation, generator)

    def forward(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, self.weight)


class LayerNorm(nn.Module):
    """Layer normalisation over the last dimension (Ba et al. 2016)."""

    def __init__(self, width: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def forward(self, values: Tensor) -> Tensor:
        return functional.layer_norm(
            values, self.weight.shape, self.weight, self.bias, self.epsilon
        )


class Convolution(nn.Module):
    """3 × 3 convolution with zero padding:
    (B, inputs, H, W) -> (B, outputs, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, generator: torch.Generator, gain: float
    ) -> None:
        super().__init__()
        self.weight = normal_parameter(
            (outputs, inputs, 3, 3), gain / math.sqrt(9 * inputs), generator
        )
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.stride = stride

    def forward(self, values: Tensor) -> Tensor:
        return functional.conv2d(values, self.weight, self.bias, stride=self.stride, padding=1)


def dropout() -> nn.Dropout:
    """A place for dropout, off; a recipe that asks for dropout sets its rate when it trains."""
    return nn.Dropout(0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the positions that the mask keeps: (B, L, W), (B, L) -> (B, W)."""
    kept = mask.to(values.dtype)
    return (values * kept.unsqueeze(-1)).sum(-2) / kept.sum(-1, keepdim=True).clamp(min=1)
