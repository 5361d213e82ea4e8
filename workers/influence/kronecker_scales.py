"""What blocks of curvature leave out, put back along the solutions.

Blocks leave out the curvature between matrices, which adds up along directions that all matrices
share, as gradients of behaviours are: H ≼ L B for L blocks B, and is often as much. Rescaling by
the exact curvature along the solution is as old as Kronecker factors (Martens & Grosse 2015,
section 6.4); here the scale may differ over the spectrum. Among all combinations of the damped
solutions at several scales s of the blocks,

    x = Σ_s c_s (s B + λI)⁻¹ g,    c = argmin ½ xᵀ(Ĥ + λI)x − gᵀx,

that is the one whose quadratic, with the curvature Ĥ of whole gradients, is least (Galerkin's
projection). Where B is Ĥ, x is the plain solution. Ĥ is of the same labels as B, from the same
recorded uses: no further passes through the network while these are kept. Parameters outside blocks
keep their diagonal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from workers.influence.kronecker import Kronecker
from workers.influence.kronecker_blocks import KroneckerBlock
from workers.influence.kronecker_uses import Recorded

SCALES = (0.125, 1.0, 8.0, 64.0, 512.0)
"""Chosen with other splits, networks and seeds than any benchmark's; see docs/methods/ekfac.md."""
BYTES = 512 << 20
"""Of one block's candidates held at a time."""


def solve_over_scales(
    matrix: Kronecker,
    vectors: Tensor,
    dampings: Sequence[float],
    scales: Sequence[float] = SCALES,
) -> Tensor:
    """(D, K, P) D^½ x for D^½ g of each row of `vectors` (K, P), at each of D dampings."""
    root = 1.0 if matrix.root_metric is None else matrix.root_metric
    rows = vectors * root
    multiples = rows.new_tensor(scales)

    def candidates(values: Tensor, damping: float) -> Tensor:
        """(S, *values.shape) 1 / (s B + λ) on eigenvalues."""
        shape = (-1,) + (1,) * values.ndim
        return 1 / (multiples.reshape(shape) * values + damping)

    quadratic, linear = _quadratics(matrix, rows, dampings, candidates)
    coefficients = _least(quadratic, linear, 10 * torch.finfo(rows.dtype).eps).to(rows)

    def combined(place: int) -> Tensor:
        return matrix.apply(
            rows,
            lambda values: torch.einsum(
                "ks,s...->k...", coefficients[place], candidates(values, dampings[place])
            ),
        )

    return torch.stack([combined(place) for place in range(len(dampings))]) * root


Candidates = Callable[[Tensor, float], Tensor]
"""From eigenvalues and λ to the S candidates' factors (S, ...)."""


def _quadratics(
    matrix: Kronecker, rows: Tensor, dampings: Sequence[float], candidates: Candidates
) -> tuple[Tensor, Tensor]:
    """(D, K, S, S) xᵀ(Ĥ + λI)x' and (D, K, S) gᵀx of the candidates x, x' of each row g."""
    assert matrix.passes is not None
    plain = [_plain_part(matrix, rows, damping, candidates) for damping in dampings]
    quadratic = torch.stack([one for one, _ in plain])
    for weights, uses in matrix.passes:
        for place, damping in enumerate(dampings):
            along = torch.zeros(())
            for block in matrix.blocks:
                along = along + _along(block, uses[block.weight], rows, damping, candidates)
            weighted = (along * weights.sqrt()).flatten(2).double()
            quadratic[place] += weighted @ weighted.mT / matrix.passes.at.denominator
    return quadratic, torch.stack([one for _, one in plain])


def _along(
    block: KroneckerBlock,
    uses: Sequence[Recorded],
    rows: Tensor,
    damping: float,
    candidates: Candidates,
) -> Tensor:
    """(K, S, C', B) the block's part of each candidate with the gradients of C' labels."""
    assert block.values is not None
    factors = candidates(block.values, damping)
    few = max(1, BYTES // factors.nbytes)
    parts = [
        block.products(uses, (inside[:, None] * factors).flatten(0, 1))
        for inside in block.into_basis(block.gather(rows)).split(few)
    ]
    found: Tensor = torch.cat(parts).unflatten(0, (len(rows), len(factors)))
    return found


def _plain_part(
    matrix: Kronecker, rows: Tensor, damping: float, candidates: Candidates
) -> tuple[Tensor, Tensor]:
    """What needs no gradients: (K, S, S) the damping, and the diagonal of parameters outside
    blocks; (K, S) gᵀx."""
    outside = rows[:, matrix.places]
    factors = candidates(matrix.diagonal, damping)
    pairs = [(outside.square().double(), factors, matrix.diagonal + damping)]
    for block in matrix.blocks:
        assert block.values is not None
        inside = block.into_basis(block.gather(rows)).flatten(1)
        values = block.values.flatten()
        pairs.append((inside.square().double(), candidates(values, damping), torch.tensor(damping)))
    number = len(factors)
    quadratic = outside.new_zeros(len(rows), number, number, dtype=torch.float64)
    linear = quadratic[:, 0].clone()
    for squares, factors, weight in pairs:
        linear += squares @ factors.double().T
        for place, one in enumerate(factors):
            quadratic[:, place] += squares @ (one * factors * weight).double().T
    return quadratic, linear


def _least(quadratic: Tensor, linear: Tensor, tolerance: float) -> Tensor:
    """(..., S) the c of least ½ cᵀQc − lᵀc, without directions in which candidates are one."""
    size = quadratic.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).rsqrt()
    values, vectors = torch.linalg.eigh(quadratic * size[..., :, None] * size[..., None, :])
    kept = values > tolerance * values[..., -1:]
    inverse = torch.where(kept, 1 / values.clamp_min(1e-300), 0.0)
    inside = (vectors.mT @ (linear * size)[..., None])[..., 0] * inverse
    found: Tensor = (vectors @ inside[..., None])[..., 0] * size
    return found
