"""Gradients and second derivatives of simple networks written out, without autograd.

Softmax and linear regression, the MLP, the bag of embeddings and the convolutional network are
chains of dense layers, smooth activations and fixed linear maps. For them the gradient of the
weighted loss and its derivative along many directions (the R-operator, Pearlmutter 1994) are a
few batched matrix products, which spares small networks most of what Python and autograd cost:
for R runs with their own θ at once, or for K directions at one θ.

Shapes: the first dimension is the group: 1, R runs or K directions. Then come the examples (B),
positions of an image if any, and features last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workers.training.chain_parts import Activation, Dense, FixedMap, Saved
from workers.training.chain_recognition import parts_of
from workers.training.examples import EncodedExamples
from workers.training.parameters import ParameterLayout

Part = Dense | Activation | FixedMap


@dataclass(frozen=True)
class _Pass:
    """What a forward and backward pass leave for second derivatives."""

    saved: list[Saved]
    cotangents: list[Tensor]
    """∂ loss / ∂ output of each part; of the parts before the first dense one never used."""
    output: Tensor
    weights: Tensor


class Chain:
    """Σ wᵢ ℓᵢ / batch_size of a chain network, with its derivatives."""

    def __init__(
        self,
        parts: Sequence[Part],
        encode: Callable[[dict[str, Tensor]], Tensor],
        loss: str,
        batch_size: int,
    ) -> None:
        self.parts = list(parts)
        self.encode = encode
        self.is_regression = loss == "squared_error"
        self.batch_size = batch_size
        self.first_dense = next(
            place for place, part in enumerate(parts) if isinstance(part, Dense)
        )

    def gradient(self, theta: Tensor, batch: EncodedExamples, weights: Tensor, out: Tensor) -> None:
        """Writes the gradients at `theta` (R, P) with `weights` (R, B) into `out` (R, P).

        The batch's tensors lead with (B,), shared by the runs, or with (R, B).
        """
        self._passes(theta, batch, weights, out)

    def differentiate(
        self, theta: Tensor, batch: EncodedExamples, weights: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """The gradient (P,) at `theta` (P,), and the pullback of directions u (K, P) to
        ((∂g/∂θ) u (K, P), u · ∇ℓᵢ / batch_size (K, B))."""
        gradient = torch.empty_like(theta)
        done = self._passes(theta[None], batch, weights[None], gradient[None])

        def pull(directions: Tensor) -> tuple[Tensor, Tensor]:
            prepared = self._prepared(done)
            return self._second(theta[None], batch.targets, done, prepared, directions)

        return gradient, pull

    def differentiate_runs(
        self, theta: Tensor, batch: EncodedExamples, weights: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """`differentiate` of R runs at once: `theta` (R, P), a batch that leads with (R, B), and
        `weights` (R, B) give the gradients (R, P) and the pullback of directions (R, K, P)."""
        gradient = torch.empty_like(theta)
        done = self._passes(theta, batch, weights, gradient)

        def pull(directions: Tensor) -> tuple[Tensor, Tensor]:
            runs, number = directions.shape[:2]

            def spread(tensor: Tensor) -> Tensor:
                return tensor if number == 1 else tensor.repeat_interleave(number, 0)

            own = _Pass(
                done.saved,
                [spread(one) for one in done.cotangents],
                spread(done.output),
                spread(done.weights),
            )
            prepared = [tuple(map(spread, saved)) for saved in self._prepared(done)]
            found, by_weights = self._second(
                spread(theta), spread(batch.targets), own, prepared, directions.flatten(0, 1)
            )
            return found.unflatten(0, (runs, number)), by_weights.unflatten(0, (runs, number))

        return gradient, pull

    def _passes(
        self, theta: Tensor, batch: EncodedExamples, weights: Tensor, gradient: Tensor
    ) -> _Pass:
        values = self.encode(batch.inputs)
        if batch.targets.ndim == 1:
            values = values[None]
        saved = []
        for part in self.parts:
            values, kept = part.forward(values, theta)
            saved.append(kept)
        cotangent = self._loss_cotangent(values, batch.targets, weights)
        cotangents = [cotangent] * len(self.parts)
        for place in reversed(range(self.first_dense, len(self.parts))):
            part, cotangents[place] = self.parts[place], cotangent
            if isinstance(part, Dense):
                part.store_gradient(gradient, cotangent, saved[place])
            if place > self.first_dense:
                cotangent = part.backward(cotangent, saved[place], theta)
        return _Pass(saved, cotangents, values, weights)

    def _prepared(self, done: _Pass) -> list[Saved]:
        return [
            part.prepare_second(saved) for part, saved in zip(self.parts, done.saved, strict=True)
        ]

    def _second(
        self,
        theta: Tensor,
        targets: Tensor,
        done: _Pass,
        prepared: list[Saved],
        directions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        tangents: list[Tensor | None] = []
        tangent: Tensor | None = None
        for part, saved in zip(self.parts, prepared, strict=True):
            tangents.append(tangent)
            if isinstance(part, Dense):
                tangent = part.tangent(saved, directions, tangent, theta)
            elif tangent is not None:
                tangent = part.push(tangent, saved)
        assert tangent is not None
        by_weights, moved = self._loss_second(done, targets, tangent)
        result = torch.empty_like(directions)
        for place in reversed(range(self.first_dense, len(self.parts))):
            part, cotangent = self.parts[place], done.cotangents[place]
            saved, tangent = prepared[place], tangents[place]
            if isinstance(part, Dense):
                part.store_second(result, moved, saved, cotangent, tangent)
                if place > self.first_dense:
                    moved = part.backward(moved, saved, theta)
                    part.add_backward(moved, cotangent, directions)
            else:
                assert tangent is not None
                moved = part.backward_second(moved, saved, cotangent, tangent)
        return result, by_weights

    def _loss_cotangent(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """∂ loss / ∂ outputs (R, B, C)."""
        scaled = (weights / self.batch_size)[..., None]
        if self.is_regression:
            return 2 * (outputs - targets[..., None]) * scaled
        return self._residual(outputs, targets) * scaled

    def _loss_second(self, done: _Pass, targets: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        """The move of each ℓᵢ / batch_size (K, B) and of the loss's cotangent (K, B, C)."""
        scaled = (done.weights / self.batch_size)[..., None]
        if self.is_regression:
            residual = 2 * (done.output - targets[..., None])
            return (residual * tangent).sum(2) / self.batch_size, 2 * tangent * scaled
        probabilities = done.output.softmax(2)
        weighted = probabilities * tangent
        total = weighted.sum(2, keepdim=True)
        own = tangent.gather(2, targets.expand(len(tangent), -1)[..., None])
        moved = torch.addcmul(weighted, probabilities, total, value=-1).mul_(scaled)
        return (total - own)[..., 0] / self.batch_size, moved

    @staticmethod
    def _residual(outputs: Tensor, targets: Tensor) -> Tensor:
        index = targets.expand(outputs.shape[:2])[..., None]
        minus_one = outputs.new_full((1, 1, 1), -1.0).expand(index.shape)
        return outputs.softmax(2).scatter_add(2, index, minus_one)


def chain_of(
    network: nn.Module, layout: ParameterLayout, loss: str, batch_size: int
) -> Chain | None:
    """The chain that `network` is, or None when it is no chain or only partly trained."""
    found = parts_of(network, layout)
    if found is None or loss not in ("cross_entropy", "squared_error"):
        return None
    parts, encode = found
    return Chain(parts, encode, loss, batch_size)
