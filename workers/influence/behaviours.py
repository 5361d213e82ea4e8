"""Behaviours: differentiable scalars of a trained model on probe examples, with their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES, loss_for_targets
from workers.training.parameters import ParameterLayout

UNITS: dict[str, str] = {
    "mean_loss": "loss",
    "mean_margin": "logits",
    "label_probability": "probability",
    "completion_log_probability": "nats",
}
HIGHER_IS_BETTER: dict[str, bool] = {
    "mean_loss": False,
    "mean_margin": True,
    "label_probability": True,
    "completion_log_probability": True,
}


@dataclass(frozen=True)
class Behaviour:
    """A mean over probe examples of one quantity of the trained model.

    mean_loss: the training loss (nats, or squared units for regression).
    mean_margin: z_y - log Σ_{c≠y} exp z_c, the log-odds of the target class (Park 2023, eq. 4).
    label_probability: softmax probability of `label`; of each example's own target when None.
    completion_log_probability: Σ over the completion's tokens of log p, mean over examples.
    """

    kind: str
    examples: EncodedExamples
    label: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in UNITS:
            raise ValueError(f"unknown behaviour “{self.kind}”; known: {', '.join(UNITS)}")
        if len(self.examples) == 0:
            raise ValueError("a behaviour needs at least one probe example")
        fitting = {
            "mean_margin": "cross_entropy",
            "label_probability": "cross_entropy",
            "completion_log_probability": "next_token",
        }.get(self.kind)
        if fitting and loss_for_targets(self.examples.targets) != fitting:
            raise ValueError(f"behaviour “{self.kind}” does not fit the targets of its examples")

    @property
    def unit(self) -> str:
        return UNITS[self.kind]

    def values(self, network: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        """() the behaviour at the named `parameters`, differentiable in them."""
        return self.per_example(network, parameters).mean()

    def per_example(self, network: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        """(M,) the quantity on each probe example, differentiable in `parameters`."""
        dtype = next(iter(parameters.values())).dtype
        examples = self.examples.to_dtype(dtype)
        outputs: Tensor = functional_call(network, dict(parameters), (), examples.inputs)
        targets = examples.targets
        if self.kind == "mean_loss":
            return LOSSES[loss_for_targets(targets)](outputs, targets)
        if self.kind == "mean_margin":
            return _margin(outputs, targets)
        if self.kind == "label_probability":
            labels = targets if self.label is None else torch.full_like(targets, self.label)
            return _probability(outputs, labels)
        return _completion_log_probability(outputs, targets)


def behaviour_values(
    behaviours: Sequence[Behaviour], network: nn.Module, layout: ParameterLayout, flat: Tensor
) -> Tensor:
    """(K,) all behaviours at θ `flat` (P,), without gradients."""
    network.eval()
    with torch.no_grad():
        parameters = layout.unflatten(flat)
        return torch.stack([one.values(network, parameters) for one in behaviours])


def behaviour_gradients(
    behaviours: Sequence[Behaviour], network: nn.Module, layout: ParameterLayout, flat: Tensor
) -> Tensor:
    """(K, P) the gradient of each behaviour at θ `flat` (P,)."""
    network.eval()
    gradients = flat.new_empty(len(behaviours), flat.numel())
    for row, behaviour in zip(gradients, behaviours, strict=True):
        leaf = flat.detach().clone().requires_grad_()
        value = behaviour.values(network, layout.unflatten(leaf))
        row.copy_(torch.autograd.grad(value, leaf)[0])
    return gradients


def _margin(logits: Tensor, targets: Tensor) -> Tensor:
    own = logits.gather(1, targets[:, None])[:, 0]
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return own - others.logsumexp(1)


def _probability(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, labels[:, None])[:, 0]


def _completion_log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    counted = targets >= 0
    log_probability = logits.log_softmax(2).gather(2, targets.clamp_min(0)[..., None])[..., 0]
    return (log_probability * counted).sum(1)
