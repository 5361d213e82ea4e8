"""Random projections of per-example gradients from P to k dimensions: what every projection can do,
the dense one, and which one fits a network. The structured one is in `projection_structured`.

A projection is a matrix R (P, k) with E[R Rᵀ] = I, so that products of projected gradients are
unbiased estimates of products of gradients (Johnson & Lindenstrauss 1984).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.func import functional_call, vjp, vmap

from workers.influence.linearised import CHUNK_BYTES, Linearised
from workers.training.examples import EncodedExamples

LARGEST_DENSE = 1 << 25
"""Entries of a dense matrix R, which has to be held."""
DENSE_PRODUCTS = 1 << 39
"""Of the gradients of all examples with R: minutes on one core."""

Cotangents = Callable[[Tensor], Tensor]
"""From the outputs (B, ...) of a batch to M cotangents of them (M, B, ...)."""


class Projection(ABC):
    """R at one network's parameters; see the module."""

    kind: ClassVar[str]
    dimension: int
    """k."""

    @abstractmethod
    def vectors(self, flat: Tensor) -> Tensor:
        """(K, k) from vectors (K, P) of the parameters' length."""

    @abstractmethod
    def pull(self, batch: EncodedExamples, cotangents: Cotangents) -> Tensor:
        """(M, B, k) the projection of Jᵢᵀu for each example i of the batch and its M cotangents u,
        with Jᵢ the Jacobian of its outputs."""

    @property
    @abstractmethod
    def bytes_each(self) -> int:
        """Of memory that one cotangent of one example takes meanwhile."""

    def describe(self) -> dict[str, Any]:
        """What decides the projection besides the network and the seed."""
        return {"kind": self.kind, "dimension": self.dimension}


class DenseProjection(Projection):
    """Full per-example gradients times a matrix; the identity where k would be P."""

    kind = "dense"

    def __init__(self, at: Linearised, matrix: Tensor | None) -> None:
        """`matrix` (P, k), or None for the identity."""
        self.at = at
        self.matrix = matrix
        self.dimension = at.parameters.numel() if matrix is None else matrix.shape[1]

    @classmethod
    def of(cls, at: Linearised, dimension: int, seed: int) -> DenseProjection:
        size = at.parameters.numel()
        if dimension >= size:
            return cls(at, None)
        generator = torch.Generator().manual_seed(seed)
        return cls(at, random_projection(size, dimension, generator, at.parameters.dtype))

    def vectors(self, flat: Tensor) -> Tensor:
        return flat if self.matrix is None else flat @ self.matrix

    def pull(self, batch: EncodedExamples, cotangents: Cotangents) -> Tensor:
        with torch.no_grad():
            outputs = self.at.outputs(batch.inputs)
        rows = pulled_back(self.at, self.at.layout.names, batch, cotangents(outputs))
        return self.vectors(rows)

    @property
    def bytes_each(self) -> int:
        # The gradient itself and about as much again while it is made.
        return 3 * self.at.parameters.nbytes


def pulled_back(
    at: Linearised, names: Sequence[str], batch: EncodedExamples, cotangents: Tensor
) -> Tensor:
    """(M, B, P') Jᵢᵀu of `cotangents` (M, B, ...), in the parameters called `names`, flat."""
    everything = at.layout.unflatten(at.parameters)
    chosen = {name: everything.pop(name) for name in names}

    def single(inputs: dict[str, Tensor], own: Tensor) -> Tensor:
        alone = {name: tensor[None] for name, tensor in inputs.items()}

        def outputs(moving: dict[str, Tensor]) -> Tensor:
            found: Tensor = functional_call(at.network, {**everything, **moving}, (), alone)
            return found[0]

        pulled = vmap(vjp(outputs, chosen)[1])(own)[0]
        return torch.cat([pulled[name].flatten(1) for name in names], 1)

    rows: Tensor = vmap(single, in_dims=(0, 1), out_dims=1)(batch.inputs, cotangents)
    return rows.detach()


def random_projection(
    size: int, dimension: int, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """(size, dimension) R with E[R Rᵀ] = I: orthonormal columns times √(size / dimension), whose
    products vary least and are exact at full dimension, or independent normal entries where the
    dimension is so much smaller that the two hardly differ. Drawn in float64 for every dtype."""
    drawn = torch.randn(size, dimension, generator=generator, dtype=torch.float64)
    if size <= 4 * dimension:
        columns: Tensor = torch.linalg.qr(drawn).Q
        return columns.mul_((size / dimension) ** 0.5).to(dtype)
    return drawn.div_(dimension**0.5).to(dtype)


def projection_of(at: Linearised, kind: str, dimension: int, seed: int) -> Projection:
    """The projection called `kind`: “dense”, “structured”, or “auto”, which takes the dense one,
    whose products vary least, while its matrix has at most LARGEST_DENSE entries and costs at most
    DENSE_PRODUCTS. Raises ValueError for another name."""
    from workers.influence.projection_structured import StructuredProjection

    size = at.parameters.numel()
    if kind == "auto":
        entries = size * dimension
        fits = entries <= LARGEST_DENSE and entries * len(at.train) <= DENSE_PRODUCTS
        kind = "dense" if dimension >= size or fits else "structured"
    if kind == "dense":
        return DenseProjection.of(at, dimension, seed)
    if kind == "structured":
        return StructuredProjection.of(at, dimension, seed)
    raise ValueError(f"unknown projection “{kind}”; known: auto, dense, structured")


def examples_that_fit(projection: Projection, cotangents_each: int) -> int:
    """Examples whose cotangents fit into CHUNK_BYTES together; at least 1."""
    return max(1, CHUNK_BYTES // max(1, cotangents_each * projection.bytes_each))
