"""Taking back the luck of the draw: noise of few seeds moderated over examples, and scores shrunk
towards what they most likely are, so that picking the top does not promise too much."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from workers.evidence.intervals import as_seed_rows
from workers.evidence.records import FloatArray

LARGEST_SAMPLE = 20_000
GRID_STEPS = 14
LARGEST_ITERATIONS = 200


def moderated_variances(variances: ArrayLike, degrees_of_freedom: float) -> FloatArray:
    """(n,) variances of few observations each, shrunk towards a common value.

    s² is taken as σ²χ²_d/d with 1/σ² from a scaled χ²_{d₀}; d₀ and s₀² by matching the mean and
    variance of log s² (Smyth 2004, section 6.2); the result is (d₀s₀² + d s²)/(d₀ + d). Zeros count
    in the result but not in the match.
    """
    values = np.asarray(variances, np.float64)
    positive = values[values > 0]
    if degrees_of_freedom <= 0 or positive.size < 3:
        return np.asarray(np.full(values.shape, values.mean() if values.size else 0.0))
    half = degrees_of_freedom / 2
    logs = np.log(positive) - special.digamma(half) + np.log(half)
    excess = logs.var(ddof=1) - special.polygamma(1, half)
    if excess <= 0:
        return np.asarray(np.full(values.shape, np.exp(logs.mean())), np.float64)
    prior_half = _inverse_trigamma(float(excess))
    prior = np.exp(logs.mean() + special.digamma(prior_half) - np.log(prior_half))
    prior_degrees = 2 * prior_half
    return np.asarray(
        (prior_degrees * prior + degrees_of_freedom * values)
        / (prior_degrees + degrees_of_freedom),
        np.float64,
    )


def shrink_scores(per_seed: ArrayLike, seed: int = 0) -> FloatArray:
    """(N,) posterior mean of each example's score from its (S, N) values over seeds.

    Picking the largest of many noisy scores picks noise too (the winner's curse; selection bias,
    Efron 2011). The mean over seeds x has standard error s/√S, with s² from
    :func:`moderated_variances`; true scores come from a mixture of normals around 0 with variances
    on a geometric grid, its weights by EM (adaptive shrinkage, Stephens 2017), which leaves the few
    truly large scores nearly alone. EM sees at most 20,000 examples, drawn with ``seed``. The
    posterior mean needs no further correction for selection, in so far as the mixture is right.
    With one seed nothing is known of the noise and the scores come back as they are.
    """
    rows = as_seed_rows(per_seed)
    seeds, count = rows.shape
    mean = rows.mean(axis=0)
    if seeds < 2 or count < 3:
        return np.asarray(mean, np.float64)
    noise = moderated_variances(rows.var(axis=0, ddof=1), seeds - 1) / seeds
    if not np.any(noise > 0):
        return np.asarray(mean, np.float64)
    noise = np.maximum(noise, 1e-12 * noise.max())
    signal = max(float(np.max(mean**2 - noise)), float(noise.min()))
    grid = np.append(0.0, np.geomspace(float(np.median(noise)) / 100, 2 * signal, GRID_STEPS))
    sample = np.arange(count)
    if count > LARGEST_SAMPLE:
        sample = np.random.default_rng(seed).choice(count, LARGEST_SAMPLE, replace=False)
    weights = _mixture_weights(mean[sample], noise[sample], grid)
    result = np.empty(count)
    for start in range(0, count, LARGEST_SAMPLE):
        part = slice(start, start + LARGEST_SAMPLE)
        responsibility = _responsibilities(mean[part], noise[part], grid, weights)
        keep = grid / (grid + noise[part, None])
        result[part] = mean[part] * np.sum(responsibility * keep, axis=1)
    return result


def _mixture_weights(mean: FloatArray, noise: FloatArray, grid: FloatArray) -> FloatArray:
    likelihood = _likelihood(mean, noise, grid)
    weights = np.full(grid.size, 1.0 / grid.size)
    for _ in range(LARGEST_ITERATIONS):
        joint = likelihood * weights
        updated = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        settled = np.max(np.abs(updated - weights)) < 1e-5
        weights = updated
        if settled:
            break
    return np.asarray(weights, np.float64)


def _likelihood(mean: FloatArray, noise: FloatArray, grid: FloatArray) -> FloatArray:
    """(n, grid) normal densities, each row relative to its largest."""
    variance = grid + noise[:, None]
    log_density = -0.5 * (mean[:, None] ** 2 / variance + np.log(variance))
    return np.asarray(np.exp(log_density - log_density.max(axis=1, keepdims=True)), np.float64)


def _responsibilities(
    mean: FloatArray, noise: FloatArray, grid: FloatArray, weights: FloatArray
) -> FloatArray:
    joint = _likelihood(mean, noise, grid) * weights
    return np.asarray(joint / joint.sum(axis=1, keepdims=True), np.float64)


def _inverse_trigamma(value: float) -> float:
    """y with trigamma(y) = value, by Newton's method (Smyth 2004, appendix)."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    found = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, found))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, found))
        found += step
        if -step / found < 1e-10:
            break
    return float(found)
