"""How noise over seeds grows with the edit is learned from few retrains and used everywhere."""

from dataclasses import replace

import numpy as np
import pytest

from tests.evidence.simulated_bank import SimulatedBaseline
from workers.evidence.bank_evidence import summarise_retrains
from workers.evidence.conformal import calibrate
from workers.evidence.seed_noise import NoiseGrowth, fit_noise_growth

TRUTH = NoiseGrowth(1.3, 0.5)


def noisy_evidence(seed, count, growth=TRUTH, seeds=2):
    """A simulated bank whose noise grows; and the baseline it is of."""
    one = SimulatedBaseline(seed)
    plain = one.evidence(count)
    standard = plain.predicted / plain.behaviour_scales
    relative = np.sqrt(growth.relative_variance(standard, plain.sizes[:, None]))
    _, _, _, actual, _ = one.measure(one.plan(count, 1))
    noise = one.generator.normal(size=(count, seeds, one.behaviours))
    effects = actual[:, None] + noise * relative[:, None] * one.seed_noise
    retrains = summarise_retrains(effects, standard=standard, sizes=plain.sizes)
    return one, replace(plain, retrains=retrains)


def test_the_growth_is_found_given_many_retrains():
    generator = np.random.default_rng(1)
    sizes = np.exp(generator.uniform(np.log(0.005), np.log(0.3), 4000))
    standard = generator.normal(size=(4000, 1)) * np.sqrt(sizes)[:, None] * 5
    variance = TRUTH.relative_variance(standard, sizes[:, None]) * 7
    square = variance * generator.chisquare(3, size=variance.shape)
    found = fit_noise_growth(square, np.full(variance.shape, 3), standard, sizes)
    assert found.size_exponent == pytest.approx(1.3, abs=0.1)
    assert found.targeting_exponent == pytest.approx(0.5, abs=0.1)


def test_without_retrains_of_several_seeds_the_growth_is_the_prior():
    nothing = np.zeros((5, 2))
    found = fit_noise_growth(nothing, nothing.astype(int), nothing, np.full(5, 0.1))
    assert found == fit_noise_growth(nothing[:0], nothing[:0].astype(int), nothing[:0], np.ones(0))
    assert 0.8 < found.size_exponent < 1.3


def test_units_do_not_matter_to_the_growth():
    _, evidence = noisy_evidence(3, 48)
    units = np.logspace(-3, 3, 8)
    effects = np.random.default_rng(0).normal(size=(48, 2, 8)) * evidence.sizes[:, None, None]
    standard = evidence.predicted / evidence.behaviour_scales
    plain, scaled = (
        summarise_retrains(effects * unit, standard=standard, sizes=evidence.sizes)
        for unit in (1.0, units)
    )
    assert scaled.growth.size_exponent == pytest.approx(plain.growth.size_exponent, abs=1e-3)
    np.testing.assert_allclose(scaled.seed_noise, plain.seed_noise * units, rtol=1e-3)


def test_means_of_small_and_of_large_edits_get_the_noise_that_they_have():
    ratios = []
    for seed in range(6):
        one, evidence = noisy_evidence(seed, 96)
        standard = evidence.predicted / evidence.behaviour_scales
        true = TRUTH.relative_variance(standard, evidence.sizes[:, None]) * one.seed_noise**2 / 2
        ratio = evidence.retrains.total_noise_variance / true
        ratios.append([ratio[evidence.sizes < 0.01].mean(), ratio[evidence.sizes > 0.1].mean()])
    np.testing.assert_allclose(np.mean(ratios, axis=0), 1, atol=0.35)


def test_intervals_for_few_retrains_cover_small_and_large_edits_alike():
    inside = {"small": [], "large": []}
    for seed in range(6):
        one, evidence = noisy_evidence(seed, 60)
        fitted = calibrate(evidence)
        kinds, sizes, predicted, actual, _ = one.measure(one.plan(150, seed=99))
        relative = TRUTH.relative_variance(predicted / one.scale, sizes[:, None])
        noise = one.generator.normal(size=actual.shape) * np.sqrt(relative / 4) * one.seed_noise
        _, low, high = fitted.predict(predicted, kinds, sizes, level=0.8, number_of_seeds=4)
        hits = (low <= actual + noise) & (actual + noise <= high)
        inside["small"].append(hits[sizes < 0.012].mean())
        inside["large"].append(hits[sizes > 0.08].mean())
    assert np.mean(inside["small"]) == pytest.approx(0.8, abs=0.08)
    assert np.mean(inside["large"]) == pytest.approx(0.8, abs=0.08)
