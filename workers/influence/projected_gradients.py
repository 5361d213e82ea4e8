"""What a pass over the training examples projects: each one's loss gradient, and rows whose squares
add up to its curvature."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from workers.influence.linearised import Linearised, number_of_square_roots, square_root_curvature
from workers.influence.projection import Projection
from workers.training.examples import EncodedExamples
from workers.training.losses import IGNORED_TOKEN, LOSSES

MOST_SQUARE_ROOTS = 12
"""Rows of an example's exact curvature; beyond that its targets are sampled."""
MOST_DRAWS = 8


@dataclass(frozen=True)
class ProjectedBatch:
    """B examples, and where their targets are to be sampled uniform numbers (B, D, ...)."""

    examples: EncodedExamples
    draws: Tensor | None


def number_of_outputs(at: Linearised) -> int:
    """C, the columns of the network's outputs."""
    with torch.no_grad():
        return int(at.outputs(at.train.select(torch.arange(1)).inputs).shape[-1])


def is_sampled(at: Linearised) -> bool:
    """Whether the curvature is estimated from sampled targets."""
    loss = at.problem.loss
    return loss == "next_token" or (
        number_of_square_roots(loss, number_of_outputs(at)) > MOST_SQUARE_ROOTS
    )


def draws_each(examples: int, dimension: int) -> int:
    """How many times each example's targets are drawn: once where there are far more examples than
    dimensions, so that the sampled curvature has full rank with some to spare."""
    return max(1, min(MOST_DRAWS, -(-8 * dimension // examples)))


def draws_of_block(at: Linearised, seed: int, block: int, shape: tuple[int, int]) -> Tensor | None:
    """(n, D, ...) uniform numbers, D for each target of a block's n examples; the same however the
    block is split into batches. None where the curvature is exact."""
    if not is_sampled(at):
        return None
    generator = torch.Generator().manual_seed((seed * 1_000_003 + block) % 2**63)
    whole = (*shape, *at.train.targets.shape[1:])
    return torch.rand(whole, generator=generator, dtype=at.parameters.dtype)


def project_batch(
    at: Linearised, projection: Projection, batch: ProjectedBatch
) -> tuple[Tensor, Tensor]:
    """(B, k) the projected ∇ℓᵢ, and (C', B, k) projected rows whose squares add up, exactly or in
    expectation, to Jᵢᵀ Lᵢ Jᵢ."""
    loss, examples = at.problem.loss, batch.examples
    if batch.draws is None and number_of_square_roots(loss, number_of_outputs(at)) == 1:
        return _along_one_direction(at, projection, examples)

    def cotangents(outputs: Tensor) -> Tensor:
        own = loss_cotangents(loss, outputs, examples.targets)[None]
        if batch.draws is None:
            return torch.cat([own, square_root_curvature(loss, outputs).transpose(0, 1)])
        return torch.cat([own, sampled_cotangents(loss, outputs, examples.targets, batch.draws)])

    found = projection.pull(examples, cotangents)
    return found[0], found[1:]


def _along_one_direction(
    at: Linearised, projection: Projection, examples: EncodedExamples
) -> tuple[Tensor, Tensor]:
    """With one output that counts, the gradient and the curvature's row have one direction: one
    pass back gives both."""
    loss = at.problem.loss
    factors: list[Tensor] = []

    def cotangents(outputs: Tensor) -> Tensor:
        direction = torch.ones_like(outputs[0]) if loss == "squared_error" else _difference(outputs)
        gradient = loss_cotangents(loss, outputs, examples.targets)
        root = square_root_curvature(loss, outputs)[:, 0]
        factors.extend(side @ direction / direction.square().sum() for side in (gradient, root))
        return direction.expand(1, *outputs.shape)

    found = projection.pull(examples, cotangents)
    gradient, root = factors
    return found[0] * gradient[:, None], found * root[None, :, None]


def _difference(outputs: Tensor) -> Tensor:
    direction = torch.zeros_like(outputs[0])
    direction[0], direction[-1] = 1, -1
    return direction


def loss_cotangents(loss: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """(B, ...) ∂ℓᵢ/∂outputs."""
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        (found,) = torch.autograd.grad(LOSSES[loss](leaf, targets).sum(), leaf)
    return found


def sampled_cotangents(loss: str, outputs: Tensor, targets: Tensor, draws: Tensor) -> Tensor:
    """(D, B, ...) ∂ℓᵢ/∂outputs / √D at targets drawn from softmax(outputs) by uniform `draws`
    (B, D, ...).

    A next-token loss is a mean over T tokens, whose independent draws have a square with the
    expectation Σ Jₜᵀ Lₜ Jₜ / T², while its curvature is that sum over T: hence the factor √T.
    """
    cumulated = outputs.softmax(-1).cumsum(-1)
    found = []
    for uniform in draws.unbind(1):
        drawn = torch.searchsorted(cumulated, uniform[..., None].contiguous())[..., 0]
        drawn = drawn.clamp_max(outputs.shape[-1] - 1)
        if loss == "next_token":
            drawn = torch.where(targets != IGNORED_TOKEN, drawn, IGNORED_TOKEN)
        found.append(loss_cotangents(loss, outputs, drawn))
    rows: Tensor = torch.stack(found) / draws.shape[1] ** 0.5
    if loss == "next_token":
        lengths = (targets != IGNORED_TOKEN).sum(1).clamp_min(1).to(outputs.dtype)
        rows *= lengths.sqrt()[:, None, None]
    return rows
