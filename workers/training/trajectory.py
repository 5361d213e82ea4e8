"""The recorded states of one training run: in memory up to a budget, then in safetensors files."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

DEFAULT_MEMORY_BUDGET = 1 << 30
LARGEST_BLOCK = 64 << 20


class TrajectoryError(ValueError):
    """A recorded run is missing, incomplete or belongs to another problem."""


@dataclass(frozen=True)
class TrainingState:
    """Everything a run needs to go on: the rows (1 + slots, P) before step number `step`."""

    step: int
    rows: Tensor
    epoch_losses: Tensor
    """(E, 2) float64: for each epoch so far the sums of wᵢℓᵢ and of wᵢ."""


@dataclass
class _Block:
    """Consecutive recorded states, in memory, in a file, or both."""

    steps: list[int]
    rows: Tensor | None
    epoch_losses: Tensor | None
    file: Path | None = None


class Trajectory:
    """States every `spacing` steps and after the last one.

    Without `spacing`, every state is kept when they all fit into `memory_budget` bytes, and every
    ⌈√T⌉-th otherwise; those that still exceed the budget go to files. With a `folder` all states
    go to files there as well, so that a killed run resumes: `Trajectory.open(folder)`.
    Without one, files lie in a temporary folder that goes with this object.
    """

    def __init__(
        self,
        *,
        spacing: int | None = None,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        folder: Path | None = None,
    ) -> None:
        if spacing is not None and spacing < 1:
            raise ValueError("spacing must be at least 1")
        self.memory_budget = memory_budget
        self.folder = folder
        self.number_of_steps = 0
        self._asked_spacing = spacing
        self._spacing = 0
        self._row_shape: tuple[int, ...] = ()
        self._item_bytes = 0
        self._block_length = 0
        self._keeps_blocks = True
        self._blocks: list[_Block] = []
        self._where: dict[int, tuple[_Block, int]] = {}

    @property
    def spacing(self) -> int:
        """Steps between recorded states; 0 before `begin`."""
        return self._spacing

    @property
    def steps(self) -> list[int]:
        """The recorded steps, ascending."""
        return sorted(self._where)

    @property
    def is_complete(self) -> bool:
        return self.number_of_steps in self._where

    def begin(self, number_of_steps: int, row_shape: tuple[int, ...], item_bytes: int) -> None:
        """Fixes the plan for T steps with states of `row_shape`.

        Raises TrajectoryError when already begun for another plan.
        """
        if self._spacing:
            if (number_of_steps, row_shape) != (self.number_of_steps, self._row_shape):
                raise TrajectoryError("the recorded run has another number of steps or parameters")
            return
        state_bytes = math.prod(row_shape) * item_bytes
        fits = (number_of_steps + 1) * state_bytes <= self.memory_budget
        square_root = math.isqrt(max(0, number_of_steps - 1)) + 1
        self._spacing = self._asked_spacing or (1 if fits else square_root)
        self.number_of_steps, self._row_shape = number_of_steps, tuple(row_shape)
        self._item_bytes = item_bytes
        recorded = -(-number_of_steps // self._spacing) + 1
        self._keeps_blocks = recorded * state_bytes <= self.memory_budget
        largest = (
            LARGEST_BLOCK if self._keeps_blocks else min(LARGEST_BLOCK, self.memory_budget // 4)
        )
        self._block_length = max(1, min(recorded, largest // state_bytes))
        if self.folder is None and not self._keeps_blocks:
            self.folder = Path(tempfile.mkdtemp(prefix="hunch-trajectory-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        if self.folder is not None:
            self._write_plan(self.folder)

    def record(self, step: int, rows: Tensor, epoch_losses: Tensor) -> None:
        """Keeps a copy of the state before step `step` if the plan asks for that one."""
        if (step % self._spacing and step != self.number_of_steps) or step in self._where:
            return
        block = self._blocks[-1] if self._blocks else None
        if block is None or block.rows is None or len(block.steps) == self._block_length:
            empty = torch.empty((self._block_length, *rows.shape), dtype=rows.dtype)
            block = _Block([], empty, None)
            self._blocks.append(block)
        assert block.rows is not None
        place = len(block.steps)
        block.rows[place] = rows.cpu()
        block.steps.append(step)
        self._where[step] = (block, place)
        is_last = step == self.number_of_steps
        if is_last or len(block.steps) == self._block_length:
            block.epoch_losses = epoch_losses.clone()
            if self.folder is not None:
                self._write_block(block, self.folder)
                if not self._keeps_blocks:
                    block.rows = None

    def rows(self, step: int) -> Tensor:
        """The recorded rows (1 + slots, P) before step `step`; not to be written to.

        Raises TrajectoryError when that state was not recorded.
        """
        if step not in self._where:
            raise TrajectoryError(f"the state before step {step} was not recorded")
        block, place = self._where[step]
        if block.rows is not None:
            return block.rows[place]
        with safe_open(block.file, framework="pt") as file:
            found: Tensor = file.get_slice("rows")[place]
        return found

    def last_state(self) -> TrainingState | None:
        """The newest state from which training can go on, or None before the first."""
        for block in reversed(self._blocks):
            if block.epoch_losses is not None:
                step = block.steps[-1]
                return TrainingState(step, self.rows(step).clone(), block.epoch_losses.clone())
        return None

    def segments(self) -> list[tuple[int, int]]:
        """(start, stop) steps between neighbouring recorded states, first to last."""
        steps = self.steps
        return list(itertools.pairwise(steps))

    def save(self, folder: Path) -> None:
        """Writes all recorded states to `folder`; files there are complete or absent."""
        folder.mkdir(parents=True, exist_ok=True)
        self._write_plan(folder)
        for block in self._blocks:
            if block.file is not None and block.file.parent == folder:
                continue
            if block.rows is None:
                assert block.file is not None
                _copy_aside(block.file, folder / block.file.name)
            else:
                self._write_block(block, folder)

    @classmethod
    def open(cls, folder: Path, memory_budget: int = DEFAULT_MEMORY_BUDGET) -> Trajectory:
        """The states in `folder`, to replay or to go on recording there.

        Raises TrajectoryError when the folder holds no recorded run.
        """
        plan_file = folder / "trajectory.json"
        if not plan_file.is_file():
            raise TrajectoryError(f"no recorded run in {folder.name}")
        plan = json.loads(plan_file.read_text())
        trajectory = cls(spacing=plan["spacing"], memory_budget=memory_budget, folder=folder)
        trajectory.begin(plan["number_of_steps"], tuple(plan["row_shape"]), plan["item_bytes"])
        for file in sorted(folder.glob("states-*.safetensors")):
            trajectory._adopt(file)
        return trajectory

    def _adopt(self, file: Path) -> None:
        with safe_open(file, framework="pt") as opened:
            steps = opened.get_tensor("steps").tolist()
            block = _Block(steps, None, opened.get_tensor("epoch_losses"), file)
        self._blocks.append(block)
        for place, step in enumerate(steps):
            self._where[step] = (block, place)

    def _write_plan(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        plan = {
            "spacing": self._spacing,
            "number_of_steps": self.number_of_steps,
            "row_shape": list(self._row_shape),
            "item_bytes": self._item_bytes,
        }
        aside = folder / "trajectory.json.partial"
        aside.write_text(json.dumps(plan))
        os.replace(aside, folder / "trajectory.json")

    def _write_block(self, block: _Block, folder: Path) -> None:
        assert block.rows is not None and block.epoch_losses is not None
        file = folder / f"states-{block.steps[0]:010d}.safetensors"
        write_tensors(
            file,
            {
                "steps": torch.tensor(block.steps),
                "rows": block.rows[: len(block.steps)].contiguous(),
                "epoch_losses": block.epoch_losses,
            },
        )
        if folder == self.folder:
            block.file = file


def write_tensors(
    file: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file aside and renames it, so that it is complete or absent."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(file.name + ".partial")
    save_file(tensors, aside, metadata)
    os.replace(aside, file)


def _copy_aside(source: Path, destination: Path) -> None:
    aside = destination.with_name(destination.name + ".partial")
    shutil.copyfile(source, aside)
    os.replace(aside, destination)
