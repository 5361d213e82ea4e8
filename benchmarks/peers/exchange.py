"""What a benchmark hands to a peer and gets back: tensors and JSON in a folder. Both environments
import this file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES
from workers.training.networks import layers
from workers.training.networks.registry import build_network
from workers.training.parameters import ParameterLayout

KINDS = ("mean_loss", "mean_margin")


@dataclass(frozen=True)
class Probes:
    """The probe examples whose gradient of one kind of behaviour is needed.

    `coefficients` (K', M) make the K' behaviours at `places` of them.
    """

    kind: str
    examples: EncodedExamples
    coefficients: Tensor
    places: tuple[int, ...]


@dataclass(frozen=True)
class PeerTask:
    """A problem trained for S seeds, as a peer gets it."""

    architecture: dict[str, Any]
    loss: str
    train: EncodedExamples
    denominator: float
    """n of the objective Σ ℓᵢ / n."""
    number_of_behaviours: int
    probes: tuple[Probes, ...]
    parameters: Tensor
    """(S, P) final."""
    checkpoints: Tensor
    """(S, C, P) states during training."""
    learning_rates: tuple[float, ...]
    """(C,) the sum of the learning rates of the steps nearest to each checkpoint."""
    recipe: dict[str, Any]
    order: Tensor
    """(S, T, B) the examples of each step, padded with -1."""

    def network(self, seed: int) -> nn.Module:
        """With `torch.nn`'s own layers, which peers recognise by type, at the final parameters."""
        network = build_network(self.architecture, 0)
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                replacement = _standard_layer(child)
                if replacement is not None:
                    setattr(parent, name, replacement)
        load_parameters(network, self.parameters[seed])
        return network.eval()

    def untrained_network(self) -> nn.Module:
        """As the problem's own code builds it."""
        return build_network(self.architecture, 0)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B,)."""
        return LOSSES[self.loss](outputs, targets)

    def measured(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """(B,) what a behaviour of `kind` is the mean of."""
        if kind == "mean_loss":
            return self.losses(outputs, targets)
        own = outputs.gather(1, targets[:, None])[:, 0]
        others = outputs.scatter(1, targets[:, None], -torch.inf).logsumexp(1)
        return own - others

    def behaviour_rows(self, by_probe: Sequence[Tensor]) -> Tensor:
        """(K, N) from the (M, N) table of each of `probes`."""
        rows = torch.empty(self.number_of_behaviours, len(self.train))
        for probes, table in zip(self.probes, by_probe, strict=True):
            rows[list(probes.places)] = probes.coefficients @ table
        return rows


def tensors_of(examples: EncodedExamples) -> tuple[Tensor, ...]:
    """In the order of the network's arguments, targets last."""
    return (*examples.inputs.values(), examples.targets)


def load_parameters(network: nn.Module, flat: Tensor) -> None:
    layout = ParameterLayout.of(network)
    with torch.no_grad():
        named = dict(network.named_parameters())
        for name, value in layout.unflatten(flat).items():
            named[name].copy_(value)


def _standard_layer(module: nn.Module) -> nn.Module | None:
    if isinstance(module, layers.Linear):
        outputs, inputs = module.weight.shape
        return nn.Linear(inputs, outputs)
    if isinstance(module, layers.Convolution):
        outputs, inputs = module.weight.shape[:2]
        return nn.Conv2d(inputs, outputs, 3, stride=module.stride, padding=1)
    if isinstance(module, layers.Embedding):
        return nn.Embedding(*module.weight.shape)
    if isinstance(module, layers.LayerNorm):
        return nn.LayerNorm(module.weight.shape, eps=module.epsilon)
    return None


def save_task(folder: Path, task: PeerTask) -> None:
    tensors: dict[str, Tensor] = {
        "parameters": task.parameters,
        "checkpoints": task.checkpoints,
        "order": task.order,
    }
    described: dict[str, Any] = {
        "architecture": task.architecture,
        "loss": task.loss,
        "inputs": list(task.train.inputs),
        "denominator": task.denominator,
        "number_of_behaviours": task.number_of_behaviours,
        "learning_rates": list(task.learning_rates),
        "recipe": task.recipe,
        "probes": [{"kind": one.kind, "places": list(one.places)} for one in task.probes],
    }
    parts = {"train": task.train} | {one.kind: one.examples for one in task.probes}
    for part, examples in parts.items():
        for name, tensor in examples.inputs.items():
            tensors[f"{part} {name}"] = tensor.contiguous()
        tensors[f"{part} targets"] = examples.targets.contiguous()
    for probes in task.probes:
        tensors[f"{probes.kind} coefficients"] = probes.coefficients
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "task.safetensors")
    (folder / "task.json").write_text(json.dumps(described), encoding="utf-8")


def load_task(folder: Path) -> PeerTask:
    described = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "task.safetensors")

    def examples(part: str) -> EncodedExamples:
        inputs = {name: tensors[f"{part} {name}"] for name in described["inputs"]}
        return EncodedExamples(inputs, tensors[f"{part} targets"])

    return PeerTask(
        described["architecture"],
        described["loss"],
        examples("train"),
        described["denominator"],
        described["number_of_behaviours"],
        tuple(
            Probes(
                one["kind"],
                examples(one["kind"]),
                tensors[f"{one['kind']} coefficients"],
                tuple(one["places"]),
            )
            for one in described["probes"]
        ),
        tensors["parameters"],
        tensors["checkpoints"],
        tuple(described["learning_rates"]),
        described["recipe"],
        tensors["order"],
    )
