"""One trained matrix (with its bias as one more column or row) in the basis of its two Kronecker
factors, and what the recorded uses of it on a batch add up to in that basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from workers.influence.kronecker_uses import Recorded
from workers.influence.linearised import CHUNK_BYTES


@dataclass(frozen=True)
class KroneckerBlock:
    """The curvature (U ⊗ V) diag(values) (U ⊗ V)ᵀ of an R × C matrix of parameters.

    A basis of None is the identity: the side is too long to decompose or counts table entries,
    whose factor is diagonal anyway.
    """

    weight: str
    bias: str | None
    weight_slice: slice
    """In θ."""
    bias_slice: slice | None
    shape: tuple[int, int]
    """R0 × C0 of the weight alone, flattened to a matrix as it is stored."""
    bias_is_row: bool = False
    row_scale: Tensor | None = None
    """(R,) and (C,): the parameters are measured in units of the product of the two."""
    column_scale: Tensor | None = None
    row_basis: Tensor | None = None
    """(R, R) U, orthonormal columns."""
    column_basis: Tensor | None = None
    """(C, C) V."""
    values: Tensor | None = None
    """(R, C) eigenvalues."""

    @property
    def rows(self) -> int:
        return self.shape[0] + (self.bias is not None and self.bias_is_row)

    @property
    def columns(self) -> int:
        return self.shape[1] + (self.bias is not None and not self.bias_is_row)

    def gather(self, vectors: Tensor) -> Tensor:
        """(K, R, C) this block's part of `vectors` (K, P)."""
        weights = vectors[:, self.weight_slice].reshape(-1, *self.shape)
        if self.bias_slice is None:
            return weights
        bias = vectors[:, self.bias_slice]
        if self.bias_is_row:
            return torch.cat([weights, bias[:, None, :]], 1)
        return torch.cat([weights, bias[:, :, None]], 2)

    def scatter(self, matrices: Tensor, vectors: Tensor) -> None:
        """Writes (K, R, C) to this block's part of `vectors` (K, P)."""
        height, width = self.shape
        vectors[:, self.weight_slice] = matrices[:, :height, :width].flatten(1)
        if self.bias_slice is not None:
            bias = matrices[:, -1] if self.bias_is_row else matrices[:, :, -1]
            vectors[:, self.bias_slice] = bias

    def into_basis(self, matrices: Tensor) -> Tensor:
        """UᵀMV of (K, R, C)."""
        if self.row_basis is not None:
            matrices = self.row_basis.T @ matrices
        return matrices if self.column_basis is None else matrices @ self.column_basis

    def out_of_basis(self, matrices: Tensor) -> Tensor:
        """UMVᵀ of (K, R, C)."""
        if self.row_basis is not None:
            matrices = self.row_basis @ matrices
        return matrices if self.column_basis is None else matrices @ self.column_basis.T

    def with_scale(self, root_metric: Tensor) -> KroneckerBlock:
        """With the product of a row and a column nearest, in logarithms, to `root_metric` (P,)."""
        logarithms = self.gather(root_metric[None])[0].log()
        rows, columns = logarithms.mean(1), logarithms.mean(0)
        return replace(self, row_scale=(rows - rows.mean()).exp(), column_scale=columns.exp())

    def scale(self) -> Tensor | float:
        """(R, C)."""
        if self.row_scale is None or self.column_scale is None:
            return 1.0
        return torch.outer(self.row_scale, self.column_scale)

    def sides(self, recorded: Recorded) -> tuple[Tensor, Tensor]:
        """Row and column vectors of a use, ({1 or D}, B, T, R or C) each, in the units of the
        scale but not in the basis; the rows of a lookup stay ids (B, T). The gradient of the
        matrix is the sum over T of their outer products."""
        use, gradients = recorded.use, recorded.gradients
        if use.is_lookup:
            if self.row_scale is not None:
                gradients = gradients * self.row_scale[use.inputs][None, :, :, None]
            return use.inputs, _scaled(gradients, self.column_scale)
        inputs = use.inputs
        if self.bias is not None:
            inputs = torch.cat([inputs, torch.ones_like(inputs[..., :1])], 2)
        first, second = inputs[None], gradients
        if not use.inputs_are_rows:
            first, second = second, first
        return _scaled(first, self.row_scale), _scaled(second, self.column_scale)

    def sides_in_basis(self, recorded: Recorded) -> tuple[Tensor, Tensor]:
        """`sides` times the bases; a lookup in a basis becomes rows of that basis."""
        rows, columns = self.sides(recorded)
        if self.row_basis is not None:
            is_lookup = not rows.is_floating_point()
            rows = self.row_basis[rows][None] if is_lookup else rows @ self.row_basis
        return rows, columns if self.column_basis is None else columns @ self.column_basis

    def squares(self, uses: Sequence[Recorded], weights: Tensor) -> Tensor:
        """(R, C) Σ over examples, weighted by `weights` (B,), and cotangents of the squared
        entries of the matrix's gradient in the basis (George et al. 2018, eq. 15)."""
        sides = [self.sides_in_basis(one) for one in uses]
        if len(sides) == 1:
            rows, columns = sides[0]
            if not rows.is_floating_point():
                return self._squares_of_lookups(rows, columns, weights)
            if rows.shape[2] == 1:
                first = rows[:, :, 0].square().sum(0) * weights[:, None]
                return first.T @ columns[:, :, 0].square().sum(0)
        total = weights.new_zeros(self.rows, self.columns)
        draws = max(one.gradients.shape[0] for one in uses)
        each = draws * self.rows * self.columns * weights.element_size()
        for part in torch.arange(len(weights)).split(max(1, CHUNK_BYTES // each)):
            found = _sum_of_outer_products(sides, part, self.rows).square_().sum(0)
            total += torch.einsum("brc,b->rc", found, weights[part])
        return total

    def _squares_of_lookups(self, ids: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """Each example touches few rows of a table: only those are added up and squared."""
        places = torch.arange(len(ids))[:, None] * self.rows + ids
        touched, inverse = places.unique(return_inverse=True)
        sums = columns.new_zeros(len(columns), len(touched), self.columns)
        sums.index_add_(1, inverse.flatten(), columns.flatten(1, 2))
        squares = sums.square_().sum(0) * weights[touched // self.rows][:, None]
        return weights.new_zeros(self.rows, self.columns).index_add_(
            0, touched % self.rows, squares
        )

    def products(self, uses: Sequence[Recorded], vectors: Tensor) -> Tensor:
        """(V, D, B) of `vectors` (V, R, C) in the basis with the matrix's gradient of each example
        and cotangent, which is formed only where that is less work."""
        batch = len(uses[0].use.inputs)
        draws = max(one.gradients.shape[0] for one in uses)
        found = vectors.new_zeros(len(vectors), draws, batch)
        for one in uses:
            rows, columns = self.sides_in_basis(one)
            each = draws * self.rows * self.columns
            if not rows.is_floating_point():
                each = len(vectors) * columns.shape[2] * self.columns
            part = max(1, CHUNK_BYTES // (each * vectors.element_size()))
            for places in torch.arange(batch).split(part):
                found[:, :, places] += _products(rows, columns, places, vectors)
        return found

    def gradients(self, uses: Sequence[Recorded]) -> Tensor:
        """(D, B, R, C) the gradient of each example, from its uses and not in the basis."""
        plain = replace(self, row_basis=None, column_basis=None)
        sides = [plain.sides_in_basis(one) for one in uses]
        return _sum_of_outer_products(sides, torch.arange(len(uses[0].use.inputs)), self.rows)


def _scaled(vectors: Tensor, scale: Tensor | None) -> Tensor:
    return vectors if scale is None else vectors * scale


def _products(rows: Tensor, columns: Tensor, part: Tensor, vectors: Tensor) -> Tensor:
    """(V, D, b) of `vectors` (V, R, C) with the sum of outer products of one use's sides."""
    if not rows.is_floating_point():
        return torch.einsum("vbtc,dbtc->vdb", vectors[:, rows[part]], columns[:, part])
    rows, columns = rows[:, part], columns[:, part]
    if rows.shape[2] > 1:
        formed = rows.mT @ columns
        return torch.einsum("vk,dbk->vdb", vectors.flatten(1), formed.flatten(2))
    rows, columns = rows[:, :, 0], columns[:, :, 0]
    if len(rows) == 1:
        return torch.einsum("vbc,dbc->vdb", rows[0] @ vectors, columns)
    return torch.einsum("vbr,dbr->vdb", columns[0] @ vectors.mT, rows)


def _sum_of_outer_products(
    sides: Sequence[tuple[Tensor, Tensor]], part: Tensor, number_of_rows: int
) -> Tensor:
    """(D, b, R, C) for the examples in `part`, added over uses and vectors."""
    total: Tensor | None = None
    for rows, columns in sides:
        if rows.is_floating_point():
            found = rows[:, part].mT @ columns[:, part]
        else:
            own = columns[:, part]
            found = own.new_zeros(*own.shape[:2], number_of_rows, own.shape[3])
            found.scatter_add_(2, rows[part][None, :, :, None].expand_as(own), own)
        total = found if total is None else total + found
    assert total is not None
    return total
