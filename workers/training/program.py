"""One network bound to one flat parameter vector: gradients of a weighted step, and their pullback.

Where the network's trained parameters are views into θ, no copying and no functional call stands
between the optimizer and the network, which is what makes small steps fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workers.training.allocator import keep_freed_memory
from workers.training.chain import chain_of
from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES
from workers.training.networks.recomputation import Recomputation
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem


@dataclass(frozen=True)
class DifferentiatedStep:
    """A step's gradient g (P,), and the transpose of its derivative.

    `pull(u)`, for u (K, P), gives (∂g/∂θ)ᵀ u (K, P) and (∂g/∂w)ᵀ u (K, B); it works once.
    """

    gradient: Tensor
    pull: Callable[[Tensor], tuple[Tensor, Tensor]]


class TrainingProgram:
    """The loss Σ wᵢ ℓᵢ / batch_size of a problem's steps, as a function of θ."""

    def __init__(self, problem: TrainingProblem, seed: int) -> None:
        self.problem = problem
        self.device = torch.device(problem.device)
        self.network = problem.build_network(seed).to(self.device)
        self.layout = ParameterLayout.of(self.network)
        self.parameters = self.layout.flatten(self.network)
        """θ (P,) on the device; writing to it moves the network."""
        self._loss = LOSSES[problem.loss]
        self._leaves = _bind(self.network, self.layout, self.parameters)
        self._mixed = problem.recipe.precision == "mixed_bfloat16"
        self.chain = None
        """The same gradients written out, on the processor and where the network is simple."""
        if self.device.type == "cpu":
            self.chain = chain_of(
                self.network, self.layout, problem.loss, problem.recipe.batch_size
            )
        _set_dropout(self.network, problem.recipe.dropout)
        recomputes = problem.recipe.recompute_activations
        self._recomputation = Recomputation(self.network) if recomputes else None

    def bind(self, parameters: Tensor) -> None:
        """Makes `parameters` (P,) itself the θ that the network views."""
        self.parameters = parameters
        self._leaves = _bind(self.network, self.layout, parameters)

    def gradient(self, batch: EncodedExamples, weights: Tensor) -> tuple[Tensor, Tensor]:
        """g (P,), on the device, and the unweighted losses (B,), in main memory, of a batch with
        example `weights` (B,)."""
        gradients, losses = [], []
        for part, own_weights in self._parts(batch, weights):
            with nullcontext() if self._recomputation is None else self._recomputation.on():
                found = self._losses(part)
            loss = torch.dot(found, own_weights) / self.problem.recipe.batch_size
            pieces = torch.autograd.grad(loss, self._leaves)
            gradients.append(torch.cat([piece.reshape(-1) for piece in pieces]))
            losses.append(found.detach().cpu())
        if len(gradients) == 1:
            return gradients[0], losses[0]
        total = gradients[0]
        for gradient in gradients[1:]:
            total += gradient
        return total, torch.cat(losses)

    def differentiate(self, batch: EncodedExamples, weights: Tensor) -> DifferentiatedStep:
        """The gradient of `gradient`, ready to be pulled through by a second backward pass."""
        if self.chain is not None:
            return DifferentiatedStep(*self.chain.differentiate(self.parameters, batch, weights))
        if len(self._parts(batch, weights)) > 1:
            return self._differentiate_in_parts(batch, weights)
        return self.differentiate_by_autograd(batch, weights)

    def _differentiate_in_parts(
        self, batch: EncodedExamples, weights: Tensor
    ) -> DifferentiatedStep:
        """Holds the graph of one part at a time, for a forward and backward pass more."""

        def pull(cotangents: Tensor) -> tuple[Tensor, Tensor]:
            by_parameters = torch.zeros_like(cotangents)
            by_weights = []
            for part, own_weights in self._parts(batch, weights):
                found, own = self.differentiate_by_autograd(part, own_weights).pull(cotangents)
                by_parameters += found
                by_weights.append(own)
            return by_parameters, torch.cat(by_weights, 1)

        return DifferentiatedStep(self.gradient(batch, weights)[0], pull)

    def _parts(
        self, batch: EncodedExamples, weights: Tensor
    ) -> list[tuple[EncodedExamples, Tensor]]:
        """The batch as the network sees it: whole, or in the recipe's micro-batches; on the
        device."""
        batch, weights = batch.to(self.device), weights.to(self.device)
        size = self.problem.recipe.micro_batch_size
        if not size or size >= len(batch):
            return [(batch, weights)]
        return [
            (batch.select(places), weights[places])
            for places in torch.arange(len(batch), device=self.device).split(size)
        ]

    def differentiate_by_autograd(
        self, batch: EncodedExamples, weights: Tensor
    ) -> DifferentiatedStep:
        """What `differentiate` does for any network."""
        batch, weights = batch.to(self.device), weights.to(self.device)
        weights = weights.detach().requires_grad_()
        losses = self._losses(batch)
        loss = torch.dot(losses, weights) / self.problem.recipe.batch_size
        pieces = torch.autograd.grad(loss, self._leaves, create_graph=True)

        def pull(cotangents: Tensor) -> tuple[Tensor, Tensor]:
            number = len(cotangents)
            is_batched = number > 1
            flat = cotangents if is_batched else cotangents[0]
            named = self.layout.unflatten(flat)
            pulled = torch.autograd.grad(
                pieces,
                [*self._leaves, weights],
                list(named.values()),
                is_grads_batched=is_batched,
                materialize_grads=True,
            )
            rows = [piece.reshape(number, -1) for piece in pulled]
            return torch.cat(rows[:-1], 1), rows[-1]

        gradient = torch.cat([piece.detach().reshape(-1) for piece in pieces])
        return DifferentiatedStep(gradient, pull)

    def _losses(self, batch: EncodedExamples) -> Tensor:
        if not self._mixed:
            return self._loss(self.network(**batch.inputs), batch.targets)
        with torch.autocast(self.device.type, torch.bfloat16):
            outputs = self.network(**batch.inputs)
        return self._loss(outputs.float(), batch.targets)


@contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic algorithms for the length of a block, without filling fresh memory.

    All work on steps runs in such a block, so it also calls `keep_freed_memory`.
    """
    keep_freed_memory()
    was_on = torch.are_deterministic_algorithms_enabled()
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on)
        settings.fill_uninitialized_memory = filled


def _bind(network: nn.Module, layout: ParameterLayout, flat: Tensor) -> list[nn.Parameter]:
    trained = dict(network.named_parameters())
    views = layout.unflatten(flat)
    for name, view in views.items():
        trained[name].data = view
    return [trained[name] for name in views]


def _set_dropout(network: nn.Module, dropout: float) -> None:
    """Evaluation mode unless the recipe asks for dropout, whatever an uploaded model says."""
    network.train(dropout > 0)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
