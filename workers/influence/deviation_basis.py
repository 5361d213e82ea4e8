"""The coordinates in which a deviation is followed, and a recorded state seen in them.

A deviation δ of the parameters is kept as z with δ = √c V z: c (P,) is how far the run moves each
parameter for a constant gradient of 1, and the columns of V (P, r) are the directions in which the
scaled outputs vary most, with those of the behaviours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jacrev, vmap

from workers.influence.linearised import Linearised, curvature_product
from workers.training.examples import EncodedExamples
from workers.training.parameters import ParameterLayout
from workers.training.recipe import Recipe

DIRECTIONS = 96
SAMPLED_ROWS = 1024
"""Of the curvature's factors, of which the main directions are found."""
SAMPLE_BYTES = 256 << 20
GROUPS = 4096
"""Of parameters whose second moments are followed together."""
CHUNK_BYTES = 64 << 20


class LinearOutputs(nn.Module):
    """Outputs that are linear in the `deviation` (r,), whatever the inputs are."""

    def __init__(self, features: Tensor, outputs: Tensor) -> None:
        super().__init__()
        self.deviation = nn.Parameter(features.new_zeros(features.shape[-1]))
        self.features, self.outputs = features, outputs

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.outputs + self.features @ self.deviation


@dataclass(frozen=True)
class Basis:
    """c and V of the module."""

    reach: Tensor
    """(P,) c."""
    directions: Tensor
    """(P, r) V, orthonormal columns."""
    order: Tensor
    """(P,) parameters so that neighbours have like gradients."""

    @property
    def size(self) -> int:
        """r."""
        return self.directions.shape[1]

    @property
    def reading(self) -> Tensor:
        """(P, r) from a gradient of an output to its derivative in z."""
        return self.reach.sqrt()[:, None] * self.directions

    def pushing(self, metric: Tensor) -> Tensor:
        """(P, r) from a gradient to the force on z, with the steps of `metric` (P,)."""
        return (metric / self.reach.sqrt())[:, None] * self.directions

    def spread(self, pulled: Tensor) -> Tensor:
        """(P, E) scaled gradients √c ∇ from their coordinates (r, E)."""
        return tall_product(self.directions, pulled)

    def pool(self, values: Tensor) -> Tensor:
        """(G, ...) sums of (P, ...) over groups of neighbouring parameters."""
        values = values[self.order]
        length = group_length(len(values))
        missing = -len(values) % length
        if missing:
            values = torch.cat([values, values.new_zeros(missing, *values.shape[1:])])
        return values.view(-1, length, *values.shape[1:]).sum(1)

    def turned(self, stage: Stage, shrunk: Tensor, change: Tensor) -> Tensor:
        """(r, E) the force that comes of changing the steps of each group by a factor
        1 + shrunk (G, E), where the scaled gradient has moved by `change` (P, E)."""
        length = group_length(len(self.reach))
        factor = torch.empty_like(change)
        factor[self.order] = shrunk.repeat_interleave(length, 0)[: len(change)]
        gradient = stage.gradient[:, None] + change
        return transposed_product(
            self.directions, stage.relative_metric[:, None] * factor * gradient
        )

    def read(self, at: Linearised, examples: EncodedExamples) -> tuple[Tensor, Tensor]:
        """(M, C, r) derivatives of the outputs in z, and the outputs (M, C)."""
        outputs = at.outputs(examples.to_dtype(at.parameters.dtype).inputs).detach()
        reading = self.reading
        rows = [jacobian @ reading for _, jacobian in jacobians(at, examples)]
        return torch.cat(rows), outputs


@dataclass(frozen=True)
class Stage:
    """The recorded network at one state."""

    reads: Tensor
    """(N·C, r) derivatives of the outputs in z."""
    pushes: Tensor
    """(N·C, r) force on z per unit of an output's residual."""
    outputs: Tensor
    """(N, C)."""
    residuals: Tensor
    """(N, C) ∂ℓᵢ/∂outputs."""
    gradient: Tensor
    """(P,) √c g, with g = Σ ∇ℓᵢ / n."""
    squares: Tensor
    """(N, G) c (∇ℓᵢ)² pooled."""
    total_squares: Tensor
    """(G,) their sum."""
    curvature: Tensor
    """(r, r) derivative of the force in z."""
    plain_curvature: Tensor
    """(r, r) derivative of the scaled gradient in z."""
    turn: Tensor
    """(r, G) what each group has in the force of g."""
    relative_metric: Tensor
    """(P,) steps at this state over c."""
    above_epsilon: Tensor
    """(G,) v̂ / (v̂ + ε)."""

    def read(self, z: Tensor) -> Tensor:
        """(N, C, E) changes of the outputs by deviations (r, E)."""
        return tall_product(self.reads, z).view(*self.outputs.shape, -1)

    def push(self, residuals: Tensor) -> Tensor:
        """(r, E) summed force of residuals (N, C, E)."""
        return transposed_product(self.pushes, residuals.flatten(0, 1))

    def pull(self, residuals: Tensor) -> Tensor:
        """(r, E) summed scaled gradient of residuals (N, C, E), in coordinates."""
        return transposed_product(self.reads, residuals.flatten(0, 1))


def tall_product(tall: Tensor, narrow: Tensor) -> Tensor:
    """tall (M, r) by narrow (r, E), several times as fast in this order for few columns."""
    return (narrow.T @ tall.T).T


def transposed_product(tall: Tensor, narrow: Tensor) -> Tensor:
    """tallᵀ narrow for (M, r) and (M, E), as `tall_product` is."""
    return (narrow.T @ tall).T


def group_length(number_of_parameters: int) -> int:
    """How many neighbouring parameters share a group; layers are laid out unit by unit."""
    return max(1, -(-number_of_parameters // GROUPS))


def residuals(loss: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """∂ℓᵢ/∂outputs of outputs (N, C, ...)."""
    if loss == "squared_error":
        return 2 * (outputs - targets.view(-1, *[1] * (outputs.dim() - 1)))
    found = outputs.softmax(1)
    found[torch.arange(len(found)), targets] -= 1
    return found


def jacobians(at: Linearised, examples: EncodedExamples) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices and (B, C, P) Jacobians of the outputs, in pieces of bounded size."""
    examples = examples.to_dtype(at.parameters.dtype)

    def single(flat: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return at.outputs({name: tensor[None] for name, tensor in inputs.items()}, flat)[0]

    batched = vmap(jacrev(single), in_dims=(None, 0))
    columns = at.outputs(examples.select(torch.arange(1)).inputs).shape[1]
    length = max(1, CHUNK_BYTES // (columns * at.parameters.nbytes))
    for indices in torch.arange(len(examples)).split(length):
        yield indices, batched(at.parameters, examples.select(indices).inputs).detach()


def basis_of(points: Sequence[Linearised], reach: Tensor, behaviours: Tensor) -> Basis:
    """The main directions of a sample of curvature rows from all `points`, with the gradients of
    the behaviours (K, P)."""
    generator = torch.Generator().manual_seed(0)
    scale = reach.sqrt()
    wanted = min(SAMPLED_ROWS, SAMPLE_BYTES // reach.nbytes) // len(points)
    sampled = []
    for at in points:
        chosen = torch.randperm(len(at.train), generator=generator)[: max(1, wanted)]
        roots = at.square_root_jacobians(at.train.select(chosen))
        kept = torch.randperm(len(roots.flatten(0, 1)), generator=generator)[: max(1, wanted)]
        sampled.append(roots.flatten(0, 1)[kept] * scale)
    rows = torch.cat(sampled)
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    size = min(DIRECTIONS, int((values > values[-1] * 1e-10).sum()))
    main = rows.T @ vectors[:, -size:]
    extra = (behaviours * scale).T
    extra = extra / extra.norm(dim=0).clamp_min(1e-30)
    main = main / main.norm(dim=0).clamp_min(1e-30)
    directions = torch.linalg.qr(torch.cat([main, extra], 1))[0]
    return Basis(
        reach, directions, _order(points[0].layout, rows.square().mean(0) / reach.square())
    )


def _order(layout: ParameterLayout, squares: Tensor) -> Tensor:
    """(P,) parameters, each matrix by rows or by columns: along which `squares` (P,) differ less.

    An embedding's row is seen by the same examples, and so is what a feature feeds in a dense
    layer.
    """
    places = layout.unflatten(torch.arange(len(squares)))
    logs = layout.unflatten((squares + squares.mean() * 1e-6 + 1e-30).log())
    ordered = []
    for name, own in places.items():
        matrix, log = own.reshape(len(own), -1), logs[name].reshape(len(own), -1)
        by_columns = log.var(0, correction=0).mean() < log.var(1, correction=0).mean()
        ordered.append((matrix.T if by_columns else matrix).reshape(-1))
    return torch.cat(ordered)


def stage_of(at: Linearised, basis: Basis, metric: Tensor, recipe: Recipe) -> Stage:
    """The recorded state `at`, whose optimizer's steps are `metric` (P,) per unit of gradient."""
    reading, pushing = basis.reading, basis.pushing(metric)
    both = torch.cat([reading, pushing], 1)
    outputs = at.outputs(at.train.inputs).detach()
    errors = residuals(at.problem.loss, outputs, at.train.targets)
    rows, squares = [], []
    gradient = torch.zeros_like(metric)
    for indices, jacobian in jacobians(at, at.train):
        rows.append(jacobian.flatten(0, 1) @ both)
        own = torch.einsum("nc,ncp->np", errors[indices], jacobian)
        gradient += own.sum(0)
        squares.append(basis.pool((own.square_() * basis.reach).T).T)
    pooled = torch.cat(squares)
    reads, pushes = torch.cat(rows).split(basis.size, 1)
    gradient /= at.denominator
    columns = reads.view(*outputs.shape, -1).movedim(2, 0)
    products = curvature_product(at.problem.loss, outputs, at.train.targets, columns)
    curved = products.movedim(0, 2).flatten(0, 1)
    turn = basis.pool(pushing * gradient[:, None]).T
    above = 1 - recipe.epsilon * metric.square() if recipe.optimizer == "adamw" else metric * 0
    weight = basis.reach / metric.square()
    return Stage(
        reads.contiguous(),
        pushes.contiguous(),
        outputs,
        errors,
        gradient * basis.reach.sqrt(),
        pooled,
        pooled.sum(0),
        pushes.T @ curved / at.denominator,
        reads.T @ curved / at.denominator,
        turn,
        metric / basis.reach,
        (basis.pool((weight * above)[:, None]) / basis.pool(weight[:, None]))[:, 0],
    )
