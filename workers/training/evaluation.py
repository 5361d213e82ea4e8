"""How well a trained model does on a set of examples: loss and, for classes, accuracy."""

from __future__ import annotations

import torch
from torch.func import functional_call

from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES
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
    problem = run.problem
    network = problem.build_network(run.seed).eval()
    parameters = run.layout.unflatten(run.parameters)
    losses, hits = [], []
    with torch.no_grad():
        for indices in torch.arange(len(examples)).split(_at_once(examples)):
            chunk = examples.select(indices).to_dtype(problem.dtype)
            outputs = functional_call(network, parameters, (), chunk.inputs)
            losses.append(LOSSES[problem.loss](outputs, chunk.targets))
            if problem.loss == "cross_entropy":
                hits.append(outputs.argmax(1) == chunk.targets)
    metrics = {"loss": float(torch.cat(losses).mean())}
    if hits:
        metrics["accuracy"] = float(torch.cat(hits).double().mean())
    return metrics


def _at_once(examples: EncodedExamples) -> int:
    if examples.targets.ndim == 1:
        return EXAMPLES_AT_ONCE
    return max(1, min(EXAMPLES_AT_ONCE, TOKENS_AT_ONCE // max(1, examples.targets.shape[1])))
