"""TRAK (Park et al. 2023): influence functions on randomly projected gradients that are computed
once, kept on disk and reused for every behaviour.

With φᵢ = Rᵀ∇ℓᵢ for a random R (P, k), E[R Rᵀ] = I, and H_R = Rᵀ H R the projected generalised
Gauss–Newton matrix, score_i = -(Rᵀ∇b) · (H_R + λI)⁻¹ φᵢ / n: the scores of the method `curvature`
with every product of two gradients replaced by its projected estimate, hence in the same unit, with
the same damping, and equal to them at k = P. TRAK itself leaves out the curvature of the loss, the
damping and n, so that its scores have no scale.

H_R is summed from the square roots of each example's curvature while the number of outputs allows
it, and otherwise from gradients at targets drawn from the model's own distribution, whose expected
square is the same matrix (Martens 2020, section 9.2); the fewer the examples, the more draws each.

The estimate needs k well above the effective dimension tr H(H + λI)⁻¹, which is reported.

Cost for each seed: one epoch of forward passes and of backward passes for C cotangents of each
example (C classes, 1 for two classes and regression, 1 + draws where targets are sampled), N C k²
for H_R, and a decomposition of order k. A further behaviour costs its gradient and N k. No
trajectory is needed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from workers.influence.behaviours import Behaviour
from workers.influence.checkpoint_method import SAMPLE
from workers.influence.damped_method import DampedMethod, penalty
from workers.influence.damping import training_time_damping
from workers.influence.gauss_newton import Eigendecomposition
from workers.influence.gradient_store import GradientStore, content_key
from workers.influence.interface import Cost, InfluenceScores, Progress
from workers.influence.linearised import Linearised
from workers.influence.projected_gradients import (
    ProjectedBatch,
    draws_each,
    draws_of_block,
    is_sampled,
    project_batch,
)
from workers.influence.projection import Projection, examples_that_fit, projection_of
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun

SMALLEST_DIMENSION, LARGEST_DIMENSION = 256, 2_048
STORE_BYTES = 8 << 30
"""Of one seed's gradients, which the default dimension keeps to."""
BYTES = {"float16": 2, "float32": 4, "float64": 8}
DAMPING_NUMBERS = 1 << 29
"""Of the gradients that are read for the default damping."""
DECOMPOSING = 3e-10
"""Seconds for each of k³, measured on one core."""
VERSION = 1
"""Of the content of a store; raise it when the same inputs give other rows."""


@dataclass(frozen=True)
class ProjectedRun:
    """One run with its projection and its store."""

    run: TrainingRun
    at: Linearised
    projection: Projection
    store: GradientStore

    def compute(self, block: int, examples_at_a_time: int | None = None) -> None:
        """Writes a block, unless it is there."""
        if self.store.is_finished(block):
            return
        at, rows = self.at, self.store.rows_of(block)
        indices = torch.arange(rows.start, rows.stop)
        each = draws_each(len(at.train), self.store.dimension)
        draws = draws_of_block(at, self.run.seed, block, (len(indices), each))
        length = examples_at_a_time or examples_that_fit(self.projection, 2)
        gradients = at.parameters.new_empty(len(rows), self.store.dimension)
        curvature = torch.zeros(self.store.dimension, self.store.dimension, dtype=torch.float64)
        for part in torch.arange(len(rows)).split(length):
            batch = ProjectedBatch(
                at.train.select(indices[part]), None if draws is None else draws[part]
            )
            found, roots = project_batch(at, self.projection, batch)
            gradients[part] = found
            scale = (at.weights[indices[part]].clamp_min(0) / at.denominator).sqrt()
            flat = (roots * scale[:, None]).flatten(0, 1)
            curvature += (flat.T @ flat).double()
        self.store.write(block, gradients, curvature)

    def describe(self, values: Tensor, damping: float, lengths: Tensor) -> dict[str, Any]:
        """What is worth knowing about scores with a full `damping`, for the eigenvalues (k,) of
        H_R and the lengths (K,) of the projected behaviours' gradients in units of their own."""
        size, dimension = self.at.parameters.numel(), self.store.dimension
        effective = float((values / (values + damping)).sum())
        known = {
            "parameters": size,
            "projection": self.projection.describe(),
            "curvature": "sampled" if is_sampled(self.at) else "exact",
            "effective_dimension": effective,
            "projected_lengths": [float(lengths.min()), float(lengths.max())],
        }
        if dimension < min(4 * effective, size):
            known["warning"] = (
                f"The dimension {dimension} is less than four times the effective dimension "
                f"{effective:.0f}: the scores are noisy and too small."
            )
        return known

    def products(self, rows: Tensor) -> Tensor:
        """(K, N) of `rows` (K, k) with every example's projected gradient."""
        found = rows.new_empty(len(rows), self.store.rows)
        for block in range(self.store.number_of_blocks):
            covered = self.store.rows_of(block)
            found[:, covered.start : covered.stop] = rows @ self.store.read(block).to(rows.dtype).T
        return found


class Projected(DampedMethod):
    """See the module.

    `dimension` k; None takes the largest power of two from 256 to 2,048 that is at most 4 N and
    keeps a seed's gradients within 8 GiB. `projection` is “auto”, “dense” or “structured”.
    `damping` λ; None takes the run's `training_time_damping`. `storage` is float16, float32 or
    float64. With a `folder`, the gradients stay there for the next call; without one they are
    deleted after it.
    """

    name: ClassVar[str] = "projected"
    title: ClassVar[str] = "Projected gradients (TRAK)"
    question: ClassVar[str] = (
        "How would the behaviour change if the finished model moved to the new minimum near it, "
        "as far as randomly projected gradients tell?"
    )
    paper: ClassVar[str] = (
        "Park et al. 2023, TRAK: attributing model behavior at scale; projections after Choe et "
        "al. 2024 (LoGra) and Hu et al. 2025 (GraSS)"
    )

    def __init__(
        self,
        *,
        dimension: int | None = None,
        projection: str = "auto",
        damping: float | None = None,
        storage: str = "float32",
        folder: Path | None = None,
        examples_at_a_time: int | None = None,
    ) -> None:
        super().__init__(damping=damping)
        if dimension is not None and dimension < 1:
            raise ValueError("the dimension must be at least 1")
        if storage not in BYTES:
            raise ValueError(f"unknown storage “{storage}”; known: {', '.join(BYTES)}")
        self.dimension = dimension
        self.projection = projection
        self.storage = storage
        self.folder = folder
        self.examples_at_a_time = examples_at_a_time

    def scores(
        self,
        runs: Sequence[TrainingRun],
        behaviours: Sequence[Behaviour],
        progress: Progress | None = None,
    ) -> InfluenceScores:
        """See the base class; `progress` counts blocks of examples over all seeds."""
        with nullcontext() if self.folder else tempfile.TemporaryDirectory() as temporary:
            method = self if temporary is None else self._in_folder(Path(temporary))
            method.fill(runs, progress=progress)
            return super(Projected, method).scores(runs, behaviours)

    def fill(
        self,
        runs: Sequence[TrainingRun],
        units: range | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Computes the missing blocks among `units`, which count the blocks of all runs one after
        the other; all when None. Needs a folder."""
        total = self.number_of_units(runs)
        wanted = range(total) if units is None else units
        each = total // len(runs)
        for number, run in enumerate(runs):
            own = [unit - number * each for unit in wanted if unit // each == number]
            if not own:
                continue
            opened = self.open(run)
            for block in own:
                opened.compute(block, self.examples_at_a_time)
                if progress is not None:
                    progress(number * each + block + 1 - wanted.start, len(wanted))

    def number_of_units(self, runs: Sequence[TrainingRun]) -> int:
        """Blocks of all runs together, each of which can be computed on its own."""
        number = len(runs[0].problem.train)
        return len(runs) * -(-number // block_rows(self.dimension_for(runs[0])))

    def missing_units(self, runs: Sequence[TrainingRun]) -> list[int]:
        """The units that no worker has finished yet."""
        each = self.number_of_units(runs) // len(runs)
        return [
            number * each + block
            for number, run in enumerate(runs)
            for block in self.store_of(run).missing()
        ]

    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        most = max(512, DAMPING_NUMBERS // run.parameters.numel())
        damping = self.damping or training_time_damping(run, most)
        scores, known = self.path(run, behaviours, [damping])
        return scores[0], {"damping": damping, **known[0]}

    def path(
        self, run: TrainingRun, behaviours: Sequence[Behaviour], dampings: Sequence[float]
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        if self.folder is None:
            with tempfile.TemporaryDirectory() as temporary:
                return self._in_folder(Path(temporary)).path(run, behaviours, dampings)
        opened = self.open(run)
        for block in opened.store.missing():
            opened.compute(block, self.examples_at_a_time)
        opened.store.touch()
        gradients = opened.at.behaviour_gradients(behaviours)
        projected = opened.projection.vectors(gradients)
        curvature = opened.store.curvature()
        if not torch.isfinite(curvature).all():
            nothing = gradients.new_full(
                (len(dampings), len(behaviours), opened.store.rows), torch.nan
            )
            return nothing, [{} for _ in dampings]
        values, vectors = torch.linalg.eigh(curvature)
        matrix = Eigendecomposition(values.clamp_min(0), vectors)
        full = [damping + penalty(run.problem) for damping in dampings]
        solved = torch.cat([matrix.solve(projected, one) for one in full])
        scores = opened.products(solved) / -opened.at.denominator
        lengths = projected.norm(dim=1) / gradients.norm(dim=1).clamp_min(1e-30)
        known = [opened.describe(matrix.values, one, lengths) for one in full]
        return scores.reshape(len(dampings), len(behaviours), -1), known

    def open(self, run: TrainingRun) -> ProjectedRun:
        """A run with its projection and its store in the folder."""
        at = Linearised.of(run)
        projection = projection_of(at, self.projection, self.dimension_for(run), run.seed)
        store = self.store_of(run)
        if store.dimension != projection.dimension:
            store = GradientStore(
                store.folder, store.rows, projection.dimension, store.block_rows, store.storage
            )
        return ProjectedRun(run, at, projection, store)

    def store_of(self, run: TrainingRun) -> GradientStore:
        """The store of a run, without building its projection, which can take seconds."""
        assert self.folder is not None
        dimension = self.dimension_for(run)
        rows = block_rows(dimension)
        described = {
            "version": VERSION,
            "problem": run.problem.fingerprint,
            "seed": run.seed,
            "projection": self.projection,
            "dimension": dimension,
            "block_rows": rows,
            "storage": self.storage,
        }
        tensors = [run.parameters] if run.weights is None else [run.parameters, run.weights]
        folder = self.folder / content_key(described, tensors)
        return GradientStore(folder, len(run.problem.train), dimension, rows, self.storage)

    def dimension_for(self, run: TrainingRun) -> int:
        """k asked for; a projection may take less."""
        if self.dimension is not None:
            return self.dimension
        number = len(run.problem.train)
        most = min(4 * number, STORE_BYTES // (BYTES[self.storage] * number))
        dimension = LARGEST_DIMENSION
        while dimension > max(SMALLEST_DIMENSION, most):
            dimension //= 2
        return dimension

    def _in_folder(self, folder: Path) -> Projected:
        return Projected(
            dimension=self.dimension,
            projection=self.projection,
            damping=self.damping,
            storage=self.storage,
            folder=folder,
            examples_at_a_time=self.examples_at_a_time,
        )

    def estimate_cost(
        self, problem: TrainingProblem, number_of_seeds: int, behaviours: Sequence[Behaviour]
    ) -> Cost:
        """Times one sample of examples at the initial parameters, scaled by their number, and the
        behaviours' gradients; what the order of H_R costs is counted."""
        number = min(SAMPLE, len(problem.train))
        sample = replace(problem, train=problem.train.select(torch.arange(number)))
        network = problem.build_network(0)
        layout = ParameterLayout.of(network)
        parameters = layout.flatten(network)
        whole = TrainingRun(problem, 0, None, parameters, layout, ())
        dimension = self.dimension_for(whole)
        few = list(behaviours)[:4]
        with tempfile.TemporaryDirectory() as folder:
            method = self._in_folder(Path(folder))
            method.dimension = dimension
            opened = method.open(TrainingRun(sample, 0, None, parameters, layout, ()))
            began = time.perf_counter()
            opened.compute(0)
            passing = (time.perf_counter() - began) * len(problem.train) / number
            began = time.perf_counter()
            opened.at.behaviour_gradients(few)
            gradients = (time.perf_counter() - began) * len(behaviours) / max(1, len(few))
        seconds = passing + gradients + DECOMPOSING * dimension**3
        return Cost(
            seconds * number_of_seeds,
            self.peak_bytes(problem, parameters.nbytes, len(behaviours)),
        )

    def peak_bytes(self, problem: TrainingProblem, vector: int, behaviours: int) -> int:
        dimension = self.dimension or LARGEST_DIMENSION
        block = 8 * block_rows(dimension) * dimension
        return super().peak_bytes(problem, vector, behaviours) + block + 32 * dimension**2


def block_rows(dimension: int) -> int:
    """Rows of a block: enough that its curvature (k, k) takes no more room than its rows."""
    return max(4_096, 4 * dimension)
