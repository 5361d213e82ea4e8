"""Deterministic weighted training of one run, and the record of a finished run."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from workers.training.data_order import PADDING
from workers.training.optimizers import build_optimizer
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.program import TrainingProgram, deterministic
from workers.training.trajectory import (
    TrainingState,
    Trajectory,
    TrajectoryError,
    write_tensors,
)

Progress = Callable[[int, int], None]
PROGRESS_SECONDS = 0.1


@dataclass(frozen=True)
class TrainingRun:
    """One finished run: what was trained, from which seed and weights, and where it ended."""

    problem: TrainingProblem
    seed: int
    weights: Tensor | None
    """(N,) the example weights, or None when all were 1."""
    parameters: Tensor
    """θ after the last step (P,)."""
    layout: ParameterLayout
    learning_curve: tuple[float, ...]
    """For each epoch the weighted mean training loss, each example measured when it was visited."""
    trajectory: Trajectory | None = None
    seconds: float = 0.0

    @property
    def example_weights(self) -> Tensor:
        """(N,) in the recipe's precision."""
        return full_weights(self.problem, self.weights)

    def save(self, folder: Path) -> None:
        """Writes the run, with its trajectory if it has one; `run.json` comes last, so that its
        presence means that all is there. The problem itself is not written."""
        if self.trajectory is not None:
            self.trajectory.save(folder)
        tensors = {"parameters": self.parameters}
        if self.weights is not None:
            tensors["weights"] = self.weights
        write_tensors(folder / "run.safetensors", tensors)
        described = {
            "problem": self.problem.fingerprint,
            "seed": self.seed,
            "layout": self.layout.to_json(),
            "learning_curve": list(self.learning_curve),
            "recorded": self.trajectory is not None,
            "seconds": self.seconds,
        }
        aside = folder / "run.json.partial"
        aside.write_text(json.dumps(described))
        os.replace(aside, folder / "run.json")

    @classmethod
    def load(cls, folder: Path, problem: TrainingProblem) -> TrainingRun:
        """The run that was saved in `folder`.

        Raises TrajectoryError when it is incomplete or was trained on another problem.
        """
        if not (folder / "run.json").is_file():
            raise TrajectoryError(f"no finished run in {folder.name}")
        described = json.loads((folder / "run.json").read_text())
        if described["problem"] != problem.fingerprint:
            raise TrajectoryError("the saved run was trained on another problem")
        tensors = load_file(folder / "run.safetensors")
        trajectory = Trajectory.open(folder) if described["recorded"] else None
        return cls(
            problem,
            described["seed"],
            tensors.get("weights"),
            tensors["parameters"],
            ParameterLayout.from_json(described["layout"]),
            tuple(described["learning_curve"]),
            trajectory,
            described["seconds"],
        )


def train(
    problem: TrainingProblem,
    seed: int,
    weights: Tensor | None = None,
    *,
    trajectory: Trajectory | None = None,
    progress: Progress | None = None,
    start: TrainingState | None = None,
) -> TrainingRun:
    """Trains one run; the same arguments give bitwise the same parameters on the same machine.

    `weights` (N,) default to 1. `trajectory` records the states; one that already holds some
    (`Trajectory.open`) goes on from the last, as does `start`. `progress(done, total)` counts
    steps. Raises ValueError for weights of a wrong shape or not finite.
    """
    began = time.perf_counter()
    program = TrainingProgram(problem, seed)
    optimizer = build_optimizer(problem.recipe, problem.number_of_steps)
    state = start or (trajectory.last_state() if trajectory is not None else None)
    if state is None:
        state = TrainingState(
            0,
            optimizer.initial_rows(program.parameters),
            torch.zeros(problem.recipe.epochs, 2, dtype=torch.float64),
        )
    rows, epoch_losses = state.rows.clone().to(program.device), state.epoch_losses.clone()
    program.bind(rows[0])
    used_weights = full_weights(problem, weights)
    if trajectory is not None:
        trajectory.begin(problem.number_of_steps, tuple(rows.shape), rows.element_size())
    order = problem.batch_order(seed)
    report = Throttle(progress, problem.number_of_steps)
    with deterministic():
        for step in range(state.step, problem.number_of_steps):
            if trajectory is not None:
                trajectory.record(step, rows, epoch_losses)
            indices = present(order[step])
            batch_weights = used_weights[indices]
            with step_randomness(problem, seed, step):
                gradient, losses = program.gradient(problem.examples.select(indices), batch_weights)
            optimizer.step(rows, gradient, step)
            epoch = epoch_losses[step // problem.steps_per_epoch]
            epoch[0] += torch.dot(losses, batch_weights)
            epoch[1] += batch_weights.sum()
            report(step + 1)
    if trajectory is not None:
        trajectory.record(problem.number_of_steps, rows, epoch_losses)
    return TrainingRun(
        problem,
        seed,
        None if weights is None else used_weights.clone(),
        rows[0].clone().cpu(),
        program.layout,
        _learning_curve(epoch_losses),
        trajectory,
        time.perf_counter() - began,
    )


def full_weights(problem: TrainingProblem, weights: Tensor | None) -> Tensor:
    """(N,) weights in the recipe's precision, all 1 for None. Raises ValueError if unusable."""
    number = len(problem.train)
    if weights is None:
        return torch.ones(number, dtype=problem.dtype)
    if tuple(weights.shape) != (number,):
        raise ValueError(f"{number} weights are needed, not {tuple(weights.shape)}")
    if not torch.isfinite(weights).all():
        raise ValueError("a weight is not finite")
    return weights.detach().to(problem.dtype)


def present(indices: Tensor) -> Tensor:
    """The example indices of one step without its padding, which always comes last."""
    if indices[-1] != PADDING:
        return indices
    return indices[indices != PADDING]


class step_randomness:
    """Seeds dropout masks by (seed, step) for the length of a block; nothing without dropout."""

    def __init__(self, problem: TrainingProblem, seed: int, step: int) -> None:
        self.active = problem.recipe.dropout > 0
        self.key = f"dropout {seed} {step}"

    def __enter__(self) -> None:
        if self.active:
            self.saved = torch.get_rng_state()
            digest = hashlib.sha256(self.key.encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:8], "little") >> 1)

    def __exit__(self, *_: object) -> None:
        if self.active:
            torch.set_rng_state(self.saved)


class Throttle:
    """Reports at most every tenth of a second, and the end always."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress = progress
        self.total = total
        self.next_time = 0.0

    def __call__(self, done: int) -> None:
        if self.progress is None:
            return
        now = time.monotonic()
        if now >= self.next_time or done == self.total:
            self.next_time = now + PROGRESS_SECONDS
            self.progress(done, self.total)


def _learning_curve(epoch_losses: Tensor) -> tuple[float, ...]:
    return tuple((epoch_losses[:, 0] / epoch_losses[:, 1]).tolist())
