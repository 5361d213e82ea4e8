"""Functions of a symmetric matrix that only multiplies, applied to vectors by Lanczos' iteration
(Lanczos 1950; Saad 1992, for the exponential)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]
"""On eigenvalues of any shape."""
CHECKED_EVERY = 5


def lanczos(
    product: Callable[[Tensor], Tensor],
    vectors: Tensor,
    functions: Sequence[Function],
    *,
    tolerance: float = 1e-3,
    most_iterations: int = 100,
) -> tuple[list[Tensor], int]:
    """f(A) v for each f and each row v of `vectors` (K, P), and the iterations it took.

    Each row has its own Krylov space, kept orthogonal in full; all share each product with A. It
    ends when the last coordinate of every f(T) e₁ is below `tolerance` of its length. Memory:
    K · P numbers an iteration.
    """
    lengths = vectors.norm(dim=1)
    limit = min(most_iterations, vectors.shape[1])
    basis = vectors.new_empty(limit, *vectors.shape)
    basis[0] = vectors / lengths.clamp_min(1e-30)[:, None]
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for count in range(1, limit + 1):
        known = basis[:count]
        applied = product(known[-1])
        diagonal.append((applied * known[-1]).sum(1))
        for _ in range(2):  # twice is enough (Giraud et al. 2005)
            shares = torch.einsum("mkp,kp->mk", known, applied)
            applied = applied - torch.einsum("mk,mkp->kp", shares, known)
        size = applied.norm(dim=1)
        goes_on = size > 1e-6 * torch.stack(diagonal).abs().amax(0) + 1e-30
        is_last = count == limit or not goes_on.any()
        if is_last or count % CHECKED_EVERY == 0:
            found = [_first_column(diagonal, beside, function) for function in functions]
            errors = [one[:, -1].abs() / one.norm(dim=1) for one in found]
            if is_last or max(float(one.max()) for one in errors) <= tolerance:
                break
        # A row whose space is exhausted goes on with zeros.
        beside.append(torch.where(goes_on, size, 0.0))
        basis[count] = torch.where(goes_on[:, None], applied / size.clamp_min(1e-30)[:, None], 0.0)
    results = [torch.einsum("km,mkp->kp", one.to(vectors.dtype), known) for one in found]
    return [one * lengths[:, None] for one in results], count


def _first_column(
    diagonal: Sequence[Tensor], beside: Sequence[Tensor], function: Function
) -> Tensor:
    """(K, m) f(T) e₁ of the tridiagonal matrices T (K, m, m)."""
    matrix = torch.diag_embed(torch.stack([*diagonal], 1).double())
    if beside:
        off = torch.diag_embed(torch.stack([*beside], 1).double(), offset=1)
        matrix = matrix + off + off.mT
    values, vectors = torch.linalg.eigh(matrix)
    inner = function(values.clamp_min(0)) * vectors[:, 0]
    column: Tensor = (vectors @ inner[..., None])[..., 0]
    return column
