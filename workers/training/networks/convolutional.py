"""A small convolutional image classifier without batch statistics, so that an example's output
never depends on the rest of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workers.training.networks.layers import ACTIVATIONS, Convolution, Linear, dropout


class ConvolutionalNetwork(nn.Module):
    """image (B, C·H·W) or (B, C, H, W) -> class scores (B, outputs).

    Each convolution after the first halves height and width; the last map is flattened when it is
    small and averaged over positions when it is not.
    """

    largest_flattened_map = 64

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int],
        number_of_outputs: int,
        activation: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        inputs, height, width = image_shape
        self.image_shape = (inputs, height, width)
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout()
        layers = []
        for position, outputs in enumerate(channels):
            stride = 1 if position == 0 else 2
            layers.append(Convolution(inputs, outputs, stride, generator, gain=2**0.5))
            height, width = -(-height // stride), -(-width // stride)
            inputs = outputs
        self.convolutions = nn.ModuleList(layers)
        self.flatten = height * width <= self.largest_flattened_map
        self.output = Linear(
            inputs * height * width if self.flatten else inputs, number_of_outputs, generator
        )

    def forward(self, image: Tensor) -> Tensor:
        values = image.to(self.output.weight.dtype).reshape(image.shape[0], *self.image_shape)
        for layer in self.convolutions:
            values = self.activation(layer(values))
        values = values.flatten(1) if self.flatten else values.mean((2, 3))
        scores: Tensor = self.output(self.dropout(values))
        return scores


def build_convolutional(architecture: dict[str, Any], generator: torch.Generator) -> nn.Module:
    return ConvolutionalNetwork(
        architecture["image_shape"],
        architecture["channels"],
        architecture["number_of_outputs"],
        architecture["activation"],
        generator,
    )
