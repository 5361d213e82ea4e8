"""bergson's replay ("MAGIC", Ilyas & Engstrom 2025) on a language model: the time of its backward
walk for one behaviour. Its forward run is recorded first, and not counted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torchopt
from bergson.magic.trainer import BackwardState, Trainer
from torch import Tensor, nn
from torchopt.pytree import tree_iter

from benchmarks.peers.exchange import PeerTask


class Weighted(nn.Module):
    """Σ wᵢ ℓᵢ / batch size, the raw loss that bergson's trainer takes."""

    def __init__(self, task: PeerTask) -> None:
        super().__init__()
        self.network = task.untrained_network()
        self.task = task

    def forward(
        self, input_ids: Tensor, mask: Tensor, labels: Tensor, example_weight: Tensor
    ) -> Tensor:
        losses = self.task.losses(self.network(input_ids, mask), labels)
        return torch.dot(losses, example_weight) / self.task.recipe["batch_size"]


class Stream:
    """The batches of the run, in its own order."""

    def __init__(self, task: PeerTask, seed: int) -> None:
        self.train, self.order = task.train, task.order[seed]
        self.weights = nn.Parameter(torch.ones(len(task.train)))
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, step: int) -> dict[str, Any]:
        indices = self.order[step][self.order[step] >= 0]
        batch = self.train.select(indices)
        return {
            "input_ids": batch.inputs["ids"],
            "mask": batch.inputs["mask"],
            "labels": batch.targets,
            "example_weight": self.weights[indices],
        }

    @property
    def requires_grad(self) -> bool:
        return self.weights.requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.weights.requires_grad = value


def replay(task: PeerTask, seed: int, folder: Path) -> float:
    recipe = task.recipe
    optimizer = torchopt.adamw(
        recipe["learning_rate"],
        betas=(recipe["beta1"], recipe["beta2"]),
        eps=0.0,
        eps_root=recipe["epsilon"],
        weight_decay=recipe["weight_decay"],
    )
    model, stream = Weighted(task), Stream(task, seed)
    trainer, state = Trainer.initialize(model, optimizer)
    stream.requires_grad = False
    state = trainer.train(state, stream, save_dir=str(folder))
    stream.requires_grad = True
    probes = task.probes[0]
    state.detach_()
    state.requires_grad = True
    began = time.perf_counter()
    loss = torch.func.functional_call(
        model,
        state.params,
        (),
        {
            "input_ids": probes.examples.inputs["ids"],
            "mask": probes.examples.inputs["mask"],
            "labels": probes.examples.targets,
            "example_weight": probes.coefficients[0],
        },
    )
    names = list(state.params)
    gradients = torch.autograd.grad(loss, [state.params[name] for name in names])
    state.detach_()
    moments = [
        torch.zeros_like(one)
        for one in tree_iter(state.opt_state)
        if isinstance(one, Tensor) and one.is_floating_point()
    ]
    backward = BackwardState(
        dict(zip(names, gradients, strict=True)), moments, torch.zeros_like(stream.weights)
    )
    found = trainer.backward(str(folder), stream, backward, state)
    seconds = time.perf_counter() - began
    if not torch.isfinite(found.weight_grads).all():
        raise ValueError("its scores are not finite")
    return seconds


METHODS = {"replay": replay}
