"""Edit-aware prediction: how large the effect of *this* edit is, where first-order scores only know
the effect of an infinitesimal one. No retrain is run.

First-order scores rank edits well and miss their size: the third copy of an example teaches less
than the first, AdamW shortens its steps where gradients grow, and losses and probabilities bend.
The recorded run (θₜ) is followed in a few long strides, and with it the deviation δₜ of the run
trained on edited weights w, in a network that is linear in δ but not in its outputs:

    δ̇ = -s∘P (g_w(δ) - g) - (s - 1)∘P g - λδ,      g_w(δ) = Σ wᵢ Jᵢᵀ ∇ℓ(yᵢ + Jᵢδ) / n,   g = g_1(0),

with J, y and P (the optimizer's step per unit of gradient) of the recorded run at that time, and
s = √(v̂(1) / v̂(w)) the change of AdamW's steps by the edit, 1 for SGD. To first order in w this is
the linear response that replay computes exactly, but for the averaging over strides (unrolling
between checkpoints: Bae et al. 2024); replay therefore sets the size and the direction, and only
what bends is taken from here. With Δ the change of behaviour b's value by the final δ, evaluated on
the linearised outputs of its probe examples, and Δ¹ the same to first order in w,

    prediction = replay + κ (Δ - Δ¹),      κ = (Δ¹ replay + τ² κ₀) / (Δ¹² + τ²) within [½, 2],

for each seed. κ₀ is the slope of replay on Δ¹ over random changes of all weights. An edit's own
ratio replay / Δ¹ is known the better, the larger Δ¹ is beside the spread σ‖w - 1‖ of replay about
κ₀ Δ¹ for random changes of that length: κ is the posterior mean for a prior of standard deviation
SPREAD_OF_RATIO, with τ = σ ‖w - 1‖ / SPREAD_OF_RATIO (`shrunk_ratio`). Targeted
edits so keep their own ratio, and random ones, whose Δ¹ is near 0, do not scatter by it.

The mean over the baseline's seeds is not yet the fresh-seed mean: examples are *chosen* by their
scores, and the luck of these seeds is not repeated. Predictions of the fresh-seed mean carry the
share that is (`reliability`). `agreement` tells how far to trust all this: the correlation of the
linear response with replay.

Cost: prepared once a seed by projecting the Jacobians of all outputs, N·C·P entries, to 2r columns
at STAGES states, many times the work of training; each edit then takes STRIDES products of size
N·C × r, with r ≤ DIRECTIONS + K, many edits at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from workers.influence.behaviours import Behaviour
from workers.influence.deviation import STAGES, Deviation, Edit, follow
from workers.influence.deviation_basis import DIRECTIONS, GROUPS
from workers.influence.ensembles import seed_weights
from workers.influence.interface import InfluenceScores, Progress, shared_problem
from workers.influence.reliability import (
    Reliability,
    first_order_effects,
    lengths,
    shrunk_ratio,
)
from workers.influence.unrolled import Unrolled
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

LARGEST_STATE = 1 << 30
"""Bytes of what is kept of one seed."""
LARGEST_WORK = 150_000_000
"""Entries of the Jacobian of all outputs, N·C·P, whose projection takes most of the preparation."""
PROBES = 64
"""Random changes of all weights on which the linear response is compared with replay."""
EDITS_AT_A_TIME = 32
SMALLEST_SHARE, LARGEST_SHARE = 0.5, 2.0
SPREAD_OF_RATIO = 0.15
"""Standard deviation, over edits, of an edit's own κ about that of random changes."""


class NotEditAware(ValueError):
    """The edit-aware estimate does not fit this problem; the message says why."""


@dataclass(frozen=True)
class EditAware:
    """What answers for any edit of one baseline: see the module."""

    seeds: tuple[int, ...]
    deviations: tuple[Deviation, ...]
    scores: NDArray[np.float32]
    """(S, N, K) the first-order scores that are corrected."""
    agreement: Array
    """(S, K) correlation of the linear response with the first-order scores."""
    reliability: Reliability
    share: Array
    """(S, K) replay over the linear response, for changes of all weights at random."""
    mismatch: Array
    """(S, K) standard deviation of replay about that, for a change of weights of length 1."""

    def predict(self, edits: Sequence[tuple[Indices, Array]]) -> Array:
        """(E, S, K) predicted changes of each behaviour, in its unit, for retrains with the
        baseline's own seeds; an edit is its train indices (M,) and new weights (M,).

        Raises NotEditAware when the deviation of an edit grows beyond all bounds.
        """
        parts = [
            self._predict(edits[start : start + EDITS_AT_A_TIME])
            for start in range(0, len(edits), EDITS_AT_A_TIME)
        ]
        return np.concatenate(parts)

    def predict_fresh(self, edits: Sequence[tuple[Indices, Array]]) -> Array:
        """(E, S, K) the same for retrains with fresh seeds, as far as each seed foretells them:
        what they repeat of the first order, and the same share of what bends."""
        share = self.reliability.of_edits(edits)
        here = first_order_effects(self.scores, edits)
        moved = self.reliability.first_order(edits) - share * self.over_seeds(here)
        return self.predict(edits) * share[:, None] + moved[:, None]

    def over_seeds(self, by_seed: Array) -> Array:
        """(E, K) means over the seeds of predictions (E, S, K). A seed counts as its scores do in
        `robust_mean`: the scores show a bad seed, a single number that is larger than others does
        not."""
        weights = seed_weights(self.scores)
        return np.asarray((by_seed * weights).sum(1) / weights.sum(0), np.float64)

    def _predict(self, edits: Sequence[tuple[Indices, Array]]) -> Array:
        changes = torch.zeros(self.scores.shape[1], len(edits))
        first_order = first_order_effects(self.scores, edits)
        asked = []
        for place, (indices, weights) in enumerate(edits):
            change = np.asarray(weights, np.float64) - 1
            own = Edit(torch.tensor(indices), torch.from_numpy(change + 1))
            changes[own.train_indices, place] = torch.from_numpy(change).float()
            asked.append(own)
        full = np.stack([_numpy(one.responses(asked)) for one in self.deviations], 1)
        linear = np.stack([_numpy(one.first_order(changes)) for one in self.deviations], 1)
        if not np.isfinite(full).all():
            raise NotEditAware("the deviation of the edited run does not stay finite")
        share = shrunk_ratio(
            first_order,
            linear,
            lengths(edits)[:, None, None],
            self.share,
            self.mismatch,
            SPREAD_OF_RATIO,
        )
        return first_order + np.clip(share, SMALLEST_SHARE, LARGEST_SHARE) * (full - linear)


def prepare(
    runs: Sequence[TrainingRun],
    behaviours: Sequence[Behaviour],
    scores: InfluenceScores,
    progress: Progress | None = None,
) -> EditAware:
    """Prepare every run whose seed has `scores` (replay's, for the same behaviours).

    Raises NotEditAware for next-token losses, runs without a trajectory, and problems whose state
    or work would exceed LARGEST_STATE or LARGEST_WORK.
    """
    _check(shared_problem(runs), runs)
    by_seed = {run.seed: run for run in runs}
    smooth = Unrolled().scores([by_seed[seed] for seed in scores.seeds], behaviours)
    if smooth.seeds != scores.seeds:
        raise NotEditAware("a seed has no finite scores by unrolled segments")
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(scores.per_seed.shape[1], PROBES, generator=generator)
    deviations, agreement, shares, mismatches = [], [], [], []
    for position, seed in enumerate(scores.seeds):
        deviation = follow(by_seed[seed], behaviours)
        deviations.append(deviation)
        replayed = probes.double().numpy().T @ scores.per_seed[position].astype(np.float64)
        linear = _numpy(deviation.first_order(probes))
        agreement.append(_cosines(linear, replayed))
        shares.append((linear * replayed).sum(0) / (linear**2).sum(0).clip(1e-300))
        residual = (replayed - shares[-1] * linear) / np.linalg.norm(probes, axis=0)[:, None]
        mismatches.append(np.sqrt((residual**2).mean(0)))
        if progress is not None:
            progress(position + 1, len(scores.seeds))
    return EditAware(
        scores.seeds,
        tuple(deviations),
        scores.per_seed,
        np.stack(agreement),
        Reliability.of(scores.per_seed, smooth.per_seed),
        np.stack(shares),
        np.stack(mismatches),
    )


def _check(problem: TrainingProblem, runs: Sequence[TrainingRun]) -> None:
    if problem.loss == "next_token":
        raise NotEditAware("language models have too many outputs to be followed")
    if any(run.trajectory is None for run in runs):
        raise NotEditAware("a run has no recorded trajectory")
    run, number = runs[0], len(problem.train)
    one = problem.examples.select(torch.arange(1))
    outputs = problem.build_network(run.seed).eval()(**one.inputs).shape[1]
    parameters = run.parameters.numel()
    if number * outputs * parameters > LARGEST_WORK:
        raise NotEditAware(
            f"{parameters:,} parameters of {number:,} examples with {outputs} outputs would take "
            "longer to follow than retraining takes"
        )
    groups = min(GROUPS, parameters)
    size = STAGES * number * (2 * outputs * DIRECTIONS + groups) * run.parameters.element_size()
    if size > LARGEST_STATE:
        raise NotEditAware(
            f"{number:,} examples of {outputs} outputs are more than can be followed at once"
        )


def _numpy(values: torch.Tensor) -> Array:
    return np.asarray(values.double().numpy(), np.float64)


def _cosines(first: Array, second: Array) -> Array:
    """(K,) cosines of the columns; 0 for a column of zeros."""
    norm = np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return np.asarray((first * second).sum(0) / np.where(norm > 0, norm, np.inf), np.float64)
