"""Low-rank adapters (Hu et al. 2021, "LoRA"): frozen linear layers with a trained update of small
rank, and the merging of that update into the weights.

The adapted layer keeps its own weight under its own name, so that uploaded weights load alike with
and without adapters.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from transformers.pytorch_utils import Conv1D

from workers.training.networks.layers import Linear
from workers.training.networks.settings import ArchitectureError


class LowRankUpdate(nn.Module):
    """What an adapted layer adds to its output: scale · up(down(x)). `up` starts at zero, `down`
    uniform in ±1/√inputs, so that training starts at the frozen layer itself."""

    low_rank_down: nn.Linear
    low_rank_up: nn.Linear
    low_rank_scale: float

    def updated(self, outputs: Tensor, values: Tensor) -> Tensor:
        added: Tensor = self.low_rank_up(self.low_rank_down(values))
        return outputs + self.low_rank_scale * added


class LowRankLinear(LowRankUpdate, nn.Linear):
    def forward(self, values: Tensor) -> Tensor:
        return self.updated(nn.Linear.forward(self, values), values)


class LowRankConv1D(LowRankUpdate, Conv1D):
    """GPT-2's linear layer, whose weight is (inputs, outputs)."""

    def forward(self, values: Tensor) -> Tensor:
        return self.updated(Conv1D.forward(self, values), values)


class LowRankOwnLinear(LowRankUpdate, Linear):
    """Of the networks that are trained from scratch."""

    def forward(self, values: Tensor) -> Tensor:
        return self.updated(Linear.forward(self, values), values)


ADAPTED: dict[type[nn.Module], type[LowRankUpdate]] = {
    nn.Linear: LowRankLinear,
    Conv1D: LowRankConv1D,
    Linear: LowRankOwnLinear,
}
PLAIN = {adapted: plain for plain, adapted in ADAPTED.items()}


def add_adapters(network: nn.Module, rank: int, scale: float, generator: torch.Generator) -> int:
    """Freeze `network` and add an update of `rank` to each linear layer in it; returns how many.

    Raises ArchitectureError on `trained_part` where there is none.
    """
    network.requires_grad_(False)
    layers = [module for module in network.modules() if type(module) in ADAPTED]
    if not layers:
        raise ArchitectureError(
            "trained_part", "low-rank adapters need linear layers, and this network has none"
        )
    for layer in layers:
        _adapt(layer, rank, scale, generator)
    return len(layers)


def _adapt(layer: Any, rank: int, scale: float, generator: torch.Generator) -> None:
    is_turned = isinstance(layer, Conv1D)
    inputs, outputs = layer.weight.shape if is_turned else layer.weight.T.shape
    down = skip_init(nn.Linear, inputs, rank, bias=False)
    up = skip_init(nn.Linear, rank, outputs, bias=False)
    with torch.no_grad():
        down.weight.copy_(torch.rand(rank, inputs, generator=generator) * 2 - 1)
        down.weight.div_(math.sqrt(inputs))
        up.weight.zero_()
    layer.__class__ = ADAPTED[type(layer)]
    layer.low_rank_down, layer.low_rank_up, layer.low_rank_scale = down, up, scale


def merge_adapters(network: nn.Module) -> None:
    """Add every update to the weight that it adapts and take the adapters away; the network's
    function stays what it was."""
    layers: list[Any] = [one for one in network.modules() if isinstance(one, LowRankUpdate)]
    for layer in layers:
        update = layer.low_rank_scale * layer.low_rank_up.weight @ layer.low_rank_down.weight
        with torch.no_grad():
            layer.weight.add_(update.T if isinstance(layer, Conv1D) else update)
        del layer.low_rank_down, layer.low_rank_up, layer.low_rank_scale
        layer.__class__ = PLAIN[type(layer)]
