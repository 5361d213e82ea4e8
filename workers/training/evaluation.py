"""How well a trained model does on a set of examples: loss and, for classes, accuracy; and the loss
and confidence of each example alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.func import functional_call

from workers.training.examples import EncodedExamples
from workers.training.losses import IGNORED_TOKEN, LOSSES, token_shares
from workers.training.trainer import TrainingRun

EXAMPLES_AT_ONCE = 1024
TOKENS_AT_ONCE = 4096
"""Of a language model, whose scores are tokens × vocabulary numbers."""


def evaluate(run: TrainingRun, examples: EncodedExamples) -> dict[str, float]:
    """Mean loss (`loss`, in the unit of the problem's loss) and, for classification, `accuracy`.

    Nothing is returned for an empty set.
    """
    if not len(examples):
        return {}
    loss = run.problem.loss
    losses, hits = [], []
    for outputs, targets in _outputs(run, examples):
        losses.append(LOSSES[loss](outputs, targets))
        if loss == "cross_entropy":
            hits.append(outputs.argmax(1) == targets)
    metrics = {"loss": float(torch.cat(losses).mean())}
    if hits:
        metrics["accuracy"] = float(torch.cat(hits).double().mean())
    return metrics


def losses_and_confidences(
    run: TrainingRun, examples: EncodedExamples
) -> tuple[Tensor, Tensor | None]:
    """(N,) loss of each example, and (N,) confidence: the probability of the labelled class, or of
    a language model the mean probability of the example's own tokens, not a number where none
    counts. None for regression, which gives no probabilities.
    """
    loss = run.problem.loss
    losses, confidences = [torch.zeros(0)], [torch.zeros(0)]
    for outputs, targets in _outputs(run, examples):
        own = LOSSES[loss](outputs, targets)
        losses.append(own)
        if loss == "cross_entropy":
            confidences.append((-own).exp())
        elif loss == "next_token":
            confidences.append(_mean_token_probability(outputs, targets))
    return torch.cat(losses), None if loss == "squared_error" else torch.cat(confidences)


def _mean_token_probability(outputs: Tensor, targets: Tensor) -> Tensor:
    counted = targets != IGNORED_TOKEN
    counts = counted.sum(1)
    shares = token_shares(outputs, targets) * counts.clamp_min(1)[:, None]
    return ((-shares).exp() * counted).sum(1) / counts


def _outputs(run: TrainingRun, examples: EncodedExamples) -> Iterator[tuple[Tensor, Tensor]]:
    """The network's outputs and the targets, piece by piece."""
    device = torch.device(run.problem.device)
    network = run.problem.build_network(run.seed).eval().to(device)
    parameters = run.layout.unflatten(run.parameters.to(device))
    for indices in torch.arange(len(examples)).split(_at_once(examples)):
        chunk = examples.select(indices).to_dtype(run.problem.dtype)
        with torch.no_grad():
            outputs = functional_call(network, parameters, (), chunk.to(device).inputs)
        yield outputs.cpu(), chunk.targets


def _at_once(examples: EncodedExamples) -> int:
    if examples.targets.ndim == 1:
        return EXAMPLES_AT_ONCE
    return max(1, min(EXAMPLES_AT_ONCE, TOKENS_AT_ONCE // max(1, examples.targets.shape[1])))
