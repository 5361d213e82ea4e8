"""Do calibrated intervals hold? Banks of known edits calibrate replay's predictions; edits that no
bank holds are then really retrained and compared with the intervals.

Why earlier slopes fell short was looked for on other data only: breast cancer, made-up classes,
Friedman's first function, and text messages and splits that no task here has. There a seed enlarged
or lessened the effects of all edits together (by 18% on Friedman's function), so that a slope from
four seeds was off however many edits there were; banks take more seeds since. There too the noise
over seeds grew with the edit, while intervals took one for all: too wide for small edits."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from benchmarks.interval_rows import (
    JUDGED_SIZES,
    Checked,
    HeldOutEdits,
    accuracy_rows,
    bank_rows,
    chance_rows,
    coverage,
    noise_share,
)
from benchmarks.plots import Series, line_plot
from benchmarks.problems import TASKS, BenchmarkTask, weights_of_edits
from benchmarks.report import Report, Row
from workers.evidence.bank import BankEdit, edit_shape, plan_bank, seeds_in_turn
from workers.evidence.bank_evidence import (
    BankEvidence,
    empty_bank,
    random_edit_scale,
    summarise_retrains,
)
from workers.evidence.calibration import Calibration
from workers.evidence.conformal import calibrate
from workers.evidence.intervals import retrain_noise_from_baseline
from workers.evidence.records import FloatArray
from workers.influence.edit_aware import EditAware, prepare
from workers.influence.replay import Replay
from workers.training.batched import train_many
from workers.training.trainer import train
from workers.training.trajectory import Trajectory

SMALLEST_AGREEMENT = 0.7
"""Below it Hunch does not offer edit-aware predictions."""
BASELINE_SEEDS = (1, 2, 3, 4)
BANK_SEEDS = tuple(range(101, 117))
SEEDS_PER_BANK_EDIT = 2
TEST_SEEDS = tuple(range(201, 265))
SEEDS_PER_TEST = 6
BANKS = 4
BANK_SIZES = (0, 24, 48, 96)
HELD_OUT_EDITS = 480
TASK_NAMES = ("digits", "diabetes", "spam", "tweets")
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def run() -> Report:
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(
        max_workers=min(len(TASK_NAMES), os.cpu_count() or 1),
        mp_context=multiprocessing.get_context("spawn"),
    ) as pool:
        parts = list(pool.map(measure_task, reversed(TASK_NAMES)))[::-1]
    rows = [row for part, _ in parts for row in part]
    return Report(
        title="Do calibrated intervals hold on edits never seen?",
        rows=rows,
        seeds=[*BASELINE_SEEDS, *BANK_SEEDS, *TEST_SEEDS],
        notes=NOTES,
        figures={
            f"Share of held-out effects inside their interval, banks of {JUDGED_SIZES[0]} edits": (
                line_plot(
                    [curve for _, curve in parts],
                    title="Reliability of intervals on held-out edits",
                    x_name="nominal coverage",
                    y_name="observed coverage",
                    identity=True,
                )
            )
        },
    )


NOTES = (
    f"Every task has {HELD_OUT_EDITS} held-out edits over removal, weight .5, weights 2 and 3 × "
    "0.5–20% of the examples × random, harmful, helpful and mixed selections, each really "
    f"retrained with {SEEDS_PER_TEST} of {len(TEST_SEEDS)} fresh seeds in turn, beside the "
    "unedited arm of the same seeds, and "
    f"eight behaviours. Predictions are replay's, averaged over {len(BASELINE_SEEDS)} other seeds; "
    f"each of {BANKS} independent banks calibrates with {SEEDS_PER_BANK_EDIT} retrains an edit, in "
    f"turn of {len(BANK_SEEDS)} yet other seeds. Values are means over the banks; intervals in the "
    "table are 90% and count edits, not pairs, as independent: a cell of few edits whose interval "
    "reaches into the target is no evidence against it. Cells have 15 to 44 edits, so that some "
    "would miss though coverage were exact: how many, each task says first, by the binomial "
    "distribution. Behaviours of one edit err together, and the banks share the held-out edits, so "
    "the truth stands between “alike” and “independent”, nearer to the first.",
    "An observed effect is the mean of finitely many retrains, so it is compared with the interval "
    "for the mean of so many; “inside the narrower interval” compares it with the one for the "
    "fresh-seed mean itself, whose coverage of that mean can only be higher. The oracle knows the "
    "spread of the residuals: a log-linear model in kind, size, selection and behaviour fitted to "
    "the squared residuals of the very held-out edits, scaled so that it covers them exactly as "
    "often as its level says.",
    "The constants of the calibration were set on simulated banks and on exact retrains of "
    "weighted logistic regression, and how many seeds a bank takes on other data (see the module); "
    "none of these tasks or seeds took part. Targets stand "
    "for banks of 48 edits (what the demonstration makes) and of 96.",
    "Edit-aware rows stand where the followed run agrees with replay at "
    f"{SMALLEST_AGREEMENT} or more; digits and diabetes were looked at while that estimate was "
    "developed, on other edits.",
)


def measure_task(name: str) -> tuple[list[Row], Series]:
    """All rows of one task, and its reliability curve."""
    torch.set_num_threads(1)
    task = TASKS[name]()
    scores, baseline_values, estimator = scores_of(task)
    plans = [
        plan_bank(scores, max(BANK_SIZES), seed=bank, better=task.better) for bank in range(BANKS)
    ]
    banks = [bank_of(task, scores, plan) for plan in plans]
    forbidden = {edit.sha256 for plan in plans for edit in plan}
    held_out = held_out_edits(task, scores, forbidden)
    noise = retrain_noise_from_baseline(baseline_values)
    names = task.behaviour_names
    rows = [
        Row(task.name, "retrains", "held-out edits", len(held_out.plan), target=">= 200"),
        Row(
            task.name,
            "retrains",
            "share of seed noise in the variance of observed effects",
            noise_share(held_out, scores),
        ),
        *chance_rows(task, held_out),
        *accuracy_rows(task, "replay, before calibration", held_out, [held_out.predicted], scores),
    ]
    curve = Series(task.name, LEVELS, LEVELS)
    for size in BANK_SIZES:
        if size == 0:
            empty = empty_bank(names, random_edit_scale(scores), task.better, noise)
            calibrations = [calibrate(empty)]
        else:
            calibrations = [calibrate(bank.subset(np.arange(size))) for bank in banks]
        checks = [check(calibration, held_out) for calibration in calibrations]
        subject = f"bank of {size} edits" if size else "empty bank"
        rows += bank_rows(task, subject, size, held_out, checks, scores)
        if size == JUDGED_SIZES[0]:
            observed = [coverage(held_out, checks, level, None).value for level in LEVELS]
            curve = Series(task.name, LEVELS, observed)
    return rows + edit_aware_rows(task, estimator, held_out, plans, banks, scores), curve


def edit_aware_rows(
    task: BenchmarkTask,
    estimator: EditAware,
    held_out: HeldOutEdits,
    plans: Sequence[Sequence[BankEdit]],
    banks: Sequence[BankEvidence],
    scores: FloatArray,
) -> list[Row]:
    """The same with edit-aware predictions, where Hunch offers them."""
    agreement = float(np.median(estimator.agreement))
    rows = [Row(task.name, "edit-aware", "agreement with replay", agreement)]
    if agreement < SMALLEST_AGREEMENT:
        return rows

    def predicted(plan: Sequence[BankEdit]) -> FloatArray:
        edits = [(edit.train_indices, edit.weights) for edit in plan]
        return estimator.over_seeds(estimator.predict_fresh(edits))

    held_out = replace(held_out, predicted=predicted(held_out.plan))
    banks = [
        replace(bank, predicted=predicted(plan)) for bank, plan in zip(banks, plans, strict=True)
    ]
    rows += accuracy_rows(
        task, "edit-aware, before calibration", held_out, [held_out.predicted], scores
    )
    for size in JUDGED_SIZES:
        checks = [check(calibrate(bank.subset(np.arange(size))), held_out) for bank in banks]
        subject = f"edit-aware, bank of {size} edits"
        rows += bank_rows(task, subject, size, held_out, checks, scores)
    return rows


def scores_of(task: BenchmarkTask) -> tuple[FloatArray, FloatArray, EditAware]:
    """(N, K) replay's scores, robust over the baseline's seeds; (S, K) the baseline's values; the
    edit-aware estimator."""
    runs = [train(task.problem, seed, trajectory=Trajectory()) for seed in BASELINE_SEEDS]
    found = Replay().scores(runs, task.behaviours)
    values = task.measure(torch.stack([run.parameters for run in runs]))
    estimator = prepare(runs, task.behaviours, found)
    return np.asarray(found.aggregate(), np.float64), values, estimator


def retrained_effects(
    task: BenchmarkTask, plan: Sequence[BankEdit], seeds: Sequence[Sequence[int]]
) -> FloatArray:
    """(E, S, K) edited − unedited of each edit with each of its seeds."""
    pairs = [(row, seed) for row, own in enumerate(seeds) for seed in own]
    distinct = sorted({seed for _, seed in pairs})
    count = len(task.problem.train)
    edited = weights_of_edits([(edit.train_indices, edit.weights) for edit in plan], count)
    unedited = task.measure(train_many(task.problem, distinct, torch.ones(len(distinct), count)))
    values = task.measure(
        train_many(task.problem, [seed for _, seed in pairs], edited[[row for row, _ in pairs]])
    )
    place = {seed: k for k, seed in enumerate(distinct)}
    differences = values - unedited[[place[seed] for _, seed in pairs]]
    return differences.reshape(len(plan), -1, len(task.behaviours))


def bank_of(task: BenchmarkTask, scores: FloatArray, plan: Sequence[BankEdit]) -> BankEvidence:
    """A bank as the product makes it: two seeds an edit, in turn from a pool."""
    seeds = [seeds_in_turn(BANK_SEEDS, SEEDS_PER_BANK_EDIT, row) for row in range(len(plan))]
    shapes = [edit_shape(edit.weights, len(scores)) for edit in plan]
    sizes = np.array([shape.size for shape in shapes])
    predicted, scales = first_order(scores, plan), random_edit_scale(scores)
    effects = retrained_effects(task, plan, seeds)
    return BankEvidence(
        behaviours=task.behaviour_names,
        behaviour_scales=scales,
        kinds=tuple(shape.kind for shape in shapes),
        sizes=sizes,
        predicted=predicted,
        retrains=summarise_retrains(
            effects, np.array(seeds), standard=predicted / scales, sizes=sizes
        ),
        better=task.better,
    )


def held_out_edits(task: BenchmarkTask, scores: FloatArray, forbidden: set[str]) -> HeldOutEdits:
    plan = plan_bank(
        scores, HELD_OUT_EDITS, seed=9_999, forbidden_edits=forbidden, better=task.better
    )
    seeds = [seeds_in_turn(TEST_SEEDS, SEEDS_PER_TEST, row) for row in range(len(plan))]
    effects = retrained_effects(task, plan, seeds)
    shapes = [edit_shape(edit.weights, len(scores)) for edit in plan]
    return HeldOutEdits(
        plan=plan,
        kinds=[shape.kind for shape in shapes],
        sizes=np.array([shape.size for shape in shapes]),
        predicted=first_order(scores, plan),
        actual=effects.mean(axis=1),
        noise_variance=effects.var(axis=1, ddof=1).mean(axis=0) / SEEDS_PER_TEST,
    )


def first_order(scores: FloatArray, plan: Sequence[BankEdit]) -> FloatArray:
    return np.stack([(edit.weights - 1.0) @ scores[edit.train_indices] for edit in plan])


def check(calibration: Calibration, held_out: HeldOutEdits) -> Checked:
    half, half_of_mean = {}, {}
    value = held_out.predicted
    for level in LEVELS:
        arguments = (held_out.predicted, held_out.kinds, held_out.sizes, None, level)
        value, _, high = calibration.predict(*arguments, number_of_seeds=SEEDS_PER_TEST)
        half[level] = high - value
        half_of_mean[level] = calibration.predict(*arguments)[2] - value
    return Checked(value, half, half_of_mean)
