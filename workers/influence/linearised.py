"""A network held at fixed parameters: outputs, per-example gradients and the curvature of the loss.

The objective of training is F(θ) = Σ wᵢ ℓᵢ(θ) / n with n = batch_size · steps per epoch (N, when
the batch size divides it). Its generalised Gauss–Newton matrix is H = Σ wᵢ Jᵢᵀ Lᵢ Jᵢ / n, with Jᵢ
the Jacobian of the outputs and Lᵢ the second derivative of the loss in them (Schraudolph 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vjp, vmap

from workers.influence.behaviours import Behaviour, behaviour_gradients
from workers.training.examples import EncodedExamples
from workers.training.losses import IGNORED_TOKEN, LOSSES
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, full_weights

CHUNK_BYTES = 64 << 20
"""Of per-example vectors held at a time."""


class Linearised:
    """The network of a problem and seed at θ `parameters` (P,), in evaluation mode."""

    def __init__(
        self,
        problem: TrainingProblem,
        seed: int,
        parameters: Tensor,
        weights: Tensor | None = None,
    ) -> None:
        self.problem = problem
        self.network = problem.build_network(seed).eval()
        self.layout = ParameterLayout.of(self.network)
        self.parameters = parameters.detach()
        self.weights = full_weights(problem, weights)
        """(N,) of the training examples."""

    @classmethod
    def of(cls, run: TrainingRun) -> Linearised:
        """At the end of `run`."""
        return cls(run.problem, run.seed, run.parameters, run.weights)

    @property
    def train(self) -> EncodedExamples:
        return self.problem.examples

    @property
    def denominator(self) -> float:
        """n of the objective."""
        return float(self.problem.recipe.batch_size * self.problem.steps_per_epoch)

    def behaviour_gradients(self, behaviours: Sequence[Behaviour]) -> Tensor:
        """(K, P)."""
        return behaviour_gradients(behaviours, self.network, self.layout, self.parameters)

    def outputs(self, inputs: dict[str, Tensor], parameters: Tensor | None = None) -> Tensor:
        """The network's outputs on `inputs`, differentiable in `parameters` (θ when None)."""
        flat = self.parameters if parameters is None else parameters
        found: Tensor = functional_call(self.network, self.layout.unflatten(flat), (), inputs)
        return found

    def chunks(self, vectors_each: int = 1) -> Iterator[Tensor]:
        """Training indices in pieces whose per-example vectors, `vectors_each` of length P for
        each example, stay below CHUNK_BYTES."""
        size = vectors_each * self.parameters.nbytes
        length = max(1, CHUNK_BYTES // max(1, size))
        yield from torch.arange(len(self.train)).split(length)

    def per_example(self, value: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        """From a batch to (B, P) gradients of value(outputs (1, ...), targets (1, ...)) -> ()."""

        def single(flat: Tensor, inputs: dict[str, Tensor], target: Tensor) -> Tensor:
            alone = {name: tensor[None] for name, tensor in inputs.items()}
            return value(self.outputs(alone, flat), target[None])

        batched = vmap(grad(single), in_dims=(None, 0, 0))

        def gradients(batch: EncodedExamples) -> Tensor:
            found: Tensor = batched(self.parameters, batch.inputs, batch.targets)
            return found.detach()

        return gradients

    def loss_gradients(self, batch: EncodedExamples) -> Tensor:
        """(B, P) ∇ℓᵢ of each example, unweighted."""
        loss = LOSSES[self.problem.loss]
        return self.per_example(lambda outputs, targets: loss(outputs, targets)[0])(batch)

    def square_root_jacobians(self, batch: EncodedExamples) -> Tensor:
        """(B, C', P) rows Rᵢ with RᵢᵀRᵢ = Jᵢᵀ Lᵢ Jᵢ; C' = C - 1 for C classes, 1 for regression.

        Raises ValueError for next-token losses, whose outputs are too many.
        """
        with torch.no_grad():
            outputs = self.outputs(batch.inputs)
            columns = square_root_curvature(self.problem.loss, outputs)

        def single(inputs: dict[str, Tensor], own: Tensor) -> Tensor:
            alone = {name: tensor[None] for name, tensor in inputs.items()}
            pull = vjp(lambda flat: self.outputs(alone, flat)[0], self.parameters)[1]
            found: Tensor = vmap(pull)(own)[0]
            return found

        rows: Tensor = vmap(single)(batch.inputs, columns)
        return rows.detach()

    def loss_products(self, vectors: Tensor) -> Tensor:
        """(K, N) the products of `vectors` (K, P) with every training example's ∇ℓᵢ."""
        products = vectors.new_empty(len(vectors), len(self.train))
        for indices in self.chunks():
            gradients = self.loss_gradients(self.train.select(indices))
            products[:, indices] = vectors @ gradients.T
        return products


def number_of_square_roots(loss: str, outputs: int) -> int:
    """C', the rows of an example in `square_root_jacobians`."""
    return max(1, outputs - 1) if loss == "cross_entropy" else 1


def square_root_curvature(loss: str, outputs: Tensor) -> Tensor:
    """(B, C', C) the rows of a factor of ∂²ℓ/∂outputs² (B, C, C): SᵀS of each example.

    For softmax the closed-form Cholesky factor of diag(p) - ppᵀ (Tanabe & Sagae 1992): with the
    tail sums q_j = Σ_{i≥j} p_i, column j is √(p_j / (q_j q_{j+1})) · (q_{j+1} at j, -p_i below).
    """
    if loss == "squared_error":
        return outputs.new_full((len(outputs), 1, 1), 2**0.5)
    if loss != "cross_entropy":
        raise ValueError(f"the curvature of “{loss}” has no small factor")
    # The likeliest class last: every tail sum stays away from zero.
    order = outputs.argsort(1)
    probabilities = outputs.softmax(1).gather(1, order)
    tails = probabilities.flip(1).cumsum(1).flip(1)
    number = outputs.shape[1] - 1
    factor = -probabilities[:, None, :].expand(-1, number, -1).triu(1)
    factor.diagonal(dim1=1, dim2=2).copy_(tails[:, 1:])
    scale = (probabilities[:, :-1] / tails[:, :-1]).sqrt() / tails[:, 1:].sqrt()
    sorted_columns = factor * scale[:, :, None]
    return torch.zeros_like(sorted_columns).scatter(
        2, order[:, None, :].expand_as(sorted_columns), sorted_columns
    )


def curvature_product(loss: str, outputs: Tensor, targets: Tensor, vectors: Tensor) -> Tensor:
    """∂²ℓ/∂outputs² times `vectors` (K, *outputs.shape), in closed form, each example apart."""
    if loss == "squared_error":
        return 2 * vectors
    probabilities = outputs.softmax(-1)
    weighted = probabilities * vectors
    product = weighted - probabilities * weighted.sum(-1, keepdim=True)
    if loss == "next_token":
        counted = (targets != IGNORED_TOKEN).to(outputs.dtype)
        product = product * (counted / counted.sum(1, keepdim=True).clamp_min(1))[..., None]
    return product
