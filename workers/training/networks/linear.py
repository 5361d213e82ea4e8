"""Linear models on features: softmax regression for classes, linear regression for numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workers.training.networks.layers import Linear


class LinearModel(nn.Module):
    """features (B, F) -> outputs (B, C): class scores, or one column for regression.

    With squared error and the recipe's weight decay the regression is ridge regression.
    """

    def __init__(
        self, number_of_features: int, number_of_outputs: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        # The problem is convex: a start near zero, so that seeds differ mostly by data order.
        self.output = Linear(number_of_features, number_of_outputs, generator, gain=0.01)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.output(features.to(self.output.weight.dtype))
        return scores


def build_linear(architecture: dict[str, Any], generator: torch.Generator) -> nn.Module:
    return LinearModel(
        architecture["number_of_features"], architecture["number_of_outputs"], generator
    )
