"""traker: TRAK as its authors wrote it (Park et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from trak import TRAKer
from trak.modelout_functions import AbstractModelOutput

from benchmarks.peers.exchange import PeerTask, tensors_of

PROJECTION = 512
RIDGES = (0.0, 1e-1, 1.0, 10.0)
"""Added to the kernel of features, as shares of its mean diagonal; the first is traker's own."""


class Output(AbstractModelOutput):
    """The margin while features are made, then the quantity whose `kind` is set."""

    def __init__(self, task: PeerTask) -> None:
        self.task = task
        self.kind = "mean_margin"

    def get_output(self, model: nn.Module, weights: Any, buffers: Any, *batch: Tensor) -> Tensor:
        *inputs, targets = (one[None] for one in batch)
        outputs = functional_call(model, (weights, buffers), tuple(inputs))
        return self.task.measured(self.kind, outputs, targets).sum()

    def get_out_to_loss_grad(
        self, model: nn.Module, weights: Any, buffers: Any, batch: tuple[Tensor, ...]
    ) -> Tensor:
        *inputs, targets = batch
        outputs = functional_call(model, (weights, buffers), tuple(inputs))
        own = outputs.softmax(-1).gather(1, targets[:, None])
        return (1 - own).clone().detach()


def trak(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, list[Callable[[], Tensor]]]:
    def scores(ridge: float) -> Tensor:
        return _scores(task, seed, folder / str(ridge), ridge)

    first, *others = RIDGES
    return scores(first), [lambda one=one: scores(one) for one in others]


def _scores(task: PeerTask, seed: int, folder: Path, ridge: float) -> Tensor:
    network, output = task.network(seed), Output(task)
    size = len(task.train)
    traker = TRAKer(
        network,
        output,
        size,
        save_dir=str(folder),
        device="cpu",
        proj_dim=PROJECTION,
        use_half_precision=False,
        projector_seed=seed,
        logging_level=40,
    )
    state = network.state_dict()
    traker.load_checkpoint(state, model_id=0)
    tensors = tensors_of(task.train)
    for indices in torch.arange(size).split(128):
        traker.featurize([one[indices] for one in tensors], num_samples=len(indices))
    if ridge:
        features = torch.as_tensor(traker.saver.current_store["grads"])
        traker.score_computer.lambda_reg = ridge * float(features.square().sum(0).mean())
    traker.finalize_features()
    tables = []
    for probes in task.probes:
        output.kind = probes.kind
        number = len(probes.examples)
        traker.start_scoring_checkpoint(probes.kind, state, 0, number)
        traker.score(list(tensors_of(probes.examples)), num_samples=number)
        tables.append(torch.as_tensor(traker.finalize_scores(probes.kind)).float().T)
    return task.behaviour_rows(tables)


METHODS = {"TRAK": trak}
