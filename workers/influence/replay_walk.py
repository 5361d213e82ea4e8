"""The backward walk over one recorded run: the cotangents, the guard, and resuming after a kill."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from workers.influence.behaviours import Behaviour, behaviour_gradients
from workers.training.optimizers import build_optimizer
from workers.training.program import TrainingProgram, deterministic
from workers.training.trainer import TrainingRun, present
from workers.training.trajectory import Trajectory, write_tensors

GUARD_STEPS = 16
SAVE_SECONDS = 10.0
PROGRESS_SECONDS = 0.1


class BlowUp(ArithmeticError):
    """The cotangents of a run exploded; the message says of which behaviour, when, how far."""


class BackwardWalk:
    """Walks one run backwards for K behaviours at once.

    `scores` (K, N) and `cotangents` (1 + slots, K, P) hold what the steps walked so far gave.
    Raises BlowUp from `finish` when a cotangent of θ is not finite or outgrows its first norm by
    `growth_limit`. With a `work_folder`, `finish` saves at segment boundaries at most every ten
    seconds and at the end, and a new walk of the same run and behaviours starts from there.
    """

    def __init__(
        self,
        run: TrainingRun,
        behaviours: Sequence[Behaviour],
        growth_limit: float,
        *,
        work_folder: Path | None = None,
        memory_budget: int = 1 << 30,
    ) -> None:
        assert run.trajectory is not None
        self.run = run
        self.trajectory: Trajectory = run.trajectory
        self.growth_limit = growth_limit
        self.program = TrainingProgram(run.problem, run.seed)
        self.optimizer = build_optimizer(run.problem.recipe, run.problem.number_of_steps)
        self.order = run.problem.batch_order(run.seed)
        self.weights = run.example_weights
        gradients = behaviour_gradients(
            behaviours, self.program.network, self.program.layout, run.parameters
        )
        self.cotangents = self.optimizer.initial_rows(gradients)
        self.first_norms = gradients.norm(dim=1)
        self.largest_growth = torch.ones_like(self.first_norms)
        self.scores = torch.zeros(len(behaviours), len(run.problem.train), dtype=gradients.dtype)
        self.step = run.problem.number_of_steps
        self.file = None if work_folder is None else work_folder / self._file_name(gradients)
        self._resume()

    def finish(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Walks to the first step. Raises BlowUp; nothing half-written is left behind."""
        total = self.run.problem.number_of_steps
        saved, reported = time.monotonic(), 0.0
        with deterministic():
            for start, stop in reversed(self.trajectory.segments()):
                if stop > self.step:
                    continue
                self._walk_segment(start, stop)
                now = time.monotonic()
                if start % GUARD_STEPS == 0 or stop - start > 1:
                    self._guard()
                if self.file is not None and now - saved > SAVE_SECONDS:
                    self._save()
                    saved = now
                if progress is not None and (now - reported > PROGRESS_SECONDS or start == 0):
                    progress(total - self.step, total)
                    reported = now
        self._guard()
        if self.file is not None:
            self._save()

    def _walk_segment(self, start: int, stop: int) -> None:
        states = self._states(start, stop)
        while states:
            self.step -= 1
            self._walk_step(states.pop())

    def _states(self, start: int, stop: int) -> list[Tensor]:
        """The rows before each step in [start, stop), recomputed from the one at `start`."""
        states = [self.trajectory.rows(start).to(self.program.device)]
        for step in range(start, stop - 1):
            rows = states[-1].clone()
            indices = present(self.order[step])
            self.program.parameters.copy_(rows[0])
            gradient, _ = self.program.gradient(
                self.run.problem.examples.select(indices), self.weights[indices]
            )
            self.optimizer.step(rows, gradient, step)
            states.append(rows)
        return states

    def _walk_step(self, rows: Tensor) -> None:
        indices = present(self.order[self.step])
        self.program.parameters.copy_(rows[0])
        step = self.program.differentiate(
            self.run.problem.examples.select(indices), self.weights[indices]
        )
        pulled = self.optimizer.pullback(rows, step.gradient, self.cotangents, self.step)
        self._visit(indices, pulled)
        by_parameters, by_weights = step.pull(pulled)
        self.cotangents[0] += by_parameters
        self.scores.index_add_(1, indices, by_weights.cpu())

    def _visit(self, indices: Tensor, pulled: Tensor) -> None:
        """Sees each step's examples and the cotangents (K, P) of its gradient, the network being at
        the step's parameters; for finer scores than an example's."""

    def _guard(self) -> None:
        growth = self.cotangents[0].norm(dim=1) / self.first_norms.clamp_min(1e-30)
        self.largest_growth = torch.maximum(self.largest_growth, growth)
        bad = ~(growth <= self.growth_limit)
        if bad.any():
            behaviour = int(bad.nonzero()[0])
            raise BlowUp(
                f"the derivative of behaviour {behaviour + 1} grew {float(growth[behaviour]):.3g} "
                f"times by step {self.step} on the way back (limit {self.growth_limit:.3g}): "
                "this run's training is too sensitive to be differentiated; warm-up steps, a "
                "smaller learning rate or a larger epsilon make it smoother"
            )

    def _file_name(self, gradients: Tensor) -> str:
        """Named by run and behaviours, so that a stale file is never taken for this walk's."""
        digest = hashlib.sha256(self.run.problem.fingerprint.encode())
        for tensor in (self.weights, self.run.parameters, gradients):
            digest.update(tensor.contiguous().cpu().numpy().tobytes())
        return f"replay-{self.run.seed}-{digest.hexdigest()[:24]}.safetensors"

    def _save(self) -> None:
        assert self.file is not None
        write_tensors(
            self.file,
            {
                "cotangents": self.cotangents.cpu(),
                "scores": self.scores,
                "largest_growth": self.largest_growth.cpu(),
                "step": torch.tensor(self.step),
            },
        )

    def _resume(self) -> None:
        if self.file is None or not self.file.is_file():
            return
        saved = load_file(self.file)
        device = self.program.device
        self.cotangents, self.scores = saved["cotangents"].to(device), saved["scores"]
        self.largest_growth = saved["largest_growth"].to(device)
        self.step = int(saved["step"])


def blow_up_words(behaviour: int, growth: float, step: int, limit: float) -> str:
    """Why a seed is left out, for the user; `behaviour` counts from 0."""
    return (
        f"the derivative of behaviour {behaviour + 1} grew {growth:.3g} times by step {step} on "
        f"the way back (limit {limit:.3g}): this run's training is too sensitive to be "
        "differentiated"
    )
