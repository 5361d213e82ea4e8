"""What retrains of a bank showed is summarised with the noise that they really have."""

import numpy as np
import pytest

from workers.evidence.bank_evidence import (
    BankEvidence,
    random_edit_scale,
    summarise_retrains,
)


def test_the_scale_is_the_deviation_of_predictions_for_random_removals():
    generator = np.random.default_rng(1)
    scores = generator.normal(size=(500, 3)) * [1.0, 10.0, 0.1]
    removed = generator.random((4000, 500)) < 0.05
    observed = (-(removed.astype(float)) @ scores).std(axis=0)
    np.testing.assert_allclose(random_edit_scale(scores) * np.sqrt(0.05), observed, rtol=0.06)


def test_the_mean_is_over_the_seeds_that_are_there():
    effects = np.array([[[1.0], [3.0]], [[5.0], [np.nan]], [[np.nan], [np.nan]]])
    found = summarise_retrains(effects)
    np.testing.assert_allclose(found.actual[:2, 0], [2.0, 5.0])
    assert np.isnan(found.actual[2, 0])


def test_the_noise_of_means_is_estimated_without_bias():
    generator = np.random.default_rng(2)
    truth = generator.normal(size=(400, 1, 2))
    noise = np.array([0.5, 2.0])
    found = summarise_retrains(truth + noise * generator.normal(size=(400, 3, 2)))
    np.testing.assert_allclose(found.seed_noise, noise, rtol=0.08)
    np.testing.assert_allclose(found.noise_variance.mean(axis=0), noise**2 / 3, rtol=0.15)
    assert np.all(found.shared_noise_variance == 0)


def test_noisier_edits_get_more_noise_but_not_all_of_it():
    generator = np.random.default_rng(3)
    noise = np.where(np.arange(200) < 100, 1.0, 3.0)[:, None, None]
    found = summarise_retrains(noise * generator.normal(size=(200, 4, 10)))
    calm, loud = found.noise_variance[:100].mean(), found.noise_variance[100:].mean()
    assert 2 < loud / calm < 9


def test_edits_with_the_same_seeds_share_the_noise_of_the_unedited_arm():
    generator = np.random.default_rng(4)
    own, shared = 0.5, 1.0
    found_shared, found_own = [], []
    for _ in range(60):
        effects = own * generator.normal(size=(30, 6, 5)) + shared * generator.normal(size=(6, 5))
        found = summarise_retrains(effects, np.tile(np.arange(6), (30, 1)))
        found_shared.append(found.shared_noise_variance.mean())
        found_own.append(found.noise_variance.mean())
    assert np.mean(found_shared) == pytest.approx(shared**2 / 6, rel=0.15)
    assert np.mean(found_own) == pytest.approx(own**2 / 6, rel=0.15)


def test_empty_places_among_the_seeds_change_nothing():
    generator = np.random.default_rng(7)
    effects = generator.normal(size=(20, 3, 2)) + generator.normal(size=(3, 2))
    seeds = np.tile(np.arange(3), (20, 1))
    plain = summarise_retrains(effects, seeds)
    padded = summarise_retrains(
        np.pad(effects, ((0, 0), (0, 2), (0, 0)), constant_values=np.nan),
        np.pad(seeds, ((0, 0), (0, 2)), constant_values=-1),
    )
    np.testing.assert_allclose(padded.noise_variance, plain.noise_variance)
    np.testing.assert_allclose(padded.shared_noise_variance, plain.shared_noise_variance)
    assert np.all(plain.shared_noise_variance > 0)


def test_edits_with_seeds_of_their_own_share_nothing():
    effects = np.random.default_rng(5).normal(size=(30, 2, 3))
    found = summarise_retrains(effects, np.arange(60).reshape(30, 2))
    assert np.all(found.shared_noise_variance == 0)


def test_one_seed_an_edit_leaves_the_noise_unknown():
    found = summarise_retrains(np.ones((4, 1, 2)))
    assert np.isnan(found.seed_noise).all()
    assert np.all(found.noise_variance == 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": np.zeros(2)}, "move some weight"),
        ({"behaviour_scales": np.array([0.0])}, "positive"),
        ({"predicted": np.full((2, 1), np.nan)}, "finite"),
        ({"predicted": np.zeros((3, 1))}, "predicted has shape"),
    ],
)
def test_evidence_that_does_not_fit_together_is_refused(changes, words):
    parts = {
        "behaviours": ("a",),
        "behaviour_scales": np.ones(1),
        "kinds": ("removal", "removal"),
        "sizes": np.full(2, 0.1),
        "predicted": np.zeros((2, 1)),
        "retrains": summarise_retrains(np.zeros((2, 2, 1))),
        "better": np.ones(1),
    }
    with pytest.raises(ValueError, match=words):
        BankEvidence(**(parts | changes))
