"""How much damping an influence function needs: from the length of training alone, from scores of
replay, or from edits whose effect was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from workers.influence.linearised import Linearised
from workers.training.optimizers import learning_rates
from workers.training.trainer import TrainingRun

Array = NDArray[np.floating[Any]]
FEWEST_MEASURED = 3


def training_time(run: TrainingRun) -> float:
    """Σ of the learning rates of all steps, for SGD divided by 1 - momentum."""
    recipe = run.problem.recipe
    total = sum(learning_rates(recipe, run.problem.number_of_steps))
    return total / (1 - recipe.momentum) if recipe.optimizer == "sgd" else total


def training_time_damping(run: TrainingRun, most_examples: int | None = None) -> float:
    """1 / t, with t the time that training followed the gradient.

    Gradient flow of a quadratic objective for time t learns each eigendirection of curvature h as
    1 - exp(-t h), close to h / (h + 1/t): stopping early is a ridge of 1/t (Ali, Kolter &
    Tibshirani 2019). AdamW's step divides by the root of the second moment v, so that its time
    is the sum of learning rates times the mean of 1/√v over parameters, here measured at the
    final parameters as E|batch gradient|², on evenly spaced examples, at most `most_examples`.
    """
    time = training_time(run)
    if run.problem.recipe.optimizer == "adamw":
        root = _second_moment(run, most_examples).add(run.problem.recipe.epsilon).sqrt()
        time *= float(1 / root.mean())
    return 1 / time


def distance_of_run(run: TrainingRun, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """(P,) how far steps start ≤ t < stop (all for None) move each parameter under a constant
    gradient of 1: Σₜ ηₜ / √(v̂ₜ + ε) with AdamW (Loshchilov & Hutter 2019), Σₜ ηₜ / (1 - μ)
    with SGD.

    For the whole run its inverse is the damping of having stopped, in each parameter's own units.
    Raises ValueError when AdamW's run has no recorded trajectory, whose second moments are read.
    """
    recipe, steps = run.problem.recipe, run.problem.number_of_steps
    stop = steps if stop is None else stop
    rates = learning_rates(recipe, steps)
    if recipe.optimizer == "sgd":
        time = sum(rates[start:stop]) / (1 - recipe.momentum)
        return torch.full_like(run.parameters, time)
    if run.trajectory is None:
        raise ValueError("the run has no recorded trajectory")
    total = torch.zeros_like(run.parameters)
    before = start
    for step in [one for one in run.trajectory.steps if one > start]:
        second = run.trajectory.rows(step)[2] / (1 - recipe.beta2**step)
        total += sum(rates[before : min(step, stop)]) / torch.sqrt(second + recipe.epsilon)
        before = step
        if step >= stop:
            break
    return total


def _second_moment(run: TrainingRun, most_examples: int | None = None) -> torch.Tensor:
    """(P,) the expected square of a batch's gradient: squared mean plus variance / batch size."""
    at = Linearised.of(run)
    number = len(at.train)
    chosen = torch.arange(number)[:: -(-number // (most_examples or number))]
    total, squares = torch.zeros_like(at.parameters), torch.zeros_like(at.parameters)
    for places in at.chunks():
        indices = chosen[places[places < len(chosen)]]
        if not len(indices):
            break
        gradients = at.loss_gradients(at.train.select(indices))
        total += gradients.sum(0)
        squares += gradients.square_().sum(0)
    mean = total / len(chosen)
    variance = squares / len(chosen) - mean.square()
    return mean.square() + variance.clamp_min(0) / run.problem.recipe.batch_size


def damping_matching_scale(dampings: Sequence[float], path: Array, reference: Array) -> float:
    """The damping, between the given ascending ones, at which scores have replay's scale.

    `path` (D, N, K) scores at each damping, `reference` (N, K) replay's on the same run. The scale
    is the median over behaviours of the ratio of root mean squares; the answer is interpolated in
    logarithms, and the nearest end when no ratio reaches 1.
    """
    found = np.sqrt(np.square(path, dtype=np.float64).mean(1))
    wanted = np.sqrt(np.square(reference, dtype=np.float64).mean(0))
    logarithms = np.log(np.median(found / np.maximum(wanted, 1e-300), axis=1))
    # Scores shrink as the damping grows; np.interp wants ascending abscissas.
    order = np.argsort(logarithms)
    return float(np.exp(np.interp(0.0, logarithms[order], np.log(np.asarray(dampings))[order])))


def damping_by_evidence(
    dampings: Sequence[float], path: Array, edits: Array | csr_array, measured: Array
) -> float:
    """The damping whose predictions rank measured effects best.

    `path` (D, N, K); `edits` (E, N) new weight - 1; `measured` (E, K) changes of the behaviours.
    Use it on edits that no figure is reported on. A behaviour that was measured (not NaN) on fewer
    than FEWEST_MEASURED edits does not count. Raises ValueError for fewer edits than that.
    """
    if np.isfinite(measured).sum(0).max(initial=0) < FEWEST_MEASURED:
        raise ValueError(f"ranking needs at least {FEWEST_MEASURED} measured edits")
    quality = [
        np.nanmean(
            [
                spearmanr(edits @ scores[:, place], measured[:, place], nan_policy="omit").statistic
                for place in range(measured.shape[1])
                if np.isfinite(measured[:, place]).sum() >= FEWEST_MEASURED
            ]
        )
        for scores in path
    ]
    return float(dampings[int(np.nanargmax(quality))])
