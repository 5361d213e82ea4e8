"""Edits worth proposing: the ones predicted to help a behaviour most within a budget, without
harming guard behaviours. A suggestion is a hypothesis to test, never a finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from workers.evidence.records import BoolArray, FloatArray, IntArray, Record
from workers.evidence.shrinkage import shrink_scores

LARGEST_PROGRAMME = 20_000
TOLERANCE = 1e-9


@dataclass(frozen=True)
class GuardReport(Record):
    behaviour: int  # column
    tolerance: float  # largest harm allowed, in the behaviour's unit
    predicted_change: float  # in the behaviour's unit, after shrinkage
    binding: bool  # without this guard the suggestion might help more


@dataclass(frozen=True)
class Suggestion(Record):
    """Train examples whose new weight is predicted to help, the most helpful first."""

    train_indices: IntArray  # (n,)
    weights: FloatArray  # (n,) the new weight
    gains: FloatArray  # (n,) predicted improvement by each, after shrinkage, ≥ 0 is better
    group_ids: IntArray  # (n,) examples of one group are suggested together
    predicted_change: float  # of the behaviour, as the scores say, in its unit
    corrected_change: float  # after shrinkage: what to expect once the luck of the top is gone
    guards: tuple[GuardReport, ...]


def suggest_edits(
    per_seed_scores: ArrayLike,
    behaviour: int,
    number_of_edits: int,
    new_weight: float = 0.0,
    *,
    better: ArrayLike | None = None,
    guards: Mapping[int, float] | None = None,
    group_ids: ArrayLike | None = None,
    allowed: ArrayLike | None = None,
) -> Suggestion:
    """The at most ``number_of_edits`` train examples whose ``new_weight`` should help ``behaviour``
    most.

    ``per_seed_scores`` is (S, N, K), in the behaviours' units per unit of weight; ``better`` (K,)
    is +1 where larger values of a behaviour are better, else −1. Scores are shrunk first by their
    spread over seeds (:func:`workers.evidence.shrinkage.shrink_scores`), for the behaviour and for
    its guards alike. ``guards`` maps columns to the largest predicted harm allowed. ``group_ids``
    (N,) marks duplicates: a group is edited as a whole or not at all, and every member counts
    towards the budget. ``allowed`` (N,) leaves out examples that must keep their weight.

    With guards this is a knapsack of few constraints: its linear relaxation (solved by HiGHS) has
    at most one more fractional group than there are guards; these are rounded down and the room
    left is filled greedily. Only groups predicted to help take part, and of these the best 20,000
    per example. Raises ValueError for a weight of 1, an unknown behaviour, or negative tolerances.
    """
    scores = np.asarray(per_seed_scores)
    if scores.ndim != 3:
        raise ValueError(f"expected (seeds, examples, behaviours), got shape {scores.shape}")
    _, examples, behaviours = scores.shape
    limits = dict(guards or {})
    if new_weight == 1 or new_weight < 0:
        raise ValueError(f"a new weight of {new_weight:g} is no edit")
    for column in (behaviour, *limits):
        if not 0 <= column < behaviours:
            raise ValueError(f"there is no behaviour {column}")
    if any(limit < 0 for limit in limits.values()) or behaviour in limits:
        raise ValueError("guards are other behaviours with tolerances of at least 0")
    signs = np.ones(behaviours) if better is None else np.sign(np.asarray(better, np.float64))
    groups = np.arange(examples) if group_ids is None else np.asarray(group_ids, np.int64)
    free = np.ones(examples, np.bool_) if allowed is None else np.asarray(allowed, np.bool_)
    step = new_weight - 1.0
    change = {column: step * shrink_scores(scores[:, :, column]) for column in (behaviour, *limits)}
    names, members = np.unique(groups, return_inverse=True)
    sizes = np.bincount(members, minlength=names.size)
    usable = np.bincount(members, weights=~free, minlength=names.size) == 0

    def of_groups(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(members, weights=values, minlength=names.size), np.float64)

    gain = of_groups(signs[behaviour] * change[behaviour])
    harm = np.array([of_groups(-signs[column] * change[column]) for column in limits])
    harm = harm.reshape(len(limits), names.size)
    pool = _pool(gain, sizes, usable & (sizes <= number_of_edits))
    tolerances = np.array(list(limits.values()), np.float64)
    chosen = pool[
        _choose(gain[pool], sizes[pool], harm[:, pool], float(number_of_edits), tolerances)
    ]
    picked = np.flatnonzero(np.isin(members, chosen))
    picked = picked[np.lexsort((picked, members[picked], -gain[members[picked]]))]
    binding = _binding(gain, sizes, harm, tolerances, pool, chosen, number_of_edits)
    raw = step * scores[:, picked, behaviour].mean(axis=0)
    return Suggestion(
        train_indices=picked.astype(np.int64),
        weights=np.full(picked.size, float(new_weight)),
        gains=signs[behaviour] * change[behaviour][picked],
        group_ids=groups[picked].astype(np.int64),
        predicted_change=float(raw.sum()),
        corrected_change=float(change[behaviour][picked].sum()),
        guards=tuple(
            GuardReport(
                behaviour=column,
                tolerance=float(limits[column]),
                predicted_change=float(change[column][picked].sum()),
                binding=bool(binding[row]),
            )
            for row, column in enumerate(limits)
        ),
    )


def _pool(gain: FloatArray, sizes: IntArray, usable: BoolArray) -> IntArray:
    helpful = np.flatnonzero(usable & (gain > 0))
    per_example = gain[helpful] / sizes[helpful]
    order = np.argsort(-per_example, kind="stable")
    return np.asarray(helpful[order[:LARGEST_PROGRAMME]], np.int64)


def _choose(
    gain: FloatArray, sizes: IntArray, harm: FloatArray, budget: float, tolerances: FloatArray
) -> BoolArray:
    """Which groups of the pool, sorted by gain per example, to edit."""
    chosen = np.zeros(gain.size, np.bool_)
    if gain.size == 0:
        return chosen
    if tolerances.size:
        scaled_harm, scaled_tolerances = _scaled(harm, tolerances)
        rows = np.vstack([sizes[None, :].astype(np.float64), scaled_harm])
        limits = np.append(budget, scaled_tolerances)
        unit = float(gain.max())
        found = optimize.linprog(-gain / unit, rows, limits, bounds=(0, 1), method="highs")
        if found.success:
            chosen = np.asarray(np.asarray(found.x) > 1 - 1e-7, np.bool_)
            _mend(chosen, np.asarray(found.x) > 1e-7, gain, sizes, harm, budget, tolerances)
    room = budget - sizes[chosen].sum()
    slack = tolerances - harm[:, chosen].sum(axis=1)
    small = TOLERANCE * np.maximum(tolerances, np.abs(harm).max(axis=1, initial=0.0))
    for group in np.flatnonzero(~chosen):
        if room <= 0:
            break
        if sizes[group] <= room and np.all(harm[:, group] <= slack + small):
            chosen[group] = True
            room -= sizes[group]
            slack = slack - harm[:, group]
    return chosen


def _mend(
    chosen: BoolArray,
    in_relaxation: BoolArray,
    gain: FloatArray,
    sizes: IntArray,
    harm: FloatArray,
    budget: float,
    tolerances: FloatArray,
) -> None:
    """Make the rounded relaxation keep its guards again, in place: a group that was rounded down
    may have made up for the harm of others. It is taken whole where it fits; else groups are given
    up for good, the least gain for the harm first. No group at all keeps every guard."""

    def excess(without: FloatArray) -> float:
        return float(np.maximum(without - tolerances, 0.0).sum())

    available = in_relaxation & ~chosen
    small = TOLERANCE * np.maximum(tolerances, np.abs(harm).max(axis=1, initial=0.0)).sum()
    while (before := excess(harm[:, chosen].sum(axis=1))) > small:
        total = harm[:, chosen].sum(axis=1)
        room = budget - sizes[chosen].sum()
        fitting = np.flatnonzero(available & (sizes <= room))
        after = [excess(total + harm[:, group]) for group in fitting]
        if after and min(after) < before:
            taken = fitting[int(np.argmin(after))]
            chosen[taken], available[taken] = True, False
            continue
        held = np.flatnonzero(chosen)
        relief = np.array([before - excess(total - harm[:, group]) for group in held])
        worth = np.where(relief > 0, gain[held] / np.maximum(relief, 1e-300), np.inf)
        chosen[held[int(np.argmin(worth))]] = False


def _binding(
    gain: FloatArray,
    sizes: IntArray,
    harm: FloatArray,
    tolerances: FloatArray,
    pool: IntArray,
    chosen: IntArray,
    budget: int,
) -> BoolArray:
    """(G,) whether a guard keeps out a group that would help more than the least one chosen."""
    left = tolerances - harm[:, chosen].sum(axis=1)
    others = np.setdiff1d(pool, chosen)
    per_example = gain / np.maximum(sizes, 1)
    least = float(np.min(per_example[chosen], initial=np.inf))
    if sizes[chosen].sum() + sizes[others].min(initial=budget + 1) <= budget:
        least = 0.0
    wanted = others[per_example[others] > least]
    return np.asarray((harm[:, wanted] > left[:, None]).any(axis=1), np.bool_)


def _scaled(harm: FloatArray, tolerances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Guards in units of their largest harm, since behaviours' units may differ by many powers."""
    unit = np.maximum(np.abs(harm).max(axis=1, initial=0.0), 1e-300)
    return harm / unit[:, None], tolerances / unit
