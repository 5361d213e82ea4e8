"""What features of the examples say of each one's label: its nearest neighbours, and a linear model
fitted without it. Signals that need no features live in ``label_signals``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

NEIGHBOURS = 20
PENALTY = 0.1  # of the squared weights, as if the rest were a sum over examples of unit length
REPEATS = 2
MOST_STEPS = 100
MOST_REFERENCES = (
    20_000  # examples that neighbours are looked for among, or that a model is fitted on
)
QUERIES_AT_ONCE = 512
Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def neighbour_disagreement(
    features: Tensor, targets: Tensor, queries: Indices, references: Indices
) -> Array:
    """(Q,) how far the targets of the query examples are from those of their 20 nearest references,
    by cosine and weighted by it: the share with another label, or for float targets the squared
    difference from their mean.

    ``features`` (N, H), ``targets`` (N,). An example is no neighbour of itself. Of more than
    20,000 references a random part is looked at."""
    references = _part(references)
    unit = nn.functional.normalize(features.float(), dim=1)
    among, known = unit[references], targets[references]
    number = min(NEIGHBOURS, len(references))
    found = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = queries[start : start + QUERIES_AT_ONCE]
        similarity = unit[rows] @ among.T
        similarity[torch.from_numpy(rows[:, None] == references[None, :])] = -torch.inf
        nearest = similarity.topk(number, dim=1)
        weights = nearest.values.clamp(min=0).double() + 1e-9
        weights /= weights.sum(1, keepdim=True)
        own, near = targets[rows], known[nearest.indices]
        if targets.is_floating_point():
            found.append((own - (weights * near).sum(1)).square())
        else:
            found.append((weights * (near != own[:, None])).sum(1))
    return np.asarray(torch.cat(found).double().numpy(), np.float64)


def linear_model_loss(features: Tensor, labels: Tensor, folds: int) -> Array:
    """(N,) −log of the probability of each example's label under softmax regression on its features
    of length 1, fitted without its fold; the probability is the mean of two ways to fold.

    The penalty is a tenth of the squared weights beside the sum of losses, by L-BFGS."""
    unit = nn.functional.normalize(features.double(), dim=1)
    unit = torch.cat([unit, torch.ones(len(unit), 1, dtype=unit.dtype)], dim=1)
    total = torch.zeros(len(unit), dtype=unit.dtype)
    for repeat in range(REPEATS):
        fold = np.random.default_rng([repeat, folds]).permutation(len(unit)) % folds
        for part in range(folds):
            own = torch.from_numpy(fold == part)
            kept = torch.from_numpy(_part(np.flatnonzero(fold != part)))
            if not own.any() or not len(kept):
                continue
            weights = _softmax_regression(unit[kept], labels[kept], int(labels.max()) + 1)
            chances = (unit[own] @ weights).softmax(1)
            total[own] += chances.gather(1, labels[own][:, None])[:, 0] / REPEATS
    return np.asarray(-total.clamp(min=1e-12).log().numpy(), np.float64)


def _softmax_regression(inputs: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(H + 1, C), the last input a constant that no penalty holds."""
    weights = torch.zeros(inputs.shape[1], classes, dtype=inputs.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=MOST_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(inputs @ weights, labels, reduction="sum")
        loss = (loss + PENALTY / 2 * weights[:-1].square().sum()) / len(inputs)
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


@contextmanager
def last_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what enters the network's last layer, (B, H) for each call inside the block."""
    layers = [
        module
        for module in network.modules()
        if next(module.children(), None) is None
        and any(one.ndim == 2 for one in module.parameters(recurse=False))
    ]
    found: list[Tensor] = []
    handle = layers[-1].register_forward_pre_hook(
        lambda module, inputs: found.append(inputs[0].detach())
    )
    try:
        yield found
    finally:
        handle.remove()


def standardised(features: Tensor, references: Indices) -> Tensor:
    """Each column in units of its standard deviation over the references, around their mean."""
    known = features[references]
    return (features - known.mean(0)) / (known.std(0) + 1e-6)


def _part(indices: Indices) -> Indices:
    if len(indices) <= MOST_REFERENCES:
        return indices
    return np.random.default_rng(0).choice(indices, MOST_REFERENCES, replace=False)
