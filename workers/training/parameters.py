"""One flat vector for the trained parameters of a network, and the way back to named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ParameterLayout:
    """Where each trained parameter lies in the flat vector θ (P,), in the network's own order."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, network: nn.Module) -> ParameterLayout:
        """The layout of the parameters of `network` that require gradients; frozen ones are out.

        Raises ValueError when nothing is trained.
        """
        trained = [
            (name, tuple(p.shape)) for name, p in network.named_parameters() if p.requires_grad
        ]
        if not trained:
            raise ValueError("the network has no trained parameter")
        return cls(tuple(name for name, _ in trained), tuple(shape for _, shape in trained))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(torch.Size(shape).numel() for shape in self.shapes)

    @property
    def number_of_parameters(self) -> int:
        """P."""
        return sum(self.sizes)

    @property
    def slices(self) -> dict[str, slice]:
        """The slice of θ that each named parameter occupies."""
        result, start = {}, 0
        for name, size in zip(self.names, self.sizes, strict=True):
            result[name] = slice(start, start + size)
            start += size
        return result

    def flatten(self, tensors: Mapping[str, Tensor] | nn.Module) -> Tensor:
        """θ (P,) as a new vector, from named tensors or from the network itself."""
        if isinstance(tensors, nn.Module):
            tensors = {name: p.detach() for name, p in tensors.named_parameters()}
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Named views into `flat` (..., P), each of shape (..., *shape); differentiable."""
        pieces = flat.split(self.sizes, dim=-1)
        return {
            name: piece.reshape(*flat.shape[:-1], *shape)
            for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)
        }

    def to_json(self) -> dict[str, Any]:
        return {"names": list(self.names), "shapes": [list(shape) for shape in self.shapes]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ParameterLayout:
        return cls(tuple(data["names"]), tuple(tuple(shape) for shape in data["shapes"]))
