"""Replay shrunk over seeds lies nearer to the fresh-seed mean than replay and than unrolled
segments where the truth is known, and is replay itself where seeds have no luck."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.influence.test_replay import behaviours_for
from tests.training.problems import MLP, problem_of
from workers.influence.interface import InfluenceScores, LeftOutSeed
from workers.influence.registry import build_method
from workers.influence.shrunken_replay import ShrunkenReplay, combined
from workers.training.trainer import train
from workers.training.trajectory import Trajectory

Array = NDArray[np.float64]
SEEDS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Drawn:
    """Scores with a known fresh-seed mean `truth` (N, K)."""

    truth: Array
    replayed: InfluenceScores
    unrolled: InfluenceScores


def scores_of(per_seed: Array, seeds: tuple[int, ...] = SEEDS) -> InfluenceScores:
    return InfluenceScores(per_seed.astype(np.float32), seeds)


def drawn(luck: float, miss: float, number: int = 3_000) -> Drawn:
    """Heavy-tailed true scores of two behaviours; replay errs by the seeds' `luck` and unrolled
    segments by what they `miss`, both relative to a score's own size."""
    generator = np.random.default_rng(7)
    shape = (number, 2)
    size = np.exp(generator.normal(0, 1, shape)) * [1.0, 20.0]
    smooth = size * generator.normal(size=shape)
    truth = 0.7 * smooth + miss * size * generator.normal(size=shape)
    noise = luck * size * generator.normal(size=(len(SEEDS), *shape))
    wobble = 0.05 * size * generator.normal(size=(len(SEEDS), *shape))
    return Drawn(truth, scores_of(truth + noise), scores_of(smooth + wobble))


def error(found: Array, truth: Array) -> float:
    """Mean squared error relative to the truth's mean square, the mean over behaviours."""
    return float((((found - truth) ** 2).mean(0) / (truth**2).mean(0)).mean())


@pytest.mark.parametrize(("luck", "miss"), [(0.3, 1.0), (1.0, 0.5), (2.0, 0.3), (0.3, 0.1)])
def test_it_is_nearly_as_near_to_fresh_seeds_as_knowing_both_errors_allows(
    luck: float, miss: float
) -> None:
    found = drawn(luck, miss)
    mine = error(combined(found.replayed, found.unrolled).per_seed.mean(0), found.truth)
    replayed = error(found.replayed.per_seed.mean(0), found.truth)
    smooth = error(0.7 * found.unrolled.per_seed.mean(0), found.truth)
    assert mine < 1.02 * min(replayed, smooth)
    assert mine < 1.2 / (1 / replayed + 1 / smooth)  # of independent errors, weighted at best


def test_it_leaves_replay_where_luck_is_all_there_is() -> None:
    found = drawn(4.0, 0.1)
    mine = error(combined(found.replayed, found.unrolled).per_seed.mean(0), found.truth)
    assert mine < 0.01 * error(found.replayed.per_seed.mean(0), found.truth)


def test_it_says_how_much_of_replay_it_kept() -> None:
    exact, lucky = drawn(0.1, 1.0), drawn(4.0, 0.1)
    kept = [
        np.array(combined(one.replayed, one.unrolled).diagnostics["kept_of_replay"])
        for one in (exact, lucky)
    ]
    assert kept[0].min() > 0.95
    assert kept[1].max() < 0.15


def test_seeds_that_agree_are_left_as_they_are() -> None:
    found = drawn(0.0, 1.0)
    result = combined(found.replayed, found.unrolled)
    np.testing.assert_allclose(result.per_seed, found.replayed.per_seed, rtol=1e-4)


def test_nothing_is_known_of_a_single_seeds_luck() -> None:
    found = drawn(1.0, 1.0)
    one = scores_of(found.replayed.per_seed[:1].astype(np.float64), (3,))
    other = scores_of(found.unrolled.per_seed[:1].astype(np.float64), (3,))
    np.testing.assert_array_equal(combined(one, other).per_seed, one.per_seed)


def test_zeros_stay_zeros() -> None:
    nothing = scores_of(np.zeros((4, 5, 2)))
    np.testing.assert_array_equal(combined(nothing, nothing).per_seed, nothing.per_seed)


def test_neither_unit_nor_order_matters() -> None:
    found = drawn(1.0, 0.5, 400)
    result = combined(found.replayed, found.unrolled).per_seed
    rescaled = scores_of(1_000.0 * found.unrolled.per_seed.astype(np.float64))
    np.testing.assert_allclose(combined(found.replayed, rescaled).per_seed, result, rtol=1e-3)
    larger = scores_of(1e-6 * found.replayed.per_seed.astype(np.float64))
    np.testing.assert_allclose(
        combined(larger, found.unrolled).per_seed, 1e-6 * result, rtol=1e-3, atol=1e-12
    )
    examples = np.random.default_rng(3).permutation(400)
    place = np.ix_([2, 0, 3, 1], examples, [1, 0])
    seeds = tuple(SEEDS[s] for s in (2, 0, 3, 1))
    moved = combined(
        scores_of(found.replayed.per_seed[place].astype(np.float64), seeds),
        scores_of(found.unrolled.per_seed[place].astype(np.float64), seeds),
    )
    np.testing.assert_allclose(moved.per_seed, result[place], rtol=1e-4, atol=1e-7)


def test_only_seeds_that_both_methods_could_use_count() -> None:
    found = drawn(1.0, 0.5, 50)
    left_out = LeftOutSeed(2, "blew up")
    fewer = InfluenceScores(found.replayed.per_seed[[0, 2, 3]], (1, 3, 4), (left_out,))
    result = combined(fewer, found.unrolled)
    assert result.seeds == (1, 3, 4)
    assert result.left_out == (left_out,)
    again = InfluenceScores(found.unrolled.per_seed[[3, 0, 2]], (4, 1, 3))
    np.testing.assert_array_equal(combined(fewer, again).per_seed, result.per_seed)


def test_the_method_runs_both_and_combines_them() -> None:
    problem = problem_of(MLP, 40, epochs=4)
    runs = [train(problem, seed, trajectory=Trajectory()) for seed in SEEDS]
    behaviours = behaviours_for(problem)
    result = ShrunkenReplay().scores(runs, behaviours)
    parts = [build_method(name).scores(runs, behaviours) for name in ("replay", "unrolled")]
    np.testing.assert_array_equal(result.per_seed, combined(*parts).per_seed)
    assert result.per_seed.shape == (4, 40, len(behaviours))
    kept = np.array(result.diagnostics["kept_of_replay"])
    assert ((kept >= 0) & (kept < 1)).all()


def test_its_cost_is_that_of_both() -> None:
    problem = problem_of(MLP, 40, epochs=2)
    cost = ShrunkenReplay().estimate_cost(problem, 2, behaviours_for(problem))
    assert cost.seconds > 0
    assert cost.bytes > 0
