"""What training tells of each example's own label: signals that `workers.evidence.label_errors`
ranks by. Nothing here decides; a signal is a hint for a reader's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.influence.feature_signals import (
    last_features,
    linear_model_loss,
    neighbour_disagreement,
    standardised,
)
from workers.influence.interface import Progress
from workers.influence.linearised import Linearised
from workers.training.batched import train_many
from workers.training.losses import LOSSES
from workers.training.optimizers import learning_rates
from workers.training.problem import TrainingProblem
from workers.training.trainer import train
from workers.training.trajectory import Trajectory

Array = NDArray[np.float64]
FOLDS = 5
MOST_CHECKPOINTS = 5
EXAMPLES_AT_ONCE = 1024


class NoLabels(ValueError):
    """The problem has no labels that could be wrong."""


@dataclass(frozen=True)
class LabelSignals:
    """Signals of N training examples for each of S seeds, (S, N) each, or (1, N) without seeds.

    self_influence: Σ over checkpoints of the learning rate times |∇ℓᵢ|² (TracIn, Pruthi et al.
    2020), how much the model learns the label from the example itself.
    loss: the mean over checkpoints.
    margin: the mean over checkpoints of the label's output less the largest other one (area under
    the margin, Pleiss et al. 2020); None for regression.
    disagreement: the loss under models trained without the example, by folds.
    neighbours: how far the nearest other examples' labels are, by features of models trained
    without the example or by features that no label decided.
    linear_model: the loss under a linear model on such features, fitted without the example; None
    without them, and for regression.
    """

    self_influence: Array
    loss: Array
    margin: Array | None
    disagreement: Array
    neighbours: Array
    linear_model: Array | None
    held_out_outputs: Array
    """(N, C) mean over seeds of the probabilities (or regression outputs) without the example."""

    def by_name(self) -> dict[str, Array]:
        """As `rank_label_errors` takes them."""
        named = {
            "self_influence": self.self_influence,
            "loss": self.loss,
            "disagreement": self.disagreement,
            "neighbours": self.neighbours,
        }
        optional = {"margin": self.margin, "linear_model": self.linear_model}
        return named | {name: found for name, found in optional.items() if found is not None}


def label_signals(
    problem: TrainingProblem,
    seeds: Sequence[int],
    *,
    folds: int = FOLDS,
    features: Tensor | None = None,
    progress: Progress | None = None,
) -> LabelSignals:
    """Trains each seed once whole, looked at in up to five epochs, and `folds` times without one
    fold of the examples, a seed its own folds.

    `features` (N, H) are ones that no label decided, such as an encoder's; None takes the problem's
    own where its inputs are such features, else what enters the last layer of the models trained
    without the example.

    Cost for each seed: `folds` + 1 training runs and five passes of per-example gradients.
    Raises NoLabels for next-token problems. `progress` counts runs and may raise.
    """
    if problem.loss == "next_token":
        raise NoLabels("texts without labels cannot have wrong ones")
    total = len(seeds) * (folds + 1)
    inside = []
    for number, seed in enumerate(seeds):
        inside.append(_during_training(problem, seed))
        if progress is not None:
            progress(number + 1, total)

    def held_out_progress(done: int, of: int) -> None:
        if progress is not None:
            progress(len(seeds) + (total - len(seeds)) * done // of, total)

    if features is None:
        features = problem.examples.inputs.get("features")
    held_out = _held_out(problem, seeds, folds, features is None, held_out_progress)
    margins = [margin for _, _, margin in inside if margin is not None]
    found = LabelSignals(
        self_influence=np.stack([squares for squares, _, _ in inside]),
        loss=np.stack([loss for _, loss, _ in inside]),
        margin=np.stack(margins) if margins else None,
        disagreement=held_out.losses,
        neighbours=held_out.neighbours,
        linear_model=None,
        held_out_outputs=held_out.outputs,
    )
    targets = problem.examples.targets
    return found if features is None else with_features(found, features, targets, folds)


def with_features(
    signals: LabelSignals, features: Tensor, targets: Tensor, folds: int = FOLDS
) -> LabelSignals:
    """With neighbours and linear model by features (N, H) that no label decided."""
    everyone = np.arange(len(targets))
    numbers = targets.is_floating_point()
    return replace(
        signals,
        neighbours=neighbour_disagreement(features, targets, everyone, everyone)[None],
        linear_model=None if numbers else linear_model_loss(features, targets, folds)[None],
    )


def _during_training(problem: TrainingProblem, seed: int) -> tuple[Array, Array, Array | None]:
    """(N,) self-influence, loss and margin of one seed, over checkpoints at the ends of epochs."""
    trajectory = Trajectory(spacing=problem.steps_per_epoch)
    train(problem, seed, trajectory=trajectory)
    epochs = np.unique(np.linspace(1, problem.recipe.epochs, MOST_CHECKPOINTS).round().astype(int))
    rates = learning_rates(problem.recipe, problem.number_of_steps)
    count = len(problem.train)
    squares, losses, margins = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
    for epoch in epochs:
        step = int(epoch) * problem.steps_per_epoch
        at = Linearised(problem, seed, trajectory.rows(step)[0])
        rate = float(np.mean(rates[step - problem.steps_per_epoch : step]))
        for indices in at.chunks():
            gradients = at.loss_gradients(at.train.select(indices))
            squares[indices] += rate * gradients.double().square().sum(1)
        outputs = _outputs(at)
        losses += LOSSES[problem.loss](outputs, problem.examples.targets).double()
        if problem.loss == "cross_entropy":
            margins += _margins(outputs, problem.examples.targets)
    number = len(epochs)
    found = None if problem.loss != "cross_entropy" else (margins / number).numpy()
    return squares.numpy(), (losses / number).numpy(), found


@dataclass(frozen=True)
class _HeldOut:
    """Of models that never saw the example."""

    losses: Array  # (S, N)
    neighbours: Array  # (S, N)
    outputs: Array  # (N, C) mean over seeds


def _held_out(
    problem: TrainingProblem,
    seeds: Sequence[int],
    folds: int,
    with_neighbours: bool,
    progress: Progress,
) -> _HeldOut:
    count, targets = len(problem.train), problem.examples.targets
    fold_of = {
        seed: np.random.default_rng([seed, folds]).permutation(count) % folds for seed in seeds
    }
    runs = [(seed, part) for seed in seeds for part in range(folds)]
    weights = torch.stack([torch.from_numpy(fold_of[seed] != part).float() for seed, part in runs])
    finals = train_many(problem, [seed for seed, _ in runs], weights, progress=progress)
    losses, neighbours = np.zeros((len(seeds), count)), np.zeros((len(seeds), count))
    outputs: Tensor | None = None
    for (seed, part), final in zip(runs, finals, strict=True):
        row, own = list(seeds).index(seed), fold_of[seed] == part
        at = Linearised(problem, seed, final)
        with last_features(at.network) as pieces:
            found = _outputs(at)
        losses[row, own] = LOSSES[problem.loss](found, targets).numpy()[own]
        if with_neighbours:
            queries, references = np.flatnonzero(own), np.flatnonzero(~own)
            features = standardised(torch.cat(pieces), references)
            neighbours[row, own] = neighbour_disagreement(features, targets, queries, references)
        shown = found.softmax(1) if problem.loss == "cross_entropy" else found
        outputs = torch.zeros_like(shown, dtype=torch.float64) if outputs is None else outputs
        outputs[own] += shown[own].double() / len(seeds)
    assert outputs is not None
    return _HeldOut(losses, neighbours, np.asarray(outputs.numpy(), np.float64))


def _outputs(at: Linearised) -> Tensor:
    """(N, C) of all training examples."""
    pieces: list[Any] = []
    with torch.no_grad():
        for indices in torch.arange(len(at.train)).split(EXAMPLES_AT_ONCE):
            pieces.append(at.outputs(at.train.select(indices).inputs))
    return torch.cat(pieces)


def _margins(outputs: Tensor, targets: Tensor) -> Tensor:
    own = outputs.gather(1, targets[:, None])[:, 0]
    others = outputs.scatter(1, targets[:, None], -torch.inf).amax(1)
    return (own - others).double()
