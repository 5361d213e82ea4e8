"""The generalised Gauss–Newton matrix H of a trained network: products with it, and solutions of
(H + diag(damping)) x = g, exactly where one side of its factor is small, by conjugate gradients
otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workers.influence.linearised import (
    Linearised,
    curvature_product,
    number_of_square_roots,
)

LARGEST_EXACT = 2_000
"""Order of the matrix that is still decomposed."""
FACTOR_BYTES = 512 << 20
"""A factor of H up to this size is kept, where it can be decomposed or has so few rows an example
that products by it are cheaper than by differentiation."""
FEW_ROWS = 2
LONGEST_BATCH = 512
BATCH_NUMBERS = 1 << 15
"""Of network inputs differentiated at a time."""
TOKENS_AT_ONCE = 2_048
"""Of a language model, whose scores are tokens × vocabulary numbers for every vector."""

Preconditioner = Callable[[Tensor], Tensor]


class GaussNewton:
    """H (P, P) = Σ wᵢ Jᵢᵀ Lᵢ Jᵢ / n at a network's parameters, never formed unless P is small."""

    def __init__(self, at: Linearised, factor_bytes: int = FACTOR_BYTES) -> None:
        self.at = at
        self.size = at.parameters.numel()
        self.factor: Tensor | None = None
        """(M, P) with factorᵀ factor = H, where it fits."""
        problem = at.problem
        if problem.loss != "next_token":
            outputs = at.outputs(at.train.select(torch.arange(1)).inputs).shape[-1]
            rows = number_of_square_roots(problem.loss, outputs)
            fits = len(at.train) * rows * at.parameters.nbytes <= factor_bytes
            is_small = min(len(at.train) * rows, self.size) <= LARGEST_EXACT
            if fits and (is_small or rows <= FEW_ROWS):
                self.factor = self._factor(rows)

    def _factor(self, rows: int) -> Tensor:
        at = self.at
        factor = at.parameters.new_empty(len(at.train), rows, self.size)
        scale = (at.weights.clamp_min(0) / at.denominator).sqrt()
        for indices in at.chunks(rows):
            found = at.square_root_jacobians(at.train.select(indices))
            torch.mul(found, scale[indices, None, None], out=factor[indices[0] : indices[-1] + 1])
        return factor.flatten(0, 1)

    def product(self, vectors: Tensor) -> Tensor:
        """H times each row of `vectors` (K, P)."""
        if self.factor is not None:
            return (vectors @ self.factor.T) @ self.factor
        result = torch.zeros_like(vectors)
        at = self.at
        for indices in self._batches():
            result += self._batch_product(indices, vectors)
        return result / at.denominator

    def _batches(self) -> tuple[Tensor, ...]:
        each = sum(tensor[0].numel() for tensor in self.at.train.inputs.values())
        if self.at.problem.loss == "next_token":
            length = max(1, TOKENS_AT_ONCE // max(1, self.at.train.targets.shape[1]))
        else:
            length = min(LONGEST_BATCH, BATCH_NUMBERS // max(1, each))
            length = max(self.at.problem.recipe.batch_size, 32, length)
        batches: tuple[Tensor, ...] = torch.arange(len(self.at.train)).split(length)
        return batches

    def _batch_product(self, indices: Tensor, vectors: Tensor) -> Tensor:
        """Σ wᵢ Jᵢᵀ Lᵢ Jᵢ v over the batch; J v as the derivative of Jᵀu in u, since reverse mode
        alone goes through every network."""
        at = self.at
        batch = at.train.select(indices)
        leaf = at.parameters.clone().requires_grad_()
        outputs = at.outputs(batch.inputs, leaf)
        dummy = torch.zeros_like(outputs, requires_grad=True)
        (pulled,) = torch.autograd.grad(outputs, leaf, dummy, create_graph=True)
        (pushed,) = torch.autograd.grad(
            pulled, dummy, vectors, is_grads_batched=True, retain_graph=True
        )
        curved = curvature_product(at.problem.loss, outputs.detach(), batch.targets, pushed)
        shape = (1, len(indices)) + (1,) * (outputs.ndim - 1)
        weighted = curved * at.weights[indices].reshape(shape)
        (back,) = torch.autograd.grad(outputs, leaf, weighted, is_grads_batched=True)
        return back

    def trace(self) -> float:
        """tr H: exact with a factor, else Hutchinson's estimate from 8 random sign vectors."""
        if self.factor is not None:
            return float(self.factor.square().sum())
        generator = torch.Generator().manual_seed(0)
        signs = (
            torch.randint(0, 2, (8, self.size), generator=generator).to(self.at.parameters.dtype)
            * 2
            - 1
        )
        return float((signs * self.product(signs)).sum() / 8)

    def eigendecomposition(self, root: Tensor | None = None) -> Eigendecomposition | None:
        """Exact, in float64, where P or the rows of the factor are at most LARGEST_EXACT; of
        diag(root) H diag(root) for a `root` (P,)."""
        if self.factor is None or min(self.factor.shape) > LARGEST_EXACT:
            return None
        factor = self.factor.double()
        if root is not None:
            factor = factor * root
        if self.size <= len(factor):
            values, vectors = torch.linalg.eigh(factor.T @ factor)
            return Eigendecomposition(values.clamp_min(0), vectors)
        values, left = torch.linalg.eigh(factor @ factor.T)
        # A relative rank below float32's precision is noise of the factor.
        kept = values > values[-1] * 1e-10
        values, left = values[kept], left[:, kept]
        return Eigendecomposition(values, factor.T @ (left / values.sqrt()))


@dataclass(frozen=True)
class Eigendecomposition:
    """H = V diag(values) Vᵀ, with V (P, r) orthonormal; H is zero elsewhere."""

    values: Tensor
    vectors: Tensor

    def solve(self, gradients: Tensor, damping: float) -> Tensor:
        """(H + damping I)⁻¹ g for each row of `gradients` (K, P)."""
        return self.apply(gradients, 1 / (self.values + damping), 1 / damping)

    def apply(self, vectors: Tensor, on_values: Tensor, elsewhere: float) -> Tensor:
        """f(H) v for each row, with f(values) = `on_values` (r,) and f(0) = `elsewhere`."""
        rows = vectors.double()
        inside = rows @ self.vectors
        if len(self.vectors) == len(self.values):
            found = (inside * on_values) @ self.vectors.T
        else:
            found = rows * elsewhere + (inside * (on_values - elsewhere)) @ self.vectors.T
        return found.to(vectors.dtype)


@dataclass(frozen=True)
class Solution:
    """Rows x (K, P) with their relative residuals |b - A x| / |b|."""

    rows: Tensor
    residuals: Tensor
    iterations: int

    def to_json(self) -> dict[str, Any]:
        return {"iterations": self.iterations, "largest_residual": float(self.residuals.max())}


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right_sides: Tensor,
    damping: float | Tensor,
    *,
    precondition: Preconditioner | None = None,
    tolerance: float = 1e-4,
    most_iterations: int = 200,
) -> Solution:
    """(A + diag(damping)) x = b for every row b of `right_sides` (K, P) at once (Hestenes & Stiefel
    1952): one product with A for all rows each iteration; a row that has converged stays."""
    rows = torch.zeros_like(right_sides)
    residual = right_sides.clone()
    conditioned = residual if precondition is None else precondition(residual)
    direction = conditioned.clone()
    inner = (residual * conditioned).sum(1)
    norms = right_sides.norm(dim=1).clamp_min(1e-30)
    iterations = 0
    while iterations < most_iterations:
        active = residual.norm(dim=1) > tolerance * norms
        if not active.any():
            break
        places = active.nonzero()[:, 0]
        own = direction[places]
        applied = product(own) + own * damping
        step = inner[places] / (own * applied).sum(1).clamp_min(1e-300)
        rows[places] += step[:, None] * own
        residual[places] -= step[:, None] * applied
        left = residual[places]
        conditioned = left if precondition is None else precondition(left)
        new_inner = (left * conditioned).sum(1)
        direction[places] = conditioned + (new_inner / inner[places])[:, None] * own
        inner[places] = new_inner
        iterations += 1
    return Solution(rows, residual.norm(dim=1) / norms, iterations)
