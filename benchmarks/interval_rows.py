"""The rows of the `intervals` benchmark: coverage, width, slope and rank of calibrated predictions
of held-out edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.problems import BenchmarkTask
from benchmarks.report import Row
from workers.evidence.bank import BankEdit
from workers.evidence.bank_evidence import random_edit_scale
from workers.evidence.records import BoolArray, FloatArray
from workers.evidence.track_record import rank_correlation, share, slope_through_origin

JUDGED_SIZES = (48, 96)
KIND_TITLES = {"removal": "removal", "down_weighting": "weight .5", "up_weighting": "weight 2 or 3"}


@dataclass(frozen=True)
class HeldOutEdits:
    """What retraining did with edits that no bank holds."""

    plan: list[BankEdit]
    kinds: list[str]
    sizes: FloatArray  # (E,) moved weight
    predicted: FloatArray  # (E, K) before calibration
    actual: FloatArray  # (E, K) mean over the test seeds
    noise_variance: FloatArray  # (K,) of those means


@dataclass(frozen=True)
class Checked:
    """Calibrated predictions of the held-out edits by one bank."""

    value: FloatArray  # (E, K)
    half: dict[float, FloatArray]  # by level, for the mean of the test's retrains
    half_of_mean: dict[float, FloatArray]  # by level, for the fresh-seed mean


def bank_rows(
    task: BenchmarkTask,
    subject: str,
    size: int,
    held_out: HeldOutEdits,
    checks: Sequence[Checked],
    scores: FloatArray,
) -> list[Row]:
    judged = size in JUDGED_SIZES
    rows = []
    for level in (0.8, 0.9):
        rate = coverage(held_out, checks, level, None)
        aim = f"{level - 0.05:.2f} to {level + 0.05:.2f}" if judged else None
        rows.append(
            Row(
                task.name,
                subject,
                f"coverage of {level:.0%} intervals",
                rate.value,
                rate.low,
                rate.high,
                aim,
            )
        )
        narrow = np.mean(
            [np.abs(held_out.actual - one.value) <= one.half_of_mean[level] for one in checks]
        )
        rows.append(
            Row(task.name, subject, f"inside the narrower {level:.0%} interval", float(narrow))
        )
        ratio = np.mean(
            [one.half[level].mean() / oracle_half(held_out, one, level).mean() for one in checks]
        )
        rows.append(
            Row(
                task.name,
                subject,
                f"width of {level:.0%} intervals, times the oracle's",
                float(ratio),
                target="<= 1.5" if judged else None,
            )
        )
    rows += accuracy_rows(
        task,
        subject,
        held_out,
        [one.value for one in checks],
        scores,
        "0.9 to 1.1" if judged else None,
    )
    if judged:
        rows += cell_rows(task, subject, held_out, checks)
    return rows


def accuracy_rows(
    task: BenchmarkTask,
    subject: str,
    held_out: HeldOutEdits,
    values: Sequence[FloatArray],
    scores: FloatArray,
    target: str | None = None,
) -> list[Row]:
    """Slope of actual on predicted, in units of a random edit's effect, and rank correlation."""
    scale = random_edit_scale(scores)
    edits = np.repeat(np.arange(len(held_out.plan)), len(scale))
    slopes = [
        slope_through_origin(
            (value / scale).reshape(-1), (held_out.actual / scale).reshape(-1), edits
        )
        for value in values
    ]
    ranks = [
        rank_correlation(value[:, k], held_out.actual[:, k]).value
        for value in values
        for k in range(len(scale))
    ]
    low, high = np.mean([one.low for one in slopes]), np.mean([one.high for one in slopes])
    return [
        Row(
            task.name,
            subject,
            "slope of actual on predicted",
            float(np.mean([one.value for one in slopes])),
            float(low),
            float(high),
            target,
        ),
        Row(task.name, subject, "rank correlation, mean over behaviours", float(np.mean(ranks))),
    ]


def cell_rows(
    task: BenchmarkTask, subject: str, held_out: HeldOutEdits, checks: Sequence[Checked]
) -> list[Row]:
    """Coverage of each kind × size, and of each selection."""
    rows = []
    fractions = np.array([edit.size_fraction for edit in held_out.plan])
    kinds = np.array(held_out.kinds)
    for level in (0.8, 0.9):
        aim = f"{level - 0.1:.2f} to {level + 0.1:.2f}"
        for kind, title in KIND_TITLES.items():
            for fraction in np.unique(fractions):
                cell = (kinds == kind) & (fractions == fraction)
                rate = coverage(held_out, checks, level, cell)
                metric = f"{level:.0%}: {title} of {fraction:.1%} ({cell.sum()} edits)"
                rows.append(Row(task.name, subject, metric, rate.value, rate.low, rate.high, aim))
        selections = np.array([edit.direction for edit in held_out.plan])
        for selection in np.unique(selections):
            rate = coverage(held_out, checks, level, selections == selection)
            metric = f"{level:.0%}: {selection} selection"
            rows.append(Row(task.name, subject, metric, rate.value, rate.low, rate.high))
    return rows


def chance_rows(task: BenchmarkTask, held_out: HeldOutEdits) -> list[Row]:
    """How many cells would miss their target though every interval covered exactly as often as it
    says: by the binomial distribution, the behaviours of an edit counted as one or as independent,
    between which they stand."""
    fractions = np.array([edit.size_fraction for edit in held_out.plan])
    cells = np.unique(np.stack([held_out.kinds, fractions.astype(str)]), axis=1, return_counts=True)
    edits = cells[1]
    rows = []
    for level in (0.8, 0.9):
        for each, meaning in ((1, "alike"), (held_out.actual.shape[1], "independent")):
            count = edits * each
            low = stats.binom.cdf(np.ceil((level - 0.1) * count - 1e-9) - 1, count, level)
            high = stats.binom.sf(np.floor((level + 0.1) * count + 1e-9), count, level)
            metric = (
                f"{level:.0%}: of {len(edits)} cells, misses by chance were coverage exact and "
                f"behaviours {meaning}"
            )
            rows.append(Row(task.name, "retrains", metric, float((low + high).sum())))
    return rows


def coverage(
    held_out: HeldOutEdits, checks: Sequence[Checked], level: float, cell: BoolArray | None
) -> Any:
    """Share of held-out effects inside their interval, over the banks; edits are the clusters."""
    hits = np.stack([np.abs(held_out.actual - one.value) <= one.half[level] for one in checks], 1)
    edits = np.broadcast_to(np.arange(len(hits))[:, None, None], hits.shape)
    chosen = slice(None) if cell is None else cell
    return share(hits[chosen].reshape(-1), edits[chosen].reshape(-1))


def oracle_half(held_out: HeldOutEdits, one: Checked, level: float) -> FloatArray:
    """(E, K) half-widths of the oracle of the notes: log σ² linear in kind, size, selection and
    behaviour, by the gamma likelihood (iteratively reweighted least squares)."""
    residual = held_out.actual - one.value
    edits, behaviours = residual.shape
    factors = [
        held_out.kinds,
        [str(edit.size_fraction) for edit in held_out.plan],
        [edit.direction for edit in held_out.plan],
    ]
    of_edit = np.concatenate([indicator(factor)[:, 1:] for factor in factors], axis=1)
    design = np.concatenate(
        [np.repeat(of_edit, behaviours, axis=0), np.tile(np.eye(behaviours), (edits, 1))], axis=1
    )
    squares = residual.reshape(-1) ** 2
    coefficients = np.linalg.lstsq(design, np.log(squares + 1e-3 * squares.mean()), rcond=None)[0]
    for _ in range(50):
        variance = np.exp(design @ coefficients)
        step = np.linalg.lstsq(design, squares / variance - 1.0, rcond=None)[0]
        coefficients = coefficients + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    spread = np.exp(design @ coefficients / 2)
    quantile = np.quantile(np.abs(residual.reshape(-1)) / spread, level)
    return np.asarray((quantile * spread).reshape(edits, behaviours), np.float64)


def indicator(values: Sequence[str]) -> FloatArray:
    names, places = np.unique(values, return_inverse=True)
    return np.eye(len(names))[places]


def noise_share(held_out: HeldOutEdits, scores: FloatArray) -> float:
    return float(np.mean(held_out.noise_variance / held_out.actual.var(axis=0)))
