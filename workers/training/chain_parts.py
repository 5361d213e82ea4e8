"""The parts of a chain: dense layers, smooth activations, fixed linear maps of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

Saved = tuple[Tensor, ...]
"""What a part keeps of its forward pass."""


@dataclass(frozen=True)
class Dense:
    """y = x W + b over the last dimension; W and b lie in θ at `weight` and `bias`.

    `stored_shape` is the shape of W in θ and `order` the permutation that makes it (outputs,
    inputs) after flattening all but the first dimension.
    """

    weight: slice
    bias: slice | None
    stored_shape: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def outputs(self) -> int:
        return self.stored_shape[self.order[0]]

    def matrix(self, theta: Tensor) -> Tensor:
        """(G, outputs, inputs) from (G, P)."""
        stored = theta[:, self.weight].reshape(len(theta), *self.stored_shape)
        permuted = stored.permute(0, *(axis + 1 for axis in self.order))
        return permuted.reshape(len(theta), self.outputs, -1)

    def forward(self, values: Tensor, theta: Tensor) -> tuple[Tensor, Saved]:
        result = product(_rows(values), self.matrix(theta).mT)
        if self.bias is not None:
            result += theta[:, None, self.bias]
        return result.reshape(*result.shape[:1], *values.shape[1:-1], self.outputs), (values,)

    def prepare_second(self, saved: Saved) -> Saved:
        return saved

    def backward(self, cotangent: Tensor, saved: Saved, theta: Tensor) -> Tensor:
        """∂/∂ x, of the group of `cotangent`."""
        result = product(_rows(cotangent), self.matrix(theta))
        return result.reshape(*result.shape[:1], *saved[0].shape[1:])

    def store_gradient(self, gradient: Tensor, cotangent: Tensor, saved: Saved) -> None:
        """Writes ∂/∂ W and ∂/∂ b into `gradient` (G, P)."""
        rows = _rows(cotangent)
        values = _rows(saved[0])
        if self.order == (0, 1):
            groups = len(gradient)
            out = gradient[:, self.weight].view(groups, *self.stored_shape)
            torch.bmm(rows.mT, values.expand(groups, -1, -1), out=out)
        else:
            self._store(gradient, product(rows.mT, values))
        if self.bias is not None:
            torch.sum(rows, 1, out=gradient[:, self.bias])

    def tangent(
        self, saved: Saved, directions: Tensor, tangent: Tensor | None, theta: Tensor
    ) -> Tensor:
        """The move of y (K, ...) along `directions` (K, P) of θ and `tangent` of x."""
        values = saved[0]
        result: Tensor
        if len(values) == 1:
            # One wide product: a layer with few outputs makes K narrow ones slow.
            wide = _rows(values)[0] @ self.matrix(directions).flatten(0, 1).T
            if self.bias is not None:
                wide += directions[:, self.bias].reshape(-1)
            result = wide.unflatten(1, (len(directions), -1)).transpose(0, 1).contiguous()
        else:
            result = product(_rows(values), self.matrix(directions).mT)
            if self.bias is not None:
                result += directions[:, None, self.bias]
        if tangent is not None:
            add_product(result, _rows(tangent), self.matrix(theta).mT)
        return result.reshape(len(directions), *values.shape[1:-1], self.outputs)

    def store_second(
        self,
        result: Tensor,
        moved: Tensor,
        saved: Saved,
        cotangent: Tensor,
        tangent: Tensor | None,
    ) -> None:
        """Writes the move of ∂/∂ W and ∂/∂ b into `result` (K, P)."""
        rows, values = _rows(moved), _rows(saved[0])
        if tangent is None and len(values) == 1:
            # One wide product: few inputs, as a first convolution has, make narrow ones slow.
            folded = values[0].T @ rows.transpose(0, 1).flatten(1)
            change = folded.unflatten(1, (len(rows), -1)).permute(1, 2, 0)
        else:
            change = product(rows.mT, values)
        if tangent is not None:
            add_product(change, _rows(cotangent).mT, _rows(tangent))
        self._store(result, change)
        if self.bias is not None:
            torch.sum(rows, 1, out=result[:, self.bias])

    def add_backward(self, moved: Tensor, cotangent: Tensor, directions: Tensor) -> None:
        """Adds the part of the move of ∂/∂ x that comes from the move of W."""
        add_product(_rows(moved), _rows(cotangent), self.matrix(directions))

    def _store(self, flat: Tensor, matrix: Tensor) -> None:
        stored = flat[:, self.weight].view(len(flat), *self.stored_shape)
        permuted = stored.permute(0, *(axis + 1 for axis in self.order))
        permuted.copy_(matrix.reshape(permuted.shape))


@dataclass(frozen=True)
class Activation:
    """An elementwise smooth function φ. `chain_rule(c, z)` is c φ'(z)."""

    function: Callable[[Tensor], Tensor]
    chain_rule: Callable[[Tensor, Tensor], Tensor]
    derivatives: Callable[[Tensor], tuple[Tensor, Tensor]]
    """φ' and φ''."""

    def forward(self, values: Tensor, theta: Tensor) -> tuple[Tensor, Saved]:
        return self.function(values), (values,)

    def backward(self, cotangent: Tensor, saved: Saved, theta: Tensor) -> Tensor:
        return self.chain_rule(cotangent, saved[0])

    def prepare_second(self, saved: Saved) -> Saved:
        return self.derivatives(saved[0])

    def push(self, tangent: Tensor, prepared: Saved) -> Tensor:
        return tangent * prepared[0]

    def backward_second(
        self, moved: Tensor, prepared: Saved, cotangent: Tensor, tangent: Tensor
    ) -> Tensor:
        first, second = prepared
        return (moved * first).addcmul_(tangent, second * cotangent)


@dataclass(frozen=True)
class FixedMap:
    """A linear map without parameters, and its transpose."""

    apply: Callable[[Tensor], Tensor]
    transpose: Callable[[Tensor], Tensor]

    def forward(self, values: Tensor, theta: Tensor) -> tuple[Tensor, Saved]:
        return self.apply(values), ()

    def prepare_second(self, saved: Saved) -> Saved:
        return saved

    def backward(self, cotangent: Tensor, saved: Saved, theta: Tensor) -> Tensor:
        return self.transpose(cotangent)

    def push(self, tangent: Tensor, saved: Saved) -> Tensor:
        return self.apply(tangent)

    def backward_second(
        self, moved: Tensor, saved: Saved, cotangent: Tensor, tangent: Tensor
    ) -> Tensor:
        return self.transpose(moved)


def patches(height: int, width: int, stride: int) -> FixedMap:
    """3 × 3 patches with zero padding: (G, B, H, W, C) -> (G, B, H', W', 9 C), rows of pixels."""
    new_height, new_width = -(-height // stride), -(-width // stride)

    def apply(image: Tensor) -> Tensor:
        padded = functional.pad(image, (0, 0, 1, 1, 1, 1))
        windows = padded.unfold(2, 3, stride).unfold(3, 3, stride)
        return windows.permute(0, 1, 2, 3, 5, 6, 4).flatten(4)

    rows = [_overlap(offset, new_height, height, stride) for offset in range(3)]
    columns = [_overlap(offset, new_width, width, stride) for offset in range(3)]

    def transpose(cotangent: Tensor) -> Tensor:
        # Columns first, then whole rows: few passes, and long runs of memory in the second.
        pieces = cotangent.unflatten(4, (3, 3, -1)).flatten(0, 1).transpose(2, 3)
        number, channels = len(pieces), pieces.shape[-1]
        wide = cotangent.new_zeros(number, new_height, 3, width, channels)
        for offset, (own, target) in enumerate(columns):
            wide[:, :, :, target] += pieces[:, :, :, own, offset]
        wide = wide.flatten(3)
        image = cotangent.new_zeros(number, height, wide.shape[-1])
        for offset, (own, target) in enumerate(rows):
            image[:, target] += wide[:, own, offset]
        return image.reshape(*cotangent.shape[:2], height, width, channels)

    return FixedMap(apply, transpose)


def _overlap(offset: int, patches: int, length: int, stride: int) -> tuple[slice, slice]:
    """Which patches have their pixel number `offset` inside a side of `length`, and where."""
    first = 1 if offset == 0 else 0
    last = min(patches - 1, (length - offset) // stride)
    start = first * stride + offset - 1
    return slice(first, last + 1), slice(start, last * stride + offset, stride)


def flattened(height: int, width: int) -> FixedMap:
    """(G, B, H, W, C) -> (G, B, C·H·W), the order of a flattened (C, H, W) map."""
    return FixedMap(
        lambda image: image.permute(0, 1, 4, 2, 3).flatten(2),
        lambda flat: flat.unflatten(2, (-1, height, width)).permute(0, 1, 3, 4, 2),
    )


def averaged(height: int, width: int) -> FixedMap:
    """(G, B, H, W, C) -> (G, B, C), the mean over positions."""
    return FixedMap(
        lambda image: image.mean((2, 3)),
        lambda mean: (mean / (height * width))[:, :, None, None].expand(-1, -1, height, width, -1),
    )


def product(left: Tensor, right: Tensor) -> Tensor:
    """(G, m, n) of (G or 1, m, k) and (G or 1, k, n)."""
    if len(right) == 1 and left.is_contiguous():
        folded: Tensor = left.flatten(0, 1) @ right[0]
        return folded.reshape(left.shape[0], left.shape[1], -1)
    groups = max(len(left), len(right))
    return torch.bmm(left.expand(groups, -1, -1), right.expand(groups, -1, -1))


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds `product(left, right)` to `total` (G, m, n) in place."""
    if len(right) == 1 and left.is_contiguous() and total.is_contiguous():
        total.flatten(0, 1).addmm_(left.flatten(0, 1), right[0])
    else:
        groups = len(total)
        total.baddbmm_(left.expand(groups, -1, -1), right.expand(groups, -1, -1))


def _gelu_derivatives(values: Tensor) -> tuple[Tensor, Tensor]:
    """φ' = Φ(z) + z p(z) and φ'' = p(z) (2 - z²), with Φ and p of the standard normal."""
    square = values * values
    density = torch.exp(square * -0.5).mul_(1 / math.sqrt(2 * math.pi))
    below = torch.erf(values * math.sqrt(0.5)).add_(1).mul_(0.5)
    return below.addcmul_(values, density), density.mul_(2 - square)


def _tanh_derivatives(values: Tensor) -> tuple[Tensor, Tensor]:
    tangent = torch.tanh(values)
    first = 1 - tangent * tangent
    return first, -2 * tangent * first


def _silu_derivatives(values: Tensor) -> tuple[Tensor, Tensor]:
    """With s the logistic function: φ' = s + z s' and φ'' = 2 s' + z s' (1 - 2 s)."""
    logistic = torch.sigmoid(values)
    slope = logistic * (1 - logistic)
    return logistic + values * slope, slope * (2 + values * (1 - 2 * logistic))


def _softplus_derivatives(values: Tensor) -> tuple[Tensor, Tensor]:
    logistic = torch.sigmoid(values)
    return logistic, logistic * (1 - logistic)


GELU = Activation(functional.gelu, torch.ops.aten.gelu_backward, _gelu_derivatives)
SILU = Activation(functional.silu, torch.ops.aten.silu_backward, _silu_derivatives)
TANH = Activation(torch.tanh, lambda c, z: c * _tanh_derivatives(z)[0], _tanh_derivatives)
SOFTPLUS = Activation(functional.softplus, lambda c, z: c * torch.sigmoid(z), _softplus_derivatives)


def _rows(values: Tensor) -> Tensor:
    """(G, B · positions, features)."""
    return values if values.ndim == 3 else values.flatten(1, -2)
