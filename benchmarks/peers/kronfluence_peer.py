"""kronfluence's EK-FAC (Grosse et al. 2023): linear and convolutional layers, true Fisher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.peers.exchange import PeerTask, Probes, tensors_of

DAMPINGS = (None, 1e-1, 1e-2, 1e-3, 1e-4)
"""None is the library's heuristic, 0.1 of the mean eigenvalue."""


class Measured(Task):
    """The training loss, and the quantity whose `kind` is set."""

    def __init__(self, task: PeerTask) -> None:
        self.task = task
        self.kind = "mean_loss"
        self.place_of_mask = (
            list(task.train.inputs).index("mask") if ("mask" in task.train.inputs) else None
        )
        self.masked_modules = [
            name
            for name, module in task.network(0).named_modules()
            if isinstance(module, nn.Linear) and name.startswith("body.")
        ]

    def compute_train_loss(
        self, batch: tuple[Tensor, ...], model: nn.Module, sample: bool = False
    ) -> Tensor:
        *inputs, targets = batch
        outputs = model(*inputs)
        if sample:
            with torch.no_grad():
                targets = torch.multinomial(outputs.softmax(1), 1)[:, 0]
        return self.task.losses(outputs, targets).sum()

    def compute_measurement(self, batch: tuple[Tensor, ...], model: nn.Module) -> Tensor:
        *inputs, targets = batch
        return self.task.measured(self.kind, model(*inputs), targets).sum()

    def get_attention_mask(self, batch: tuple[Tensor, ...]) -> dict[str, Tensor] | None:
        if self.place_of_mask is None:
            return None
        return dict.fromkeys(self.masked_modules, batch[self.place_of_mask])


def ekfac(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, list[Callable[[], Tensor]]]:
    own = Measured(task)
    model = prepare_model(task.network(seed), own)
    analyzer = Analyzer(
        "hunch", model, own, cpu=True, disable_tqdm=True, output_dir=str(folder), log_level=40
    )
    train = TensorDataset(*tensors_of(task.train))
    size = min(len(train), 512)
    analyzer.fit_all_factors(
        "ekfac", train, per_device_batch_size=size, factor_args=FactorArguments("ekfac")
    )

    def table(probes: Probes, damping: float | None) -> Tensor:
        own.kind = probes.kind
        name = f"{probes.kind}-{damping}"
        analyzer.compute_pairwise_scores(
            name,
            "ekfac",
            TensorDataset(*tensors_of(probes.examples)),
            train,
            per_device_query_batch_size=len(probes.examples),
            per_device_train_batch_size=size,
            score_args=ScoreArguments(damping_factor=damping),
        )
        return analyzer.load_pairwise_scores(name)["all_modules"] / -task.denominator

    def scores(damping: float | None) -> Tensor:
        return task.behaviour_rows([table(one, damping) for one in task.probes])

    return scores(DAMPINGS[0]), [lambda damping=one: scores(damping) for one in DAMPINGS[1:]]


METHODS = {"EK-FAC": ekfac}
