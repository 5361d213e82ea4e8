"""The contract of every influence method: what it is given, what it returns, in which unit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from workers.influence.behaviours import Behaviour
from workers.influence.ensembles import robust_mean
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun

Progress = Callable[[int, int], None]
"""progress(done, total); it may raise to stop the work."""


@dataclass(frozen=True)
class Cost:
    """What a computation will take, estimated before it starts."""

    seconds: float
    bytes: int
    """Peak memory beyond the data and the network."""


@dataclass(frozen=True)
class LeftOutSeed:
    """A seed whose scores cannot be trusted, and why, in words for the user."""

    seed: int
    reason: str


class NoUsableSeed(RuntimeError):
    """Every seed was left out; `left_out` says why."""

    def __init__(self, left_out: Sequence[LeftOutSeed]) -> None:
        reasons = "; ".join(f"seed {one.seed}: {one.reason}" for one in left_out)
        super().__init__(f"no seed gave usable influence scores ({reasons})")
        self.left_out = tuple(left_out)


@dataclass(frozen=True)
class InfluenceScores:
    """Scores of S seeds, N training examples and K behaviours.

    In the behaviour's unit per unit of example weight, signed so that
    prediction = Σ (new weight - 1) · score, for every method.
    """

    per_seed: NDArray[np.float32]
    """(S, N, K), the left-out seeds excluded."""
    seeds: tuple[int, ...]
    left_out: tuple[LeftOutSeed, ...] = ()
    diagnostics: dict[str, Any] = field(default_factory=dict)

    def aggregate(self) -> NDArray[np.float32]:
        """(N, K), robust over seeds; see `workers.influence.ensembles.robust_mean`.

        Raises NoUsableSeed when every seed was left out.
        """
        if not len(self.per_seed):
            raise NoUsableSeed(self.left_out)
        return robust_mean(self.per_seed).astype(np.float32)


class InfluenceMethod(ABC):
    """Estimates the effect of every training example's weight on every behaviour."""

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    """Which counterfactual the scores answer, one sentence."""
    paper: ClassVar[str]

    @abstractmethod
    def estimate_cost(
        self, problem: TrainingProblem, number_of_seeds: int, behaviours: Sequence[Behaviour]
    ) -> Cost:
        """Seconds and bytes that `scores` will take, before it starts."""

    @abstractmethod
    def scores(
        self,
        runs: Sequence[TrainingRun],
        behaviours: Sequence[Behaviour],
        progress: Progress | None = None,
    ) -> InfluenceScores:
        """Scores of every training example for every behaviour, one set for each run's seed.

        The runs share one problem and differ in their seeds. Raises ValueError when they do not.
        """


def shared_problem(runs: Sequence[TrainingRun]) -> TrainingProblem:
    """The problem that all runs share. Raises ValueError for none, several, or a seed twice."""
    if not runs:
        raise ValueError("influence needs at least one training run")
    problem = runs[0].problem
    for run in runs[1:]:
        if run.problem is not problem and run.problem.fingerprint != problem.fingerprint:
            raise ValueError("the runs were trained on different problems")
    if len({run.seed for run in runs}) != len(runs):
        raise ValueError("two runs have the same seed")
    return problem
