"""The rungs between an influence estimate and fresh-seed retrains, measured for one edit: what the
arithmetic of `workers.evidence.ladder` makes a waterfall of.

Every rung is the change of the behaviours from the unedited to the edited problem under one and
the same procedure, so that the procedure's own effect cancels:

    influence_estimate   Σ (wᵢ - 1) · score of the method
    exact_solve          ∇b · δ with (H + (λ + ρ) I) δ = -Σ (wᵢ - 1) ∇ℓᵢ / n, solved exactly
    proximal_response    the proximal Bregman response (Bae et al. 2022); see `response`
    continued            the training objective minimised to convergence from the trained weights
    warm_start           the recipe run again from the trained weights
    cold_same_seed       the recipe run from the initial weights, same seed
    fresh_seeds          the same with seeds that the baseline did not use
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.influence.behaviours import Behaviour, behaviour_values
from workers.influence.curvature import Curvature
from workers.influence.damped_method import penalty
from workers.influence.damping import training_time_damping
from workers.influence.gauss_newton import GaussNewton, conjugate_gradients
from workers.influence.interface import InfluenceMethod, Progress, shared_problem
from workers.influence.linearised import Linearised
from workers.influence.response import MOST_ITERATIONS, continued, proximal_response
from workers.training.batched import train_many
from workers.training.optimizers import build_optimizer
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, full_weights, train
from workers.training.trajectory import TrainingState

Array = NDArray[np.float64]
SOLVE_TOLERANCE = 1e-8
MOST_SOLVE_ITERATIONS = 2_000


@dataclass(frozen=True)
class MeasuredRungs:
    """Effects of one edit on K behaviours, in their units, by rung name in climbing order."""

    effects: dict[str, Array]
    """Each (S, K), a row for each seed of the baseline; `fresh_seeds` a row for each fresh seed."""
    notes: tuple[str, ...]
    """Rungs whose computation did not converge, in words for the user."""
    damping: tuple[float, ...]
    """λ of each baseline seed."""

    def means(self, behaviour: int) -> dict[str, float]:
        """Mean over seeds of each rung for one behaviour."""
        return {name: float(rows[:, behaviour].mean()) for name, rows in self.effects.items()}

    def standard_errors(self, behaviour: int) -> dict[str, float]:
        """Of the means; rungs with one seed are left out."""
        return {
            name: float(rows[:, behaviour].std(ddof=1) / np.sqrt(len(rows)))
            for name, rows in self.effects.items()
            if len(rows) > 1
        }


def measure_rungs(
    runs: Sequence[TrainingRun],
    weights: Tensor,
    behaviours: Sequence[Behaviour],
    *,
    fresh_seeds: Sequence[int] = (),
    method: InfluenceMethod | None = None,
    damping: float | None = None,
    progress: Progress | None = None,
) -> MeasuredRungs:
    """All rungs for the edit that gives the training examples `weights` (N,).

    `runs` are the baseline's, unedited. `method` gives the influence estimate (curvature with the
    same damping when None). `damping` is λ; None takes `training_time_damping` of each run.
    Without `fresh_seeds` that rung is left out. `progress(done, total)` counts evaluations and may
    raise. Raises ValueError for weights of a wrong shape and runs with weights of their own.
    """
    problem = shared_problem(runs)
    if any(run.weights is not None for run in runs):
        raise ValueError("the ladder starts from unedited runs")
    edited = full_weights(problem, weights)
    count = _Counter(progress, _evaluations(problem, len(runs), len(fresh_seeds)))
    per_seed = [_rungs_of_run(run, edited, behaviours, method, damping, count) for run in runs]
    effects = {name: np.stack([rungs[name] for rungs, _, _ in per_seed]) for name in per_seed[0][0]}
    if fresh_seeds:
        effects["fresh_seeds"] = _fresh_effects(problem, edited, behaviours, fresh_seeds, count)
    notes = dict.fromkeys(note for _, own, _ in per_seed for note in own)
    count.finish()
    return MeasuredRungs(effects, tuple(notes), tuple(used for _, _, used in per_seed))


def _rungs_of_run(
    run: TrainingRun,
    weights: Tensor,
    behaviours: Sequence[Behaviour],
    method: InfluenceMethod | None,
    damping: float | None,
    count: _Counter,
) -> tuple[dict[str, Array], list[str], float]:
    """Rung name to (K,), what did not converge, and λ."""
    used = training_time_damping(run) if damping is None else damping
    decay = penalty(run.problem)
    estimator = Curvature(damping=used) if method is None else method
    scores = np.asarray(estimator.scores([run], behaviours).per_seed[0], np.float64)
    exact = float64_copy(run)
    doubled = weights.double()
    unedited = torch.ones_like(doubled)
    gradients = exact.behaviour_gradients(behaviours)
    proximal = proximal_response(exact, doubled, used + decay, count)
    on_edited = continued(exact, doubled, decay, count)
    on_all = continued(exact, unedited, decay, count)
    values = _Values(exact, behaviours)
    trained = run.parameters.double()
    warm = [
        train(run.problem, run.seed, own, start=_warm_start(run), progress=count.steps)
        for own in (weights, torch.ones_like(weights))
    ]
    cold = train(run.problem, run.seed, weights, progress=count.steps)
    rungs = {
        "influence_estimate": (weights - 1).double().numpy() @ scores,
        "exact_solve": (gradients @ exact_step(exact, doubled, used + decay)).numpy(),
        "proximal_response": values(proximal.parameters) - values(trained),
        "continued": values(on_edited.parameters) - values(on_all.parameters),
        "warm_start": values(warm[0].parameters) - values(warm[1].parameters),
        "cold_same_seed": values(cold.parameters) - values(trained),
    }
    notes = []
    if not proximal.converged:
        notes.append("The proximal response had not settled when its iterations were used up.")
    if not (on_edited.converged and on_all.converged):
        notes.append(
            f"Continued training had not converged after {MOST_ITERATIONS} iterations; without "
            "weight decay in the objective it may have no minimum."
        )
    return rungs, notes, used


def float64_copy(run: TrainingRun) -> Linearised:
    """The end of `run` in double precision, where tiny effects keep their digits."""
    problem = replace(run.problem, recipe=replace(run.problem.recipe, precision="float64"))
    return Linearised(problem, run.seed, run.parameters.double())


def exact_step(at: Linearised, weights: Tensor, strength: float) -> Tensor:
    """(P,) δ of the exact solve, the response to `weights` (N,) of the problem linearised at θˢ;
    `strength` is λ + ρ."""
    pull = torch.zeros_like(at.parameters)
    shift = weights - 1
    for indices in at.chunks():
        inside = indices[shift[indices] != 0]
        if len(inside):
            pull += shift[inside] @ at.loss_gradients(at.train.select(inside))
    pull /= -at.denominator
    matrix = GaussNewton(at)
    decomposed = matrix.eigendecomposition()
    if decomposed is not None:
        return decomposed.solve(pull[None], strength)[0]
    return conjugate_gradients(
        matrix.product,
        pull[None],
        strength,
        tolerance=SOLVE_TOLERANCE,
        most_iterations=MOST_SOLVE_ITERATIONS,
    ).rows[0]


def _fresh_effects(
    problem: TrainingProblem,
    weights: Tensor,
    behaviours: Sequence[Behaviour],
    seeds: Sequence[int],
    count: _Counter,
) -> Array:
    """(F, K)."""
    both = torch.cat([weights.expand(len(seeds), -1), torch.ones(len(seeds), len(weights))])
    finals = train_many(problem, [*seeds, *seeds], both, progress=count.steps)
    values = _Values(Linearised(problem, seeds[0], finals[0]), behaviours)
    rows = np.stack([values(final) for final in finals])
    return np.asarray(rows[: len(seeds)] - rows[len(seeds) :], np.float64)


def _warm_start(run: TrainingRun) -> TrainingState:
    """The recipe from its first step, with the trained weights in place of the initial ones."""
    optimizer = build_optimizer(run.problem.recipe, run.problem.number_of_steps)
    epochs = torch.zeros(run.problem.recipe.epochs, 2, dtype=torch.float64)
    return TrainingState(0, optimizer.initial_rows(run.parameters), epochs)


class _Values:
    """(K,) behaviours at flat parameters."""

    def __init__(self, at: Linearised, behaviours: Sequence[Behaviour]) -> None:
        self.at, self.behaviours = at, behaviours

    def __call__(self, parameters: Tensor) -> Array:
        own = parameters.to(self.at.parameters.dtype)
        found = behaviour_values(self.behaviours, self.at.network, self.at.layout, own)
        return np.asarray(found.double().numpy(), np.float64)


def _evaluations(problem: TrainingProblem, runs: int, fresh: int) -> int:
    """Full passes for the minimisations and steps for the retrains, at most."""
    return runs * (3 * 2 * MOST_ITERATIONS + 3 * problem.number_of_steps) + (
        2 * fresh * problem.number_of_steps
    )


class _Counter:
    """Counts evaluations and training steps as one job."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total = progress, total
        self.done = self.before = 0

    def __call__(self) -> None:
        self._report(self.done + 1)
        self.before = self.done

    def steps(self, done: int, total: int) -> None:
        self._report(self.before + done)
        if done >= total:
            self.before = self.done

    def finish(self) -> None:
        self._report(self.total)

    def _report(self, done: int) -> None:
        self.done = min(done, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)
