"""The generalised Gauss–Newton matrix of a network in a Kronecker-factored eigenbasis (EK-FAC:
George et al. 2018, building on Martens & Grosse 2015; Grosse et al. 2023, section 3.1).

For a matrix W with inputs a_t and output gradients g_t the curvature is close to A ⊗ S with
A = Σ a aᵀ and S = Σ g gᵀ. Its eigenvectors are kept; its eigenvalues are replaced by the exact
second moments of each example's gradient along them. Gradients are those of the model's own
labels, over all classes where there are few, else drawn by a seed, so that their second moments
are the Gauss–Newton matrix of the loss and not an empirical Fisher matrix. Where a matrix is used
several times the factors are the partial traces of the sum of its uses' Kronecker products.

Cost: two forward passes and as many backward passes as there are classes (two with drawn labels),
and an eigendecomposition of each factor. What that leaves out between matrices is told, along a few
directions, by `workers.influence.kronecker_scales`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import functional_call, vjp, vmap

from workers.influence.coverage import Coverage, LeftOutParameter
from workers.influence.kronecker_blocks import KroneckerBlock
from workers.influence.kronecker_passes import (
    CHECKED_EXAMPLES,
    MOST_EXACT_CLASSES,
    ModelLabels,
    Passes,
    by_weight,
)
from workers.influence.kronecker_uses import Recorded, record_uses, vector_gradients
from workers.influence.linearised import CHUNK_BYTES, Linearised

LARGEST_SIDE = 2_000
"""Of a factor that is still decomposed; a longer side keeps its own coordinates."""


@dataclass(frozen=True)
class Kronecker:
    """M = D^½ H D^½ with H (P, P) the Gauss–Newton matrix of F(θ) and D the metric (1 unless
    given), block by block in its eigenbasis; diagonal for the parameters outside blocks."""

    size: int
    blocks: tuple[KroneckerBlock, ...]
    places: Tensor
    """(P',) in θ of the parameters outside blocks."""
    diagonal: Tensor
    """(P',) their M."""
    coverage: Coverage
    root_metric: Tensor | None = None
    """(P,) D^½ as used: for each matrix the nearest product of a row and a column."""
    passes: Passes | None = None
    """What it was made of."""

    def apply(self, vectors: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """f(M) v for each row of `vectors` (K, P), with f given on eigenvalues of any shape, and
        for each row apart where it adds a first dimension K."""
        found = torch.empty_like(vectors)
        for block in self.blocks:
            assert block.values is not None
            inside = block.into_basis(block.gather(vectors)) * function(block.values)
            block.scatter(block.out_of_basis(inside), found)
        found[:, self.places] = vectors[:, self.places] * function(self.diagonal)
        return found

    def solve(self, vectors: Tensor, damping: float) -> Tensor:
        """(M + damping I)⁻¹ v for each row of `vectors` (K, P)."""
        return self.apply(vectors, lambda values: 1 / (values + damping))

    def solve_in_parameters(self, vectors: Tensor, damping: float) -> Tensor:
        """(H + damping D⁻¹)⁻¹ v = D^½ (M + damping I)⁻¹ D^½ v for each row of `vectors` (K, P)."""
        if self.root_metric is None:
            return self.solve(vectors, damping)
        return self.solve(vectors * self.root_metric, damping) * self.root_metric

    @property
    def trace(self) -> float:
        """tr M, which the eigenvalue correction makes that of the Gauss–Newton matrix itself."""
        total = float(self.diagonal.sum())
        return total + sum(float(block.values.sum()) for block in self.blocks
                           if block.values is not None)  # fmt: skip


def fit_kronecker(at: Linearised, *, seed: int = 0, metric: Tensor | None = None) -> Kronecker:
    """The decomposition at a network's parameters, of all training examples with their weights.

    `metric` (P,) is D, above 0. Raises CoverageError when too few parameters lie in matrices.
    """
    blocks, coverage, vectors = plan_blocks(at)
    coverage.require()
    root = None if metric is None else metric.sqrt()
    if root is not None:
        blocks = [block.with_scale(root) for block in blocks]
        root = _used_root(blocks, root)
    passes = Passes(at, ModelLabels(at, seed), blocks, vectors)
    blocks = _with_bases(blocks, passes)
    blocks, known = _with_values(blocks, passes, at.denominator)
    others = [one.name for one in coverage.left_out if one.name not in vectors]
    places, diagonal = _diagonal(at, passes.labels, others)
    slices = at.layout.slices
    places = torch.cat([places, *[torch.arange(len(at.parameters))[slices[one]] for one in known]])
    diagonal = torch.cat([diagonal, *known.values()])
    if root is not None:
        diagonal = diagonal * root[places].square()
    size = at.parameters.numel()
    return Kronecker(size, tuple(blocks), places, diagonal, coverage, root, passes)


def plan_blocks(at: Linearised) -> tuple[list[KroneckerBlock], Coverage, tuple[str, ...]]:
    """The matrices whose recorded uses account for their whole gradient, checked on a few
    examples against plain differentiation; the report of what is left; and the vectors among that
    whose uses account for their gradient."""
    checked = torch.arange(min(CHECKED_EXAMPLES, len(at.train)))
    batch = at.train.select(checked)
    probe: list[Tensor] = []

    def cotangents(outputs: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        probe.append(torch.randn(outputs.shape[1:], generator=generator).to(outputs))
        return probe[0].expand_as(outputs)[None]

    recorded = record_uses(at, batch.inputs, cotangents, vectors=True)
    uses = by_weight([one for one in recorded if not one.use.is_vector])
    vectors: list[str] = []
    blocks: list[KroneckerBlock] = []
    accounted: set[str] = set()
    if uses:
        value = at.per_example(lambda outputs, _: (outputs[0] * probe[0]).sum())
        expected = value(batch)
        slices = at.layout.slices
        sizes = dict(zip(at.layout.names, at.layout.shapes, strict=True))
        for name, own in uses.items():
            block = _planned_block(name, own, slices, sizes[name])
            found = block.gradients(own)[0]
            wanted = block.gather(expected)
            height, width = block.shape
            if not _agree(found[:, :height, :width], wanted[:, :height, :width]):
                continue
            if block.bias is not None and not _agree(found, wanted):
                block = replace(block, bias=None, bias_slice=None)
            blocks.append(block)
            accounted |= {one for one in (block.weight, block.bias) if one is not None}
        for name, found in vector_gradients(recorded).items():
            if name not in accounted and _agree(found[0], expected[:, slices[name]]):
                vectors.append(name)
    left = tuple(
        LeftOutParameter(name, size, _reason(name, shape, uses))
        for name, size, shape in zip(
            at.layout.names, at.layout.sizes, at.layout.shapes, strict=True
        )
        if name not in accounted
    )
    return blocks, Coverage(at.parameters.numel(), left), tuple(vectors)


def _planned_block(
    name: str, uses: Sequence[Recorded], slices: dict[str, slice], shape: tuple[int, ...]
) -> KroneckerBlock:
    biases = {one.use.bias for one in uses}
    bias = biases.pop() if len(biases) == 1 else None
    return KroneckerBlock(
        name,
        bias,
        slices[name],
        None if bias is None else slices[bias],
        (shape[0], torch.Size(shape[1:]).numel()),
        bias_is_row=uses[0].use.inputs_are_rows,
    )


def _agree(found: Tensor, wanted: Tensor) -> bool:
    tolerance = 1e-3 if wanted.dtype == torch.float32 else 1e-8
    return bool((found - wanted).norm() <= tolerance * wanted.norm())


def _reason(name: str, shape: tuple[int, ...], uses: dict[str, list[Recorded]]) -> str:
    if name in uses:
        return "also used otherwise than as a matrix"
    return "a vector" if len(shape) < 2 else "not used as a whole matrix"


def _used_root(blocks: Sequence[KroneckerBlock], root: Tensor) -> Tensor:
    """`root` (P,) with every block's part replaced by its product of a row and a column."""
    used = root[None].clone()
    for block in blocks:
        block.scatter(torch.as_tensor(block.scale())[None], used)
    return used[0]


@dataclass
class _Factors:
    """Second moments of one use's two sides, and how many vectors they hold."""

    rows: Tensor
    columns: Tensor
    count: Tensor

    def __iadd__(self, other: _Factors) -> _Factors:
        self.rows += other.rows
        self.columns += other.columns
        self.count += other.count
        return self


def _with_bases(blocks: Sequence[KroneckerBlock], passes: Passes) -> list[KroneckerBlock]:
    collected: dict[str, list[_Factors]] = {}
    for weights, uses in passes:
        for block in blocks:
            found = [_factors(block, one, weights) for one in uses[block.weight]]
            known = collected.setdefault(block.weight, found)
            if known is not found:
                for sum_of, one in zip(known, found, strict=True):
                    sum_of += one
    result = []
    for block in blocks:
        rows: Tensor | float = 0.0
        columns: Tensor | float = 0.0
        for one in collected[block.weight]:
            count = one.count.clamp_min(1e-30)
            rows = rows + one.rows * (_trace(one.columns) / count)
            columns = columns + one.columns * (_trace(one.rows) / count)
        result.append(replace(block, row_basis=_basis(rows), column_basis=_basis(columns)))
    return result


def _factors(block: KroneckerBlock, recorded: Recorded, weights: Tensor) -> _Factors:
    """Only vectors through which a gradient flows count, so that padding does not."""
    rows, columns = block.sides(recorded)
    flows = (recorded.gradients != 0).any(3).any(0).to(weights.dtype) * weights[:, None]
    roots = flows.sqrt()[None, :, :, None]
    if rows.is_floating_point():
        first = _second_moment(rows * roots)
    else:
        first = weights.new_zeros(block.rows).index_add_(0, rows.flatten(), flows.flatten())
        if block.rows <= LARGEST_SIDE:
            first = torch.diag(first)
    return _Factors(first, _second_moment(columns * roots), flows.sum())


def _second_moment(vectors: Tensor) -> Tensor:
    """(I, I) Σ v vᵀ of vectors (..., I); its diagonal (I,) where the side is too long."""
    flat = vectors.flatten(0, -2)
    if flat.shape[1] > LARGEST_SIDE:
        return flat.square().sum(0)
    return flat.T @ flat


def _trace(moment: Tensor) -> Tensor:
    return moment.trace() if moment.ndim == 2 else moment.sum()


def _basis(moment: Tensor | float) -> Tensor | None:
    """Eigenvectors of a factor (I, I); None for one that is diagonal already."""
    assert isinstance(moment, Tensor)
    if moment.ndim == 1 or not (moment - torch.diag(moment.diagonal())).any():
        return None
    basis: Tensor = torch.linalg.eigh(moment.double())[1]
    return basis.to(moment.dtype)


def _with_values(
    blocks: Sequence[KroneckerBlock], passes: Passes, denominator: float
) -> tuple[list[KroneckerBlock], dict[str, Tensor]]:
    """The blocks with their eigenvalues, and diag H of each vector of the passes."""
    values: dict[str, Tensor] = {}
    for weights, uses in passes:
        found = {block.weight: block.squares(uses[block.weight], weights) for block in blocks}
        if passes.vectors:
            rows = vector_gradients([one for own in uses.values() for one in own])
            for name in passes.vectors:
                found[name] = weights @ rows[name].square().sum(0)
        for name, own in found.items():
            values[name] = values.get(name, 0.0) + own / denominator
    known = {name: values[name] for name in passes.vectors}
    return [replace(block, values=values[block.weight]) for block in blocks], known


def _diagonal(at: Linearised, labels: ModelLabels, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The places in θ of the parameters called `names`, and diag H there, exactly."""
    slices = at.layout.slices
    places = torch.cat(
        [torch.arange(slices[name].start, slices[name].stop) for name in names] or [torch.arange(0)]
    )
    total = at.parameters.new_zeros(len(places))
    if not names:
        return places, total
    parameters = at.layout.unflatten(at.parameters)
    part = {name: parameters[name] for name in names}

    def single(inputs: dict[str, Tensor], own: Tensor) -> Tensor:
        alone = {name: tensor[None] for name, tensor in inputs.items()}

        def outputs(changed: dict[str, Tensor]) -> Tensor:
            found: Tensor = functional_call(at.network, {**parameters, **changed}, (), alone)
            return found[0]

        pulled: dict[str, Tensor] = vmap(vjp(outputs, part)[1])(own)[0]
        squares = [pulled[name].square().sum(0).flatten() for name in names]
        return torch.cat(squares)

    each = total.nbytes * MOST_EXACT_CLASSES
    for indices in torch.arange(len(at.train)).split(max(1, min(256, CHUNK_BYTES // each))):
        batch = at.train.select(indices)
        with torch.no_grad():
            cotangents = labels.of(indices)(at.outputs(batch.inputs)).movedim(0, 1)
        squares = vmap(single)(batch.inputs, cotangents)
        total += at.weights[indices].clamp_min(0) @ squares.detach()
    return places, total / at.denominator
