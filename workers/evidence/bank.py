"""Which known edits the bank retrains, so that predictions can be compared with what retraining
did. Running the retrains and storing them is the tasks' work; learning from them is
``calibration_fit``'s."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from workers.evidence.records import FloatArray, IntArray, Record

REMOVAL = "removal"
DOWN_WEIGHTING = "down_weighting"
UP_WEIGHTING = "up_weighting"
MIXED = "mixed"

RANDOM = "random"
HARMFUL = "harmful"
HELPFUL = "helpful"
SELECTIONS = (RANDOM, HARMFUL, HELPFUL, MIXED)

DEFAULT_SIZES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
DEFAULT_KINDS = ((REMOVAL, 0.0), (DOWN_WEIGHTING, 0.5), (UP_WEIGHTING, 2.0), (UP_WEIGHTING, 3.0))
MOST_REDRAWS = 100
FEWEST_SEEDS, MOST_SEEDS = 4, 16
RETRAINS_A_SEED = 6


@dataclass(frozen=True)
class BankEdit(Record):
    """One known edit: ``train_indices[i]`` gets weight ``weights[i]``, every other example keeps
    1."""

    kind: str  # REMOVAL, DOWN_WEIGHTING or UP_WEIGHTING
    size_fraction: float  # edited examples / train examples, as planned
    train_indices: IntArray  # (n,) ascending
    weights: FloatArray  # (n,)
    direction: str  # how the examples were chosen: one of SELECTIONS
    behaviour: int | None  # the column of scores that chose them; None for random

    @property
    def sha256(self) -> str:
        return edit_sha256(self.train_indices, self.weights)


@dataclass(frozen=True)
class EditShape(Record):
    """What calibration needs to know of an edit: its kind, and how much weight it moves."""

    kind: str  # REMOVAL, DOWN_WEIGHTING, UP_WEIGHTING or MIXED
    size: float  # Σ |new weight − 1| / number of train examples
    size_fraction: float  # edited examples / train examples


def plan_bank(
    scores: ArrayLike | None,
    number_of_edits: int,
    sizes: Sequence[float] = DEFAULT_SIZES,
    kinds: Sequence[tuple[str, float]] = DEFAULT_KINDS,
    seed: int = 0,
    forbidden_edits: Collection[str] = (),
    *,
    number_of_examples: int | None = None,
    better: ArrayLike | None = None,
) -> list[BankEdit]:
    """Calibration edits that cover kinds × sizes × selections evenly, in an order that can grow.

    ``scores`` is (N, K), the aggregated influence of N train examples on K behaviours; None (with
    ``number_of_examples``) plans random edits only. ``better`` is (K,), +1 where larger values of
    the behaviour are better and −1 where smaller ones are; an example is harmful where better ·
    score < 0. ``kinds`` pairs a kind with the new weight of the chosen examples, ``sizes`` are
    fractions of N. Kind, size, selection and behaviour each run through shuffled blocks, so every
    prefix of the plan is balanced in each of them up to one (a randomised Latin-square-like
    design). Targeted edits take the top of a ranking or a random part of a somewhat longer top,
    since users choose both ways; mixed ones join harmful, helpful and random examples in random
    shares.

    The edit at position i depends only on the other arguments and on the edits before it: the plan
    of n + m edits starts with the plan of n. An edit whose hash (:func:`edit_sha256`) is forbidden,
    as a proposal under test is, or already in the plan is drawn again. Raises ValueError for
    impossible sizes, weights that are not of their kind, or when the train split is too small to
    hold so many different edits.
    """
    matrix = None if scores is None else np.asarray(scores, np.float64)
    if matrix is not None and (matrix.ndim != 2 or not np.isfinite(matrix).all()):
        raise ValueError("scores must be a finite (examples, behaviours) matrix")
    total = number_of_examples if matrix is None else matrix.shape[0]
    if total is None or total < 2:
        raise ValueError("the number of train examples must be given and at least 2")
    _check_design(sizes, kinds)
    signs = np.ones(0 if matrix is None else matrix.shape[1])
    if better is not None:
        signs = np.sign(np.asarray(better, np.float64))
    gains = None if matrix is None else matrix * signs
    selections = (RANDOM,) if gains is None else SELECTIONS
    behaviours = 1 if gains is None else gains.shape[1]
    blocks = zip(
        _shuffled_blocks(len(kinds), seed, 0),
        _shuffled_blocks(len(sizes), seed, 1),
        _shuffled_blocks(len(selections), seed, 2),
        _shuffled_blocks(behaviours, seed, 3),
        strict=False,
    )
    taken = set(forbidden_edits)
    plan: list[BankEdit] = []
    for position, (kind, size, selection, behaviour) in zip(
        range(number_of_edits), blocks, strict=False
    ):
        edit = _draw_new_edit(
            np.random.SeedSequence([seed, 4, position]),
            kinds[kind],
            sizes[size],
            selections[selection],
            None if gains is None else gains[:, behaviour],
            behaviour,
            total,
            taken,
        )
        taken.add(edit.sha256)
        plan.append(edit)
    return plan


def seed_pool_size(number_of_edits: int, seeds_per_edit: int) -> int:
    """How many seeds the edits of one plan take turns with.

    A seed enlarges or lessens the effects of all edits together (by about a fifth on networks of
    one hidden layer), so that however many edits share four seeds, the slope learned from them is
    off by a tenth. A seed more costs one unedited retrain: there is one for every six retrains of
    edits, at least 4 and at most 16."""
    wanted = math.ceil(number_of_edits * seeds_per_edit / RETRAINS_A_SEED)
    return max(seeds_per_edit, min(max(wanted, FEWEST_SEEDS), MOST_SEEDS))


def seeds_in_turn(pool: Sequence[int], seeds_per_edit: int, position: int) -> list[int]:
    """The seeds of the edit at ``position`` of a plan: the next ``seeds_per_edit`` of the pool, so
    that all seeds are used about equally often."""
    start = position * seeds_per_edit
    return [pool[(start + k) % len(pool)] for k in range(seeds_per_edit)]


def edit_sha256(train_indices: ArrayLike, weights: ArrayLike) -> str:
    """Identity of an edit: SHA-256 over its (index, weight) pairs in ascending order as
    little-endian int64 and float64; pairs of weight 1 change nothing and are left out."""
    indices = np.asarray(train_indices, "<i8")
    values = np.asarray(weights, "<f8")
    if indices.shape != values.shape or indices.ndim != 1:
        raise ValueError("an edit pairs each train index with one weight")
    if np.unique(indices).size != indices.size:
        raise ValueError("an edit names a train example twice")
    order = np.argsort(indices)
    order = order[values[order] != 1.0]
    return hashlib.sha256(indices[order].tobytes() + values[order].tobytes()).hexdigest()


def edit_shape(weights: ArrayLike, number_of_examples: int) -> EditShape:
    """The kind and size of an edit from the new weights of the examples that it names."""
    values = np.asarray(weights, np.float64)
    values = values[values != 1.0]
    present = set(kinds_of(values).tolist())
    return EditShape(
        kind=present.pop() if len(present) == 1 else MIXED,
        size=float(np.abs(values - 1.0).sum() / number_of_examples),
        size_fraction=values.size / number_of_examples,
    )


def kinds_of(weights: ArrayLike) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    """(n,) kind of each new weight: 0 removes, below 1 down-weights, above 1 up-weights."""
    values = np.asarray(weights, np.float64)
    if not np.all(values >= 0):
        raise ValueError("a weight must not be negative")
    lower = np.where(values == 0, REMOVAL, DOWN_WEIGHTING)
    return np.asarray(np.where(values > 1, UP_WEIGHTING, lower))


def _check_design(sizes: Sequence[float], kinds: Sequence[tuple[str, float]]) -> None:
    if not sizes or not all(0 < size < 1 for size in sizes):
        raise ValueError(f"sizes must be fractions between 0 and 1, got {tuple(sizes)}")
    if not kinds:
        raise ValueError("at least one kind of edit is needed")
    for kind, weight in kinds:
        if weight == 1 or kinds_of([weight])[0] != kind:
            raise ValueError(f"a new weight of {weight:g} is not {kind}")


def _shuffled_blocks(count: int, seed: int, factor: int) -> Iterator[int]:
    """0 … count − 1 in random order, again and again; each factor has its own stream."""
    generator = np.random.default_rng([seed, factor])
    while True:
        yield from generator.permutation(count).tolist()


def _draw_new_edit(
    sequence: np.random.SeedSequence,
    kind: tuple[str, float],
    size: float,
    selection: str,
    gains: FloatArray | None,
    behaviour: int,
    number_of_examples: int,
    taken: Collection[str],
) -> BankEdit:
    count = min(max(1, round(size * number_of_examples)), number_of_examples - 1)
    for child in sequence.spawn(MOST_REDRAWS):
        generator = np.random.default_rng(child)
        if gains is None or selection == RANDOM:
            chosen = generator.choice(number_of_examples, count, replace=False)
        elif selection == MIXED:
            chosen = _draw_mixture(gains, count, generator)
        else:
            chosen = _draw_top(gains if selection == HELPFUL else -gains, count, generator)
        edit = BankEdit(
            kind=kind[0],
            size_fraction=size,
            train_indices=np.sort(chosen).astype(np.int64),
            weights=np.full(count, kind[1]),
            direction=selection,
            behaviour=None if selection == RANDOM else behaviour,
        )
        if edit.sha256 not in taken:
            return edit
    raise ValueError(
        f"no new edit of {count} of {number_of_examples} train examples was found in "
        f"{MOST_REDRAWS} draws; plan fewer or larger edits"
    )


def _draw_top(gains: FloatArray, count: int, generator: np.random.Generator) -> IntArray:
    """``count`` of the examples with the largest gains: the top itself, or part of a longer top."""
    stretch = generator.choice([1.0, 1.0, 1.25, 1.5, 2.0])
    pool = min(max(count, round(stretch * count)), gains.size)
    top = np.argpartition(-gains, pool - 1)[:pool] if pool < gains.size else np.arange(gains.size)
    return np.asarray(generator.choice(np.sort(top), count, replace=False), np.int64)


def _draw_mixture(gains: FloatArray, count: int, generator: np.random.Generator) -> IntArray:
    helpful, harmful, _ = generator.multinomial(count, generator.dirichlet([1.0, 1.0, 1.0]))
    order = np.argsort(gains, kind="stable")
    chosen = np.concatenate([order[:harmful], order[gains.size - helpful :]])
    rest = np.setdiff1d(np.arange(gains.size), chosen)
    drawn = generator.choice(rest, count - chosen.size, replace=False)
    return np.asarray(np.concatenate([chosen, drawn]), np.int64)
