"""What scores of a few seeds tell of fresh ones, on scores whose truth is known."""

import numpy as np
import pytest

from workers.influence.reliability import Reliability, shrunk_ratio

SEEDS, EXAMPLES = 4, 20_000


def reliability(per_seed: np.ndarray) -> Reliability:
    """Of scores for which there is no smoother estimate."""
    return Reliability.of(per_seed, np.zeros_like(per_seed))


def scores_with(noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True scores (N,) and those of seeds (S, N, 1)."""
    truth = np.random.default_rng(0).standard_normal(EXAMPLES)
    return truth, (truth + noise)[..., None].astype(np.float32)


def top(per_seed: np.ndarray, number: int) -> np.ndarray:
    return np.argsort(per_seed.mean(0)[:, 0])[-number:]


def test_with_normal_noise_the_largest_scores_repeat_as_all_do() -> None:
    noise = 1.5 * np.random.default_rng(1).standard_normal((SEEDS, EXAMPLES))
    truth, per_seed = scores_with(noise)
    found, chosen = reliability(per_seed), top(per_seed, 500)
    share = found.of_edits([(chosen, np.zeros(500))])[0, 0]
    # Learnt from three seeds, and applied to four: no less than three repeat, no more than four.
    of_three, of_four = 1 / (1 + 1.5**2 / (SEEDS - 1)), 1 / (1 + 1.5**2 / SEEDS)
    assert of_three < float(found.overall[0]) < of_four
    assert share == pytest.approx(float(found.overall[0]), rel=0.06)
    actual = truth[chosen].sum() / per_seed.mean(0)[chosen, 0].sum()
    assert of_three / of_four < share / actual < 1.02


def test_where_noise_comes_in_large_pieces_the_largest_scores_repeat_less() -> None:
    generator = np.random.default_rng(2)
    noise = generator.standard_t(3, (SEEDS, EXAMPLES))
    truth, per_seed = scores_with(noise)
    found, chosen = reliability(per_seed), top(per_seed, 200)
    share = found.of_edits([(chosen, np.full(200, 3.0))])[0, 0]
    actual = truth[chosen].sum() / per_seed.mean(0)[chosen, 0].sum()
    overall = float(found.overall[0])
    assert actual < 0.85 * overall
    assert abs(share - actual) < 0.5 * abs(overall - actual)


def test_random_edits_have_about_the_share_of_all_examples() -> None:
    noise = np.random.default_rng(3).standard_t(3, (SEEDS, EXAMPLES))
    _, per_seed = scores_with(noise)
    found = reliability(per_seed)
    edits = [
        (np.random.default_rng(seed).permutation(EXAMPLES)[:200], np.zeros(200))
        for seed in range(20)
    ]
    shares = found.of_edits(edits)[:, 0]
    np.testing.assert_allclose(shares, found.overall[0], rtol=0.1)


def test_seeds_that_agree_repeat_all_and_one_seed_cannot_tell() -> None:
    scores = np.random.default_rng(4).standard_normal((1, 50, 2)).astype(np.float32)
    edit = [(np.arange(10), np.zeros(10))]
    assert reliability(scores).of_edits(edit).tolist() == [[1.0, 1.0]]
    same = reliability(np.repeat(scores, 3, axis=0))
    np.testing.assert_allclose(same.of_edits(edit), 1.0, rtol=1e-5)


def test_seeds_without_a_common_signal_repeat_next_to_nothing() -> None:
    per_seed = np.random.default_rng(5).standard_normal((SEEDS, EXAMPLES, 1))
    found, chosen = reliability(per_seed), top(per_seed, 500)
    assert float(found.overall[0]) < 0.05
    assert found.of_edits([(chosen, np.zeros(500))])[0, 0] < 0.15


def test_neither_unit_nor_sign_nor_order_of_the_seeds_matters() -> None:
    per_seed = np.random.default_rng(6).standard_normal((SEEDS, 300, 1))
    per_seed += np.random.default_rng(7).standard_normal((300, 1))
    edit = [(np.arange(30), np.full(30, 3.0))]
    expected = reliability(per_seed).of_edits(edit)
    for other in (1000 * per_seed, -per_seed, per_seed[::-1]):
        np.testing.assert_allclose(reliability(other).of_edits(edit), expected, rtol=1e-6)


def test_what_smoother_scores_know_makes_fresh_seeds_better_known() -> None:
    generator = np.random.default_rng(8)
    truth, per_seed = scores_with(2.0 * generator.standard_t(3, (SEEDS, EXAMPLES)))
    smooth = np.repeat(2.0 * (truth + 0.3 * generator.standard_normal(EXAMPLES))[None], SEEDS, 0)
    alone, helped = reliability(per_seed), Reliability.of(per_seed, smooth[..., None])

    def error(found: Reliability) -> float:
        return float(np.mean((found.repeated[:, 0] - truth) ** 2))

    assert error(helped) < 0.2 * error(alone)
    chosen = top(per_seed, 300)
    actual = truth[chosen].sum() / per_seed.mean(0)[chosen, 0].sum()
    edit = [(chosen, np.zeros(300))]
    assert helped.of_edits(edit)[0, 0] == pytest.approx(actual, abs=0.05)
    assert helped.first_order(edit)[0, 0] == pytest.approx(-truth[chosen].sum(), rel=0.15)


def test_a_ratio_is_its_own_where_it_is_known_and_the_usual_one_where_it_is_not() -> None:
    numerator, denominator = np.array([8.0, 0.5, 0.0]), np.array([10.0, 1e-9, 0.0])
    found = shrunk_ratio(numerator, denominator, np.ones(3), np.float64(0.4), np.float64(0.1), 0.15)
    np.testing.assert_allclose(found, [0.8, 0.4, 0.4], atol=0.01)
