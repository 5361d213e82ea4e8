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
    "completion_mean_log_probability": "nats a token",
    "completion_preference": "nats",
    "perplexity": "perplexity",
    "token_class_probability": "probability",
}
HIGHER_IS_BETTER: dict[str, bool] = {
    "mean_loss": False,
    "mean_margin": True,
    "label_probability": True,
    "completion_log_probability": True,
    "completion_mean_log_probability": True,
    "completion_preference": True,
    "perplexity": False,
    "token_class_probability": True,
}
FITTING_LOSS = {"mean_margin": "cross_entropy", "label_probability": "cross_entropy"}
FITTING_LOSS |= dict.fromkeys(list(UNITS)[3:], "next_token")
TOKENS_AT_ONCE = 2_048
"""Of a language model's probe texts in one pass, whose scores are tokens × vocabulary numbers."""


@dataclass(frozen=True)
class Behaviour:
    """A scalar of the trained model on probe examples: for most kinds the mean over them of

    mean_loss: the training loss (nats, or squared units for regression).
    mean_margin: z_y - log Σ_{c≠y} exp z_c, the log-odds of the target class (Park 2023, eq. 4).
    label_probability: softmax probability of `label`; of each example's own target when None.
    completion_log_probability: Σ over the completion's tokens of log p.
    completion_mean_log_probability: the same, divided by the number of its tokens.
    completion_preference: log p of the completion less log p of the one in `alternatives`, which
    has a row for each example.
    perplexity: exp(-Σ log p / tokens) over all counted tokens of all examples together.
    token_class_probability: that the text goes on with one of several continuations, Σ exp log p,
    mean over prompts. `prompts` (M,) int64 says which prompt each example continues, numbered from
    0 without a gap; no continuation may begin with another of the same prompt
    (`without_extensions`), so that they exclude each other.

    Several prompts, such as paraphrases of one question, are one behaviour; `per_prompt` shows how
    they spread around it.
    """

    kind: str
    examples: EncodedExamples
    label: int | None = None
    alternatives: EncodedExamples | None = None
    prompts: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in UNITS:
            raise ValueError(f"unknown behaviour “{self.kind}”; known: {', '.join(UNITS)}")
        if len(self.examples) == 0:
            raise ValueError("a behaviour needs at least one probe example")
        fitting = FITTING_LOSS.get(self.kind)
        if fitting and loss_for_targets(self.examples.targets) != fitting:
            raise ValueError(f"behaviour “{self.kind}” does not fit the targets of its examples")
        if (self.kind == "completion_preference") != (self.alternatives is not None):
            raise ValueError("alternatives belong to a completion_preference, and it needs them")
        if (self.kind == "token_class_probability") != (self.prompts is not None):
            raise ValueError("prompts belong to a token_class_probability, and it needs them")
        for name, rows in (("alternatives", self.alternatives), ("prompts", self.prompts)):
            if rows is not None and len(rows) != len(self.examples):
                raise ValueError(f"{len(self.examples)} {name} are needed, not {len(rows)}")

    @property
    def unit(self) -> str:
        return UNITS[self.kind]

    def values(self, network: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        """() the behaviour at the named `parameters`, differentiable in them."""
        return self.of_examples(self.per_example(network, parameters))

    def per_example(
        self,
        network: nn.Module,
        parameters: Mapping[str, Tensor],
        indices: Tensor | None = None,
    ) -> Tensor:
        """(M,) what is measured on each probe example, or on those at `indices`, differentiable in
        `parameters`: the quantities of the class, but log p for the last two kinds."""
        own = _outputs(self.examples, network, parameters, indices)
        if self.alternatives is None:
            return self._quantity(*own)
        other = _outputs(self.alternatives, network, parameters, indices)
        return _log_probability(*own) - _log_probability(*other)

    def of_examples(self, found: Tensor) -> Tensor:
        """() the behaviour, from all of `per_example` (M,)."""
        if self.kind == "perplexity":
            return torch.exp(-found.sum() / self._token_counts().sum().to(found.device))
        return self.per_prompt(found).mean()

    def per_prompt(self, found: Tensor) -> Tensor:
        """The behaviour's value on each prompt alone, from all of `per_example` (M,)."""
        if self.kind == "perplexity":
            return torch.exp(-found / self._token_counts().to(found.device))
        if self.prompts is None:
            return found
        totals = found.new_zeros(int(self.prompts.max()) + 1)
        return totals.index_add(0, self.prompts.to(found.device), found.exp())

    def chunks(self) -> tuple[Tensor, ...]:
        """The examples in parts that one forward pass can hold."""
        targets = self.examples.targets
        length = len(targets)
        if targets.ndim == 2:
            length = max(1, TOKENS_AT_ONCE // max(1, targets.shape[1]))
        parts: tuple[Tensor, ...] = torch.arange(len(targets)).split(length)
        return parts

    def _quantity(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.kind == "mean_loss":
            return LOSSES[loss_for_targets(targets)](outputs, targets)
        if self.kind == "mean_margin":
            return _margin(outputs, targets)
        if self.kind == "label_probability":
            labels = targets if self.label is None else torch.full_like(targets, self.label)
            return _probability(outputs, labels)
        found = _log_probability(outputs, targets)
        if self.kind == "completion_mean_log_probability":
            return found / (targets >= 0).sum(1).clamp_min(1)
        return found

    def _token_counts(self) -> Tensor:
        return (self.examples.targets >= 0).sum(1).clamp_min(1)


def without_extensions(examples: EncodedExamples, prompts: Tensor) -> Tensor:
    """The indices (R,) of the continuations that do not begin with another one of their prompt:
    a text that goes on with “nothing” has already gone on with “no”, where “no” is a token of it.
    `prompts` (M,) is as in `Behaviour`."""
    rows = [tuple(row[row >= 0].tolist()) for row in examples.targets]
    owners = prompts.tolist()
    first: dict[tuple[int, tuple[int, ...]], int] = {}
    for place, key in enumerate(zip(owners, rows, strict=True)):
        first.setdefault(key, place)
    return torch.tensor(
        [
            place
            for (owner, row), place in first.items()
            if not any((owner, row[:length]) in first for length in range(1, len(row)))
        ]
    )


def behaviour_values(
    behaviours: Sequence[Behaviour], network: nn.Module, layout: ParameterLayout, flat: Tensor
) -> Tensor:
    """(K,) all behaviours at θ `flat` (P,), without gradients, on the device of `flat`."""
    network.eval()
    parameters = layout.unflatten(flat.to(_device_of(network)))
    return torch.stack(
        [one.of_examples(_all_examples(one, network, parameters)) for one in behaviours]
    ).to(flat.device)


def behaviour_prompt_values(
    behaviours: Sequence[Behaviour], network: nn.Module, layout: ParameterLayout, flat: Tensor
) -> list[Tensor]:
    """For each behaviour its value on each of its prompts alone, without gradients."""
    network.eval()
    parameters = layout.unflatten(flat.to(_device_of(network)))
    return [one.per_prompt(_all_examples(one, network, parameters)).cpu() for one in behaviours]


def behaviour_gradients(
    behaviours: Sequence[Behaviour], network: nn.Module, layout: ParameterLayout, flat: Tensor
) -> Tensor:
    """(K, P) the gradient of each behaviour at θ `flat` (P,), on the network's device."""
    network.eval()
    flat = flat.to(_device_of(network))
    gradients = flat.new_zeros(len(behaviours), flat.numel())
    for row, behaviour in zip(gradients, behaviours, strict=True):
        chunks = behaviour.chunks()
        slopes = None
        if len(chunks) > 1:
            # ∂value/∂(each example's quantity), so that the chunks' gradients add up.
            found = _all_examples(behaviour, network, layout.unflatten(flat)).requires_grad_()
            slopes = torch.autograd.grad(behaviour.of_examples(found), found)[0]
        for indices in chunks:
            leaf = flat.detach().clone().requires_grad_()
            part = behaviour.per_example(network, layout.unflatten(leaf), indices)
            value = (
                behaviour.of_examples(part) if slopes is None else torch.dot(slopes[indices], part)
            )
            row += torch.autograd.grad(value, leaf)[0]
    return gradients


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _all_examples(
    behaviour: Behaviour, network: nn.Module, parameters: Mapping[str, Tensor]
) -> Tensor:
    with torch.no_grad():
        return torch.cat(
            [behaviour.per_example(network, parameters, part) for part in behaviour.chunks()]
        )


def _outputs(
    examples: EncodedExamples,
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    indices: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The network's outputs on the examples and their targets, in the parameters' precision."""
    if indices is not None:
        examples = examples.select(indices)
    like = next(iter(parameters.values()))
    examples = examples.to_dtype(like.dtype).to(like.device)
    return functional_call(network, dict(parameters), (), examples.inputs), examples.targets


def _margin(logits: Tensor, targets: Tensor) -> Tensor:
    own = logits.gather(1, targets[:, None])[:, 0]
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return own - others.logsumexp(1)


def _probability(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.softmax(1).gather(1, labels[:, None])[:, 0]


def _log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    counted = targets >= 0
    log_probability = logits.log_softmax(2).gather(2, targets.clamp_min(0)[..., None])[..., 0]
    return (log_probability * counted).sum(1)
