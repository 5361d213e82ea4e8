"""What training tells of each example's own label: signals that `workers.evidence.label_errors`
ranks by. Nothing here decides; a signal is a hint for a reader's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    """Signals of N training examples for each of S seeds, (S, N) each.

    self_influence: Σ over checkpoints of the learning rate times |∇ℓᵢ|² (TracIn, Pruthi et al.
    2020), how much the model learns the label from the example itself.
    loss: the mean over checkpoints.
    margin: the mean over checkpoints of the label's output less the largest other one (area under
    the margin, Pleiss et al. 2020); None for regression.
    disagreement: the loss under models trained without the example, by folds.
    """

    self_influence: Array
    loss: Array
    margin: Array | None
    disagreement: Array
    held_out_outputs: Array
    """(N, C) mean over seeds of the probabilities (or regression outputs) without the example."""

    def by_name(self) -> dict[str, Array]:
        """As `rank_label_errors` takes them."""
        named = {
            "self_influence": self.self_influence,
            "loss": self.loss,
            "disagreement": self.disagreement,
        }
        return named if self.margin is None else {**named, "margin": self.margin}


def label_signals(
    problem: TrainingProblem,
    seeds: Sequence[int],
    *,
    folds: int = FOLDS,
    progress: Progress | None = None,
) -> LabelSignals:
    """Trains each seed once whole, looked at in up to five epochs, and `folds` times without one
    fold of the examples.

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

    losses, outputs = _held_out(problem, seeds, folds, held_out_progress)
    margins = [margin for _, _, margin in inside if margin is not None]
    return LabelSignals(
        self_influence=np.stack([squares for squares, _, _ in inside]),
        loss=np.stack([loss for _, loss, _ in inside]),
        margin=np.stack(margins) if margins else None,
        disagreement=losses,
        held_out_outputs=outputs,
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


def _held_out(
    problem: TrainingProblem, seeds: Sequence[int], folds: int, progress: Progress
) -> tuple[Array, Array]:
    """(S, N) losses and (N, C) mean outputs of models that never saw the example."""
    count = len(problem.train)
    fold = torch.from_numpy(np.random.default_rng(0).permutation(count) % folds)
    weights = torch.stack([(fold != part).float() for part in range(folds)])
    runs = [(seed, part) for seed in seeds for part in range(folds)]
    finals = train_many(
        problem,
        [seed for seed, _ in runs],
        weights[[part for _, part in runs]],
        progress=progress,
    )
    losses = np.zeros((len(seeds), count))
    outputs: Tensor | None = None
    for (seed, part), final in zip(runs, finals, strict=True):
        found = _outputs(Linearised(problem, seed, final))
        own = (fold == part).numpy()
        targets = problem.examples.targets
        losses[list(seeds).index(seed), own] = LOSSES[problem.loss](found, targets).numpy()[own]
        shown = found.softmax(1) if problem.loss == "cross_entropy" else found
        outputs = torch.zeros_like(shown, dtype=torch.float64) if outputs is None else outputs
        outputs[own] += shown[own].double() / len(seeds)
    assert outputs is not None
    return losses, np.asarray(outputs.numpy(), np.float64)


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
