"""A multilayer perceptron on features; also the trained head on a frozen encoder's features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from workers.training.networks.layers import ACTIVATIONS, Linear, dropout


class MultilayerPerceptron(nn.Module):
    """features (B, F) -> outputs (B, C), through hidden layers of the given widths."""

    def __init__(
        self,
        number_of_features: int,
        hidden: Sequence[int],
        number_of_outputs: int,
        activation: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        widths = [number_of_features, *hidden]
        self.hidden = nn.ModuleList(
            Linear(inputs, outputs, generator, gain=2**0.5 if activation != "tanh" else 1.0)
            for inputs, outputs in pairwise(widths)
        )
        self.output = Linear(widths[-1], number_of_outputs, generator)
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout()

    def forward(self, features: Tensor) -> Tensor:
        values = features.to(self.output.weight.dtype)
        for layer in self.hidden:
            values = self.dropout(self.activation(layer(values)))
        scores: Tensor = self.output(values)
        return scores


def build_mlp(architecture: dict[str, Any], generator: torch.Generator) -> nn.Module:
    return MultilayerPerceptron(
        architecture["number_of_features"],
        architecture["hidden"],
        architecture["number_of_outputs"],
        architecture["activation"],
        generator,
    )
