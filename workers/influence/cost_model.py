"""What each method would cost at a size that no machine at hand can measure: floating-point
operations, bytes and accelerator-hours from counts alone. The assumptions are in
docs/operations-cost.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workers.influence.projection_structured import OVERSAMPLING, shared_out

LLAMA_7B = 32 * (4 * [(4_096, 4_096)] + 2 * [(11_008, 4_096)] + [(4_096, 11_008)])
"""(outputs, inputs) of each matrix of a transformer of that size, without its token tables."""


@dataclass(frozen=True)
class Size:
    """A model, its training set and what is asked of them. One training run is one epoch."""

    parameters: float = 7e9
    examples: float = 1e8
    tokens: float = 512
    """Of an example, padding left out."""
    matrices: Sequence[tuple[int, int]] = tuple(LLAMA_7B)
    behaviours: int = 20
    batch_size: int = 1_024
    dimension: int = 8_192
    """k of the projected gradients."""
    sample: float = 1e6
    """Examples from which curvature is estimated."""
    iterations: int = 100
    """Of conjugate gradients."""
    checkpoints: int = 12

    @property
    def forward(self) -> float:
        """Operations of one forward pass over all examples: 2 for each parameter and token."""
        return 2 * self.parameters * self.tokens * self.examples

    @property
    def training_run(self) -> float:
        """A backward pass costs two forward passes (Kaplan et al. 2020)."""
        return 3 * self.forward

    @property
    def steps(self) -> float:
        return math.ceil(self.examples / self.batch_size)


@dataclass(frozen=True)
class Accelerator:
    """bfloat16 operations a second that a device could do, and the share that it does."""

    peak: float = 989e12
    utilisation: float = 0.4

    def hours(self, operations: float) -> float:
        return operations / (self.peak * self.utilisation) / 3600


@dataclass(frozen=True)
class MethodCost:
    """For one seed."""

    method: str
    operations: float
    """For the first behaviours, all of `Size.behaviours` together."""
    further_operations: float
    """For as many behaviours more, with everything kept that the method keeps."""
    kept_bytes: float
    """On disk between the two."""


def method_costs(size: Size) -> list[MethodCost]:
    """The cost of every method, cheapest questions first; see the page for each formula."""
    run, forward, behaviours = size.training_run, size.forward, size.behaviours
    products = run + behaviours * forward
    gradients = behaviours * run / size.examples
    sample = size.sample / size.examples
    projecting = projected_operations(size)
    solving = size.iterations * behaviours * 7 * forward * sample
    return [
        MethodCost("frozen features, head", forward, 0.0, 2 * hidden_width(size) * size.examples),
        MethodCost("gradient_dot", products + gradients, products + gradients, 0.0),
        MethodCost(
            "checkpoints",
            size.checkpoints * (products + gradients),
            size.checkpoints * (products + gradients),
            size.checkpoints * 12 * size.parameters,
        ),
        MethodCost(
            "projected",
            projecting + gradients + scoring_operations(size),
            gradients + scoring_operations(size),
            2 * size.dimension * size.examples + 8 * size.dimension**2,
        ),
        MethodCost(
            "ekfac",
            2 * run * sample + eigendecompositions(size) + products + gradients,
            products + gradients,
            4 * sum(out * out + inner * inner + out * inner for out, inner in size.matrices),
        ),
        MethodCost("curvature", solving + products, solving + products, 0.0),
        MethodCost(
            "replay",
            (2.1 + 0.47 * (behaviours - 1)) * run,
            (1.1 + 0.47 * (behaviours - 1)) * run,
            math.sqrt(size.steps) * 12 * size.parameters,
        ),
    ]


def projected_operations(size: Size) -> float:
    """One pass for the structured projection: forward, and for the loss and one draw of the targets
    a backward pass through activations alone, as costly as a forward one; the two small products at
    each matrix; and the curvature of order k."""
    shares = shared_out(size.dimension, [out * inner for out, inner in size.matrices])
    each_token = 0.0
    for (out, inner), share in zip(size.matrices, shares, strict=True):
        side = min(math.isqrt(OVERSAMPLING * share), out, inner)
        each_token += 2 * 2 * side * (out + inner + side)
    small = each_token * size.tokens * size.examples
    return 3 * size.forward + small + 2 * size.examples * size.dimension**2


def scoring_operations(size: Size) -> float:
    """Eigenvectors of order k once, and a product with every kept row for each behaviour."""
    return 10 * size.dimension**3 + 2 * size.behaviours * size.examples * size.dimension


def eigendecompositions(size: Size) -> float:
    """Of both Kronecker factors of every matrix, 10 d³ each."""
    return float(sum(10 * (out**3 + inner**3) for out, inner in size.matrices))


def hidden_width(size: Size) -> int:
    return min(min(matrix) for matrix in size.matrices)


def markdown_table(size: Size, accelerator: Accelerator) -> str:
    """The table of the page: a line for one training run, and one for each method."""
    hours = accelerator.hours
    lines = [
        "| for one seed | FLOPs | GPU-hours | training runs | "
        f"{size.behaviours} further behaviours, GPU-hours | kept on disk |",
        "|---|---:|---:|---:|---:|---:|",
        f"| one training run | {size.training_run:.1e} | {hours(size.training_run):,.0f} | 1 | | |",
    ]
    for one in method_costs(size):
        kept = "" if not one.kept_bytes else f"{one.kept_bytes / 1e9:,.0f} GB"
        lines.append(
            f"| {one.method} | {one.operations:.1e} | {hours(one.operations):,.0f} | "
            f"{one.operations / size.training_run:.2g} | {hours(one.further_operations):,.1f} | "
            f"{kept} |"
        )
    return "\n".join(lines)
