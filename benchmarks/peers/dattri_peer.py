"""dattri: influence functions by conjugate gradients and EK-FAC, and TRAK. A behaviour is one test
item, so that its gradient is taken once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dattri.algorithm.influence_function import IFAttributorCG, IFAttributorEKFAC
from dattri.algorithm.trak import TRAKAttributor
from dattri.task import AttributionTask
from torch import Tensor
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.exchange import PeerTask, tensors_of

REGULARISATIONS = (1e-2, 1e-1, 1e-3, 1e-4)
ITERATIONS = 30
PROJECTION = 512
Further = list[Callable[[], Tensor]]
Data = tuple[Tensor, ...]


def conjugate_gradients(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, Further]:
    def scores(regularisation: float) -> Tensor:
        attributor = IFAttributorCG(
            _attribution(task, seed, _functions(task)),
            max_iter=ITERATIONS,
            regularization=regularisation,
        )
        return _attribute(attributor, task) / -task.denominator

    first, *others = REGULARISATIONS
    return scores(first), [lambda one=one: scores(one) for one in others]


def ekfac(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, Further]:
    attributor = IFAttributorEKFAC(
        _attribution(task, seed, _functions(task)), damping=REGULARISATIONS[0]
    )
    first = _attribute(attributor, task) / -task.denominator

    def again(damping: float) -> Tensor:
        attributor.damping = damping
        return _attribute(attributor, task, is_cached=True) / -task.denominator

    return first, [lambda one=one: again(one) for one in REGULARISATIONS[1:]]


def trak(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, Further]:
    loss, target = _functions(task)
    network = task.network(seed)

    def margin(parameters: dict[str, Tensor], data: Data) -> Tensor:
        *inputs, targets = (one[None] for one in data)
        outputs = functional_call(network, parameters, tuple(inputs))
        return task.measured("mean_margin", outputs, targets).sum()

    def probability(parameters: dict[str, Tensor], data: Data) -> Tensor:
        return torch.exp(-loss(parameters, tuple(one[None] for one in data)))

    def behaviour(parameters: dict[str, Tensor], data: Data) -> Tensor:
        return target(parameters, tuple(one[None] for one in data))

    attributor = TRAKAttributor(
        _attribution(task, seed, (margin, behaviour)),
        probability,
        projector_kwargs={"proj_dim": PROJECTION, "proj_seed": seed},
    )
    attributor.cache(_train(task))
    return attributor.attribute(_behaviours(task)).T, []


def _functions(task: PeerTask) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The mean loss of a batch, and a behaviour of one test item (or, of a training batch, the
    loss: dattri's EK-FAC measures curvature by the target function)."""
    network = task.network(0)
    number_of_inputs = len(task.train.inputs)

    def loss(parameters: dict[str, Tensor], data: Data) -> Tensor:
        *inputs, targets = data
        outputs = functional_call(network, parameters, tuple(inputs))
        return task.losses(outputs, targets).mean()

    def target(parameters: dict[str, Tensor], data: Data) -> Tensor:
        if len(data) == number_of_inputs + 1:
            return loss(parameters, data)
        *inputs, targets, coefficients, is_margin = (one[0] for one in data)
        outputs = functional_call(network, parameters, tuple(inputs))
        losses = (task.losses(outputs, targets) * coefficients).sum()
        margins = (task.measured("mean_margin", outputs, targets) * coefficients).sum()
        return is_margin * margins + (1 - is_margin) * losses

    target.network = network  # type: ignore[attr-defined]
    return loss, target


def _attribution(
    task: PeerTask, seed: int, functions: tuple[Callable[..., Tensor], Callable[..., Tensor]]
) -> AttributionTask:
    loss, target = functions
    # Hooks of EK-FAC sit on the network that the functions call.
    model = getattr(target, "network", task.network(seed))
    state = task.network(seed).state_dict()
    return AttributionTask(loss, model, [state], target_func=target)


def _attribute(attributor: Any, task: PeerTask, is_cached: bool = False) -> Tensor:
    """(K, N)."""
    train = _train(task)
    if not is_cached:
        attributor.cache(train)
    return attributor.attribute(train, _behaviours(task)).detach().T


def _train(task: PeerTask) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*tensors_of(task.train)), batch_size=len(task.train))


def _behaviours(task: PeerTask) -> DataLoader[Any]:
    """Each behaviour's probe examples, padded with coefficient 0 to the longest."""
    longest = max(int((row != 0).sum()) for one in task.probes for row in one.coefficients)
    items: list[Data] = [()] * task.number_of_behaviours
    for probes in task.probes:
        for place, row in zip(probes.places, probes.coefficients, strict=True):
            chosen = torch.nonzero(row)[:, 0]
            padded = torch.cat([chosen, chosen[:1].expand(longest - len(chosen))])
            coefficients = row[padded].clone()
            coefficients[len(chosen) :] = 0
            items[place] = (
                *(one[padded] for one in tensors_of(probes.examples)),
                coefficients,
                torch.tensor(float(probes.kind == "mean_margin")),
            )
    dataset = TensorDataset(*(torch.stack(column) for column in zip(*items, strict=True)))
    return DataLoader(dataset, batch_size=len(dataset))


METHODS = {
    "influence, conjugate gradients": conjugate_gradients,
    "EK-FAC": ekfac,
    "TRAK": trak,
}
