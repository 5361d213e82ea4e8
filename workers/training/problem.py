"""A training problem: architecture, encoded examples, recipe and loss; all but the seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from workers.training.data_order import batch_order, steps_in
from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES
from workers.training.networks.registry import ARCHITECTURES, build_network
from workers.training.recipe import Recipe, RecipeError


@dataclass(frozen=True)
class TrainingProblem:
    """What is trained, on what and how. Together with a seed and weights it fixes a run.

    `architecture` is read by `workers.training.networks.registry`; `starting_weights` overwrite
    the seed's initial weights by name (an uploaded model), the rest keeps the seed's.
    """

    architecture: dict[str, Any]
    train: EncodedExamples
    recipe: Recipe
    loss: str
    starting_weights: dict[str, Tensor] | None = None
    device: str = "cpu"
    """Where steps are computed; no part of the fingerprint. See `workers.training.device`."""

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss “{self.loss}”; known: {', '.join(LOSSES)}")
        if len(self.train) == 0:
            raise ValueError("a training problem needs at least one training example")
        self.recipe.validate()

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.recipe.precision == "float64" else torch.float32

    @property
    def number_of_steps(self) -> int:
        """T."""
        return steps_in(len(self.train), self.recipe.batch_size, self.recipe.epochs)

    @property
    def steps_per_epoch(self) -> int:
        return self.number_of_steps // self.recipe.epochs

    def batch_order(self, seed: int) -> Tensor:
        """int64 (T, B); see `workers.training.data_order`."""
        return batch_order(seed, len(self.train), self.recipe.batch_size, self.recipe.epochs)

    def batch_length(self, step: int) -> int:
        """How many examples the batch of step number `step` has; the rest is padding."""
        first = step % self.steps_per_epoch * self.recipe.batch_size
        return min(self.recipe.batch_size, len(self.train) - first)

    @cached_property
    def examples(self) -> EncodedExamples:
        """The training examples in the recipe's precision."""
        return self.train.to_dtype(self.dtype)

    def build_network(self, seed: int) -> nn.Module:
        """A fresh network at the initial weights of `seed`; trained parameters require gradients.

        Raises ValueError when `starting_weights` hold a name or shape the network lacks.
        """
        network = build_network(self._network_architecture(), seed, self.dtype)
        if self.starting_weights is not None:
            _load_by_name(network, self.starting_weights)
        return network

    def _network_architecture(self) -> dict[str, Any]:
        """With the recipe's trained part where the architecture has that setting, unset.

        Raises RecipeError when the recipe names a part and the architecture has no parts or trains
        another one.
        """
        part = self.recipe.trained_part
        entry = ARCHITECTURES.get(str(self.architecture.get("name")))
        own = self.architecture.get("trained_part", part)
        if part != "all" and own != part:
            raise RecipeError("trained_part", f"is {part}, but the model trains {own}")
        if part == "all" or entry is None or "trained_part" in self.architecture:
            return self.architecture
        if entry.setting("trained_part") is None:
            raise RecipeError("trained_part", f"{entry.title} is always trained whole")
        return {**self.architecture, "trained_part": part}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of architecture, examples, recipe, loss and starting weights."""
        digest = hashlib.sha256()
        described = {
            "architecture": self.architecture,
            "recipe": self.recipe.decisive_json(),
            "loss": self.loss,
        }
        digest.update(json.dumps(described, sort_keys=True).encode())
        tensors = {
            **{f"input {k}": v for k, v in self.train.inputs.items()},
            "targets": self.train.targets,
            **{f"weight {k}": v for k, v in (self.starting_weights or {}).items()},
        }
        for name in sorted(tensors):
            tensor = tensors[name].contiguous()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _load_by_name(network: nn.Module, weights: dict[str, Tensor]) -> None:
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    for name, tensor in weights.items():
        if name not in own:
            raise ValueError(f"starting weight “{name}” is unknown to the network")
        if own[name].shape != tensor.shape:
            raise ValueError(
                f"starting weight “{name}” has shape {tuple(tensor.shape)}, "
                f"the network wants {tuple(own[name].shape)}"
            )
        with torch.no_grad():
            own[name].copy_(tensor)
