"""captum: TracIn over checkpoints (Pruthi et al. 2020), and influence functions by Arnoldi
iteration (Schioppa et al. 2022) and from the whole Hessian (Koh & Liang 2017)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from captum.influence import TracInCP
from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction
from captum.influence._core.influence_function import NaiveInfluenceFunction
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from benchmarks.peers.exchange import PeerTask, load_parameters, tensors_of

LARGEST_HESSIAN = 3_000
KRYLOV, PROJECTION = 100, 50
"""Iterations, of which captum's own number is 200, and eigenvectors kept, which is its own."""
Further = list[Callable[[], Tensor]]


def tracin(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, Further]:
    def load(model: nn.Module, place: str) -> float:
        load_parameters(model, task.checkpoints[seed, int(place)])
        return task.learning_rates[int(place)]

    places = [str(place) for place in range(len(task.learning_rates))]
    found = _scores(task, seed, TracInCP, checkpoints=places, checkpoints_load_func=load)
    return found / -task.denominator, []


def arnoldi(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, Further]:
    return _influence(task, seed, ArnoldiInfluenceFunction, arnoldi_dim=KRYLOV)


def naive(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, Further]:
    size = task.parameters.shape[1]
    if size > LARGEST_HESSIAN:
        raise ValueError(f"forms the Hessian of all {size} parameters, too large here")
    return _influence(task, seed, NaiveInfluenceFunction)


def _influence(task: PeerTask, seed: int, method: type, **options: Any) -> tuple[Tensor, Further]:
    def load(model: nn.Module, _: str) -> float:
        load_parameters(model, task.parameters[seed])
        return 1.0

    found = _scores(
        task,
        seed,
        method,
        checkpoint="final",
        checkpoints_load_func=load,
        projection_dim=PROJECTION,
        **options,
    )
    return -found, []


def _scores(task: PeerTask, seed: int, method: type, **options: Any) -> Tensor:
    """(K, N) of one `method`, which takes one measured quantity at a time."""
    train = TensorDataset(*tensors_of(task.train))
    # captum's fast per-example gradients know linear and convolutional layers only.
    fast = not any(
        isinstance(module, nn.Embedding | nn.LayerNorm) for module in task.network(seed).modules()
    )
    tables = []
    for probes in task.probes:

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            values = task.losses(outputs, targets)
            return values.sum() if fast else values

        def measured(outputs: Tensor, targets: Tensor, kind: str = probes.kind) -> Tensor:
            values = task.measured(kind, outputs, targets)
            return values.sum() if fast else values

        torch.manual_seed(seed)
        own = method(
            task.network(seed),
            train,
            loss_fn=loss,
            test_loss_fn=measured,
            batch_size=512,
            sample_wise_grads_per_batch=fast,
            **options,
        )
        tables.append(own.influence(tensors_of(probes.examples)).detach())
    return task.behaviour_rows(tables)


METHODS = {"TracIn": tracin, "influence, Arnoldi": arnoldi, "influence, whole Hessian": naive}
