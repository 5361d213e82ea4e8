"""Aggregation over seeds keeps the mean's efficiency and survives a bad seed; the rest warns."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.problems import MLP, examples_for, problem_of
from workers.influence.behaviours import Behaviour
from workers.influence.ensembles import (
    disagreement,
    oversized_seeds,
    robust_mean,
    seed_weights,
)
from workers.influence.interface import InfluenceScores, LeftOutSeed, NoUsableSeed
from workers.influence.replay import Replay
from workers.influence.smoothness import Smoothness, measure_smoothness
from workers.training.trainer import train
from workers.training.trajectory import Trajectory


def noisy_seeds(number: int, noise: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The truth (N, K) and S noisy copies (S, N, K)."""
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(200, 3))
    return truth, truth + noise * generator.normal(size=(number, 200, 3))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 8])
def test_ordinary_seeds_are_averaged(number: int) -> None:
    _, scores = noisy_seeds(number)
    np.testing.assert_allclose(robust_mean(scores), scores.mean(0), rtol=1e-12)


@pytest.mark.parametrize("number", [3, 4, 6])
@pytest.mark.parametrize("factor", [10.0, 50.0, 1e6])
def test_one_bad_seed_moves_the_result_less_than_one_ordinary_seed_could(
    number: int, factor: float
) -> None:
    truth, scores = noisy_seeds(number)
    good = np.sqrt(np.square(scores[1:].mean(0) - truth).mean())
    scores[0] *= factor
    assert np.sqrt(np.square(robust_mean(scores) - truth).mean()) < 1.5 * good


def test_a_bad_seed_of_one_behaviour_still_counts_for_the_others() -> None:
    _, scores = noisy_seeds(4)
    scores[0, :, 1] *= 100
    weights = seed_weights(scores)
    assert weights[0, 1] < 0.01
    assert (np.delete(weights.ravel(), 1) == 1).all()


def test_a_seed_of_scores_far_too_large_is_named_with_its_behaviour() -> None:
    _, scores = noisy_seeds(4)
    assert oversized_seeds(scores) == {}
    scores[2, :, 1] *= 50
    found = oversized_seeds(scores)
    assert list(found) == [2]
    behaviour, ratio = found[2]
    assert behaviour == 1
    assert ratio == pytest.approx(50, rel=0.2)
    assert oversized_seeds(scores[1:3]) == {}


def test_values_that_are_not_finite_never_count() -> None:
    _, scores = noisy_seeds(4)
    scores[2, 5, 0] = np.nan
    expected = scores[[0, 1, 3], :, 0].mean(0)
    np.testing.assert_allclose(robust_mean(scores)[:, 0], expected)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(5)), st.floats(0.01, 100), st.floats(-10, 10))
def test_the_order_of_seeds_and_the_unit_play_no_part(
    order: list[int], unit: float, shift: float
) -> None:
    _, scores = noisy_seeds(5)
    scores[3] *= 30
    expected = robust_mean(scores) * unit + shift
    np.testing.assert_allclose(
        robust_mean(scores[order] * unit + shift), expected, rtol=1e-6, atol=1e-9
    )


def test_disagreement_recovers_the_known_reliability() -> None:
    truth, scores = noisy_seeds(4, noise=1.0, seed=2)
    found = disagreement(scores)
    expected = [np.corrcoef(truth[:, k], scores[:, :, k].mean(0))[0, 1] ** 2 for k in range(3)]
    np.testing.assert_allclose(found.reliability, expected, atol=0.06)
    assert found.warning is None
    json.dumps(found.to_json())


def test_seeds_that_share_nothing_are_warned_of() -> None:
    noise = np.random.default_rng(0).normal(size=(4, 300, 2))
    warning = disagreement(noise).warning
    assert warning is not None
    assert "2 of 2 behaviours" in warning


def test_scores_of_no_seed_cannot_be_aggregated() -> None:
    scores = InfluenceScores(np.zeros((0, 4, 1), np.float32), (), (LeftOutSeed(7, "it exploded"),))
    with pytest.raises(NoUsableSeed, match="seed 7: it exploded"):
        scores.aggregate()


def test_smooth_training_is_predicted_and_not_warned_of() -> None:
    problem = problem_of(MLP, number=30, epsilon=1e-3, batch_size=10)
    behaviours = [Behaviour("mean_margin", examples_for(MLP, 8, seed=1))]
    run = train(problem, 2, trajectory=Trajectory())
    scores = Replay().scores([run], behaviours).per_seed[0]
    found = measure_smoothness(problem, 2, behaviours, scores=scores, size=0.02)
    assert found.roughness.max() < 0.01
    assert found.first_order_error is not None
    assert found.first_order_error.max() < 0.01
    assert found.warning is None


def test_rough_training_and_wrong_scores_are_warned_of() -> None:
    slopes = np.array([[1.0, 1.0], [-1.0, 2.0]])
    found = Smoothness(slopes, np.array([[1.0, -3.0], [-1.0, 2.0]]), slopes * [5, 1])
    assert found.warning is not None
    assert "1 of 2 behaviours respond unevenly" in found.warning
    json.dumps(found.to_json())
