"""Which of the built-in networks are chains, and of which parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from workers.training.chain_parts import (
    GELU,
    SILU,
    SOFTPLUS,
    TANH,
    Activation,
    Dense,
    FixedMap,
    averaged,
    flattened,
    patches,
)
from workers.training.networks.bag_of_embeddings import BagOfEmbeddings
from workers.training.networks.convolutional import ConvolutionalNetwork
from workers.training.networks.linear import LinearModel
from workers.training.networks.mlp import MultilayerPerceptron
from workers.training.parameters import ParameterLayout

Encode = Callable[[dict[str, Tensor]], Tensor]
Parts = list[Dense | Activation | FixedMap]

ACTIVATIONS = {
    functional.gelu: GELU,
    torch.tanh: TANH,
    functional.silu: SILU,
    functional.softplus: SOFTPLUS,
}


def parts_of(network: nn.Module, layout: ParameterLayout) -> tuple[Parts, Encode] | None:
    """The parts of `network` in order, and how its inputs become the first part's (..., B, F).

    None when it is no chain, has an unknown activation, or is only partly trained.
    """
    if set(layout.names) != {name for name, _ in network.named_parameters()}:
        return None
    builders: dict[type, Callable[[Any, ParameterLayout], tuple[Parts, Encode]]] = {
        LinearModel: _linear,
        MultilayerPerceptron: _perceptron,
        BagOfEmbeddings: _bag,
        ConvolutionalNetwork: _convolutional,
    }
    build = builders.get(type(network))
    if build is None or getattr(network, "activation", torch.tanh) not in ACTIVATIONS:
        return None
    return build(network, layout)


def _dense(layout: ParameterLayout, name: str) -> Dense:
    shape = dict(zip(layout.names, layout.shapes, strict=True))[f"{name}.weight"]
    # A convolution's (outputs, inputs, 3, 3) meets patches in the order (3, 3, inputs).
    order = (0, 1) if len(shape) == 2 else (0, 2, 3, 1)
    return Dense(layout.slices[f"{name}.weight"], layout.slices[f"{name}.bias"], shape, order)


def _linear(network: LinearModel, layout: ParameterLayout) -> tuple[Parts, Encode]:
    return [_dense(layout, "output")], _features


def _perceptron(network: MultilayerPerceptron, layout: ParameterLayout) -> tuple[Parts, Encode]:
    activation = ACTIVATIONS[network.activation]
    parts: Parts = []
    for place in range(len(network.hidden)):
        parts += [_dense(layout, f"hidden.{place}"), activation]
    return [*parts, _dense(layout, "output")], _features


def _bag(network: BagOfEmbeddings, layout: ParameterLayout) -> tuple[Parts, Encode]:
    table = layout.slices["embedding.weight"]
    units, width = network.embedding.weight.shape
    parts: Parts = [Dense(table, None, (units, width), (1, 0))]
    if network.hidden is not None:
        parts += [_dense(layout, "hidden"), ACTIVATIONS[network.activation]]

    def counts(inputs: dict[str, Tensor]) -> Tensor:
        ids, weights = inputs["ids"], inputs["weights"]
        result = weights.new_zeros(*ids.shape[:-1], units)
        return result.scatter_add_(-1, ids.long(), weights)

    return [*parts, _dense(layout, "output")], counts


def _convolutional(network: ConvolutionalNetwork, layout: ParameterLayout) -> tuple[Parts, Encode]:
    channels, height, width = network.image_shape
    shape = (channels, height, width)
    parts: Parts = []
    for place, layer in enumerate(network.convolutions):
        stride = int(layer.stride)  # type: ignore[arg-type]
        parts += [
            patches(height, width, stride),
            _dense(layout, f"convolutions.{place}"),
            ACTIVATIONS[network.activation],
        ]
        height, width = -(-height // stride), -(-width // stride)
    parts.append((flattened if network.flatten else averaged)(height, width))

    def image(inputs: dict[str, Tensor]) -> Tensor:
        leading = inputs["image"].shape[: -3 if inputs["image"].ndim > 3 else -1]
        return inputs["image"].reshape(*leading, *shape).movedim(-3, -1)

    return [*parts, _dense(layout, "output")], image


def _features(inputs: dict[str, Tensor]) -> Tensor:
    return inputs["features"]
