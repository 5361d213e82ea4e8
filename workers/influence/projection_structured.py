"""The structured projection: each trained matrix by two small random matrices, one for its inputs
and one for its outputs' gradients, so that no per-example gradient is ever formed (LoGra, Choe et
al. 2024; GraSS, Hu et al. 2025).

The gradient of a matrix used as y_t = W x_t is G = Σ_t δ_t x_tᵀ with δ_t = ∂ℓ/∂y_t, and AᵀGB is
Σ_t (Aᵀδ_t)(Bᵀx_t)ᵀ. With E[A Aᵀ] = I and E[B Bᵀ] = I, independent, products of such AᵀGB are
unbiased. A sparse sketch then brings it to its share of k (Clarkson & Woodruff 2013). The
parameters outside of matrices are few; their gradients are formed and sketched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workers.influence.kronecker_blocks import KroneckerBlock
from workers.influence.kronecker_uses import (
    MatrixUse,
    Recorded,
    record_uses,
    vector_gradients,
)
from workers.influence.linearised import Linearised
from workers.influence.projection import (
    Cotangents,
    Projection,
    pulled_back,
    random_projection,
)
from workers.training.examples import EncodedExamples

OVERSAMPLING = 8
"""Entries of AᵀGB for each entry that is kept."""


@dataclass(frozen=True)
class SparseSketch:
    """(p, k) with one random sign in each row, each column holding p/k of them."""

    order: Tensor
    """(p,) a random order of the entries."""
    signs: Tensor
    """(p,) of the entries in that order."""
    dimension: int

    @classmethod
    def of(
        cls, size: int, dimension: int, generator: torch.Generator, dtype: torch.dtype
    ) -> SparseSketch:
        order = torch.randperm(size, generator=generator)
        signs = torch.randint(0, 2, (size,), generator=generator) * 2 - 1
        return cls(order, signs.to(dtype), dimension)

    def apply(self, rows: Tensor) -> Tensor:
        """(..., k) from (..., p)."""
        mixed = rows.index_select(-1, self.order).mul_(self.signs)
        left = len(self.order) % self.dimension
        whole = len(self.order) - left
        found: Tensor = mixed[..., :whole].unflatten(-1, (-1, self.dimension)).sum(-2)
        found[..., :left] += mixed[..., whole:]
        return found


@dataclass(frozen=True)
class ProjectedMatrix:
    """One trained matrix and the two matrices that project it, as the bases of its block."""

    block: KroneckerBlock
    sketch: SparseSketch | None
    dimension: int

    @classmethod
    def of(
        cls, block: KroneckerBlock, dimension: int, generator: torch.Generator, dtype: torch.dtype
    ) -> ProjectedMatrix:
        """Keeps `block` whole where `dimension` allows it."""
        rows, columns = block.rows, block.columns
        if rows * columns <= dimension:
            return cls(block, None, rows * columns)
        outer = OVERSAMPLING * dimension
        short = min(rows, columns, math.isqrt(outer))
        long = min(max(rows, columns), outer // short)
        kept_rows, kept_columns = (short, long) if rows <= columns else (long, short)
        block = replace(
            block,
            row_basis=_basis(rows, kept_rows, generator, dtype),
            column_basis=_basis(columns, kept_columns, generator, dtype),
        )
        kept = kept_rows * kept_columns
        if kept <= dimension:
            return cls(block, None, kept)
        return cls(block, SparseSketch.of(kept, dimension, generator, dtype), dimension)

    def vectors(self, flat: Tensor) -> Tensor:
        """(K, dimension) from (K, P)."""
        return self._finish(self.block.into_basis(self.block.gather(flat)))

    def pulled(self, uses: Sequence[Recorded]) -> Tensor:
        """(M, B, dimension) of all uses of the matrix."""
        total: Tensor | None = None
        for recorded in uses:
            rows, columns = self.block.sides_in_basis(recorded)
            if rows.is_floating_point():
                found = rows.mT @ columns
            else:  # the rows of a table that is kept whole
                found = columns.new_zeros(*columns.shape[:2], self.block.rows, columns.shape[3])
                found.scatter_add_(2, rows[None, :, :, None].expand_as(columns), columns)
            total = found if total is None else total + found
        assert total is not None
        return self._finish(total)

    def _finish(self, matrices: Tensor) -> Tensor:
        flat = matrices.flatten(-2)
        return flat if self.sketch is None else self.sketch.apply(flat)

    @property
    def entries(self) -> int:
        """Of AᵀGB."""
        return self.dimension if self.sketch is None else len(self.sketch.order)


class StructuredProjection(Projection):
    """See the module. k is shared out evenly; what a small matrix does not need goes to others."""

    kind = "structured"

    def __init__(
        self,
        at: Linearised,
        matrices: Sequence[ProjectedMatrix],
        others: Sequence[str],
        sketch: SparseSketch | None,
        recorded: frozenset[str],
        vectors_each: int,
    ) -> None:
        """`others` are the parameters outside `matrices`, of which `recorded` are vectors whose
        recorded uses make up their gradients; `vectors_each` counts the numbers that the uses of
        all matrices hold for one example."""
        self.at = at
        self.matrices = tuple(matrices)
        self.others = tuple(others)
        self.recorded = recorded
        self.formed = tuple(name for name in others if name not in recorded)
        self.sketch = sketch
        self._vectors_each = vectors_each
        slices = at.layout.slices
        self._other_size = sum(slices[name].stop - slices[name].start for name in others)
        rest = self._other_size if sketch is None else sketch.dimension
        self.dimension = sum(one.dimension for one in matrices) + rest

    @classmethod
    def of(cls, at: Linearised, dimension: int, seed: int) -> StructuredProjection:
        """Finds the network's matrices on two training examples, checks that their uses make up
        their gradients, and draws the projection from `seed`."""
        few = at.train.select(torch.arange(2) % len(at.train))
        blocks, recorded, numbers = _blocks_of(at, few)
        inside = {name for block in blocks for name in (block.weight, block.bias) if name}
        others = [name for name in at.layout.names if name not in inside]
        sizes = [block.rows * block.columns for block in blocks]
        rest = at.parameters.numel() - sum(sizes)
        shares = shared_out(dimension, [*sizes, rest])
        generator = torch.Generator().manual_seed(seed)
        dtype = at.parameters.dtype
        matrices = [
            ProjectedMatrix.of(block, share, generator, dtype)
            for block, share in zip(blocks, shares, strict=False)
        ]
        sketch = None
        if rest > shares[-1]:
            sketch = SparseSketch.of(rest, shares[-1], generator, dtype)
        return cls(at, matrices, others, sketch, recorded, numbers)

    def vectors(self, flat: Tensor) -> Tensor:
        parts = [one.vectors(flat) for one in self.matrices]
        if self.others:
            slices = self.at.layout.slices
            parts.append(
                self._sketched(torch.cat([flat[:, slices[name]] for name in self.others], 1))
            )
        return torch.cat(parts, 1)

    def pull(self, batch: EncodedExamples, cotangents: Cotangents) -> Tensor:
        kept: list[Tensor] = []

        def keep(outputs: Tensor) -> Tensor:
            kept.append(cotangents(outputs))
            return kept[0]

        everything = record_uses(self.at, batch.inputs, keep, vectors=bool(self.recorded))
        recorded = by_weight([one for one in everything if not one.use.is_vector])
        parts = [one.pulled(recorded[one.block.weight]) for one in self.matrices]
        slices = self.at.layout.slices
        if not kept:
            with torch.no_grad():
                keep(self.at.outputs(batch.inputs))
        if self.others:
            rows = vector_gradients(everything)
            if self.formed:
                formed = pulled_back(self.at, self.formed, batch, kept[0])
                sizes = [slices[name].stop - slices[name].start for name in self.formed]
                rows.update(zip(self.formed, formed.split(sizes, 2), strict=True))
            parts.append(self._sketched(torch.cat([rows[name] for name in self.others], 2)))
        return torch.cat(parts, 2)

    def _sketched(self, rows: Tensor) -> Tensor:
        return rows if self.sketch is None else self.sketch.apply(rows)

    @property
    def bytes_each(self) -> int:
        numbers: int = (
            self._vectors_each
            + 2 * sum(one.entries for one in self.matrices)
            + 3 * self._other_size
            + self.dimension
        )
        return numbers * self.at.parameters.element_size()

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "oversampling": OVERSAMPLING, "formed": list(self.formed)}


def shared_out(total: int, sizes: Sequence[int]) -> list[int]:
    """How many of `total` dimensions each part of the given sizes gets: equal shares, of which no
    part takes more than its size; at least 1 each that is not empty."""
    shares = [0] * len(sizes)
    left = total
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for rank, place in enumerate(order):
        even = left // (len(sizes) - rank)
        shares[place] = min(sizes[place], max(1, even))
        left = max(0, left - shares[place])
    return shares


def by_weight(recorded: Sequence[Recorded]) -> dict[str, list[Recorded]]:
    """The uses of each matrix, in the order of the network's calls."""
    found: dict[str, list[Recorded]] = {}
    for one in recorded:
        found.setdefault(one.use.weight, []).append(one)
    return found


def _blocks_of(
    at: Linearised, few: EncodedExamples
) -> tuple[list[KroneckerBlock], frozenset[str], int]:
    """The matrices and the vectors whose gradients their recorded uses make up, and the numbers
    that the uses of matrices hold for one of the examples `few`."""
    generator = torch.Generator().manual_seed(0)
    drawn: list[Tensor] = []

    def cotangents(outputs: Tensor) -> Tensor:
        drawn.append(torch.randn(1, *outputs.shape, generator=generator, dtype=outputs.dtype))
        return drawn[0]

    everything = record_uses(at, few.inputs, cotangents, vectors=True)
    recorded = by_weight([one for one in everything if not one.use.is_vector])
    if not everything:
        return [], frozenset(), 0
    expected = pulled_back(at, at.layout.names, few, drawn[0])[0]
    blocks, numbers = [], 0
    for weight, uses in recorded.items():
        block = _block_of(at, weight, [one.use for one in uses])
        if block is None:
            continue
        found = ProjectedMatrix(block, None, block.rows * block.columns).pulled(uses)[0]
        wanted = block.gather(expected).flatten(1)
        if _agree(found, wanted):
            blocks.append(block)
            numbers += 4 * sum(one.nbytes for one in uses) // at.parameters.element_size()
    vectors = frozenset(
        name
        for name, found in vector_gradients(everything).items()
        if _agree(found[0], expected[:, at.layout.slices[name]])
    )
    return blocks, vectors, numbers // len(few)


def _agree(found: Tensor, wanted: Tensor) -> bool:
    return bool(torch.linalg.norm(found - wanted) <= 1e-3 * torch.linalg.norm(wanted))


def _block_of(at: Linearised, weight: str, uses: Sequence[MatrixUse]) -> KroneckerBlock | None:
    """None where the uses of one matrix differ in kind."""
    shapes: Mapping[str, tuple[int, ...]] = dict(
        zip(at.layout.names, at.layout.shapes, strict=True)
    )
    kinds = {(one.bias, one.inputs_are_rows) for one in uses}
    if len(kinds) != 1:
        return None
    bias, inputs_are_rows = kinds.pop()
    height = shapes[weight][0]
    slices = at.layout.slices
    return KroneckerBlock(
        weight=weight,
        bias=bias,
        weight_slice=slices[weight],
        bias_slice=None if bias is None else slices[bias],
        shape=(height, math.prod(shapes[weight][1:])),
        bias_is_row=inputs_are_rows,
    )


def _basis(
    size: int, dimension: int, generator: torch.Generator, dtype: torch.dtype
) -> Tensor | None:
    """None, the identity, where nothing is left out."""
    return None if dimension >= size else random_projection(size, dimension, generator, dtype)
