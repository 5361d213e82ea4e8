"""The rows of the fidelity benchmark, made of predictions and measured effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks import agreement
from benchmarks.agreement import Array, bootstrap, datamodeling_score
from benchmarks.problems import BenchmarkTask
from benchmarks.report import Row
from benchmarks.retrains import Edits
from workers.influence.edit_aware import prepare
from workers.influence.ensembles import robust_mean
from workers.influence.interface import InfluenceScores
from workers.training.trainer import TrainingRun

BASELINE_SEEDS = (1, 2, 3, 4)
SAME_SEEDS = (1, 2)
SHARES = {"transformer": (0.02, 0.2)}
USUAL_SHARES = (0.01, 0.05, 0.2)
SAME_SEED_TARGETS = {"transformer": {0.02: ">= 0.85"}}
USUAL_SAME_SEED_TARGETS = {0.01: ">= 0.97", 0.05: ">= 0.97"}
REPLAY, SHRUNKEN, EDIT_AWARE = OURS = "replay", "shrunken_replay", "edit-aware"
CEILING = "mean of 4 retrains against 4 others"


@dataclass(frozen=True)
class Predictor:
    """Scores of one method, control or peer on one task, or why there are none."""

    name: str
    per_seed: NDArray[np.float32] | None = None
    """(S, N, K) in the order of the seeds it could use."""
    seeds: tuple[int, ...] = BASELINE_SEEDS
    has_unit: bool = True
    problem: str | None = None

    def aggregate(self) -> Array:
        assert self.per_seed is not None
        return robust_mean(self.per_seed)


@dataclass(frozen=True)
class Measured:
    """A task's edits and their effects."""

    edits: dict[str, Edits]
    fresh: dict[str, Array]
    """(E, S, K) by name of the edits."""
    same: dict[tuple[str, int], Array]
    """(E, K) by name and seed."""


def rows_of(
    task: str,
    one: BenchmarkTask,
    runs: Sequence[TrainingRun],
    found: Measured,
    ours: Sequence[Predictor],
    peers: Sequence[Predictor],
) -> list[Row]:
    rows: list[Row] = []
    title = one.name
    drops = [name for name in found.edits if name.startswith("random")]
    ceilings = {}
    for name in drops:
        first, second = halves(found.fresh[name])
        value, low, high = bootstrap(
            lambda at, a=first, b=second: datamodeling_score(a[at], b[at]), len(first)
        )
        ceilings[name] = value
        rows.append(Row(title, CEILING, f"fresh-seed LDS, {name}", value, low, high))
    for predictor in [*ours, *peers]:
        if predictor.per_seed is None:
            rows.append(Row(title, predictor.name, "scores", None, reason=predictor.problem))
            continue
        for name in drops:
            by_seed = {
                seed: found.edits[name].predicted(own)
                for seed, own in zip(predictor.seeds, predictor.per_seed, strict=True)
            }
            predicted = found.edits[name].predicted(predictor.aggregate())
            rows += drop_rows(
                task, title, predictor.name, by_seed, predicted, found, name, ceilings[name]
            )
        rows += targeted_rows(
            title,
            predictor.name,
            found,
            found.edits["targeted edits"].predicted(predictor.aggregate()),
            predictor.has_unit,
        )
    replay = next(predictor for predictor in ours if predictor.name == REPLAY)
    if replay.per_seed is None:
        return rows
    predictions = {
        one.name: {name: edits.predicted(one.aggregate()) for name, edits in found.edits.items()}
        for one in ours
        if one.name in OURS and one.per_seed is not None
    }
    try:
        of_seeds, fresh = edit_aware_predictions(one, runs, found, replay)
    except ValueError as error:
        rows.append(Row(title, EDIT_AWARE, "scores", None, reason=str(error)[:160]))
    else:
        predictions[EDIT_AWARE] = fresh
        for name in drops:
            rows += drop_rows(
                task, title, EDIT_AWARE, of_seeds[name], fresh[name], found, name, ceilings[name]
            )
        rows += targeted_rows(title, EDIT_AWARE, found, fresh["targeted edits"], True)
    for subject, of_edits in predictions.items():
        rows += margin_rows(title, subject, drops, found, of_edits, peers)
    return rows


def drop_rows(
    task: str,
    title: str,
    subject: str,
    by_seed: dict[int, Array],
    predicted: Array,
    found: Measured,
    name: str,
    ceiling: float,
) -> list[Row]:
    """Of predictions (E, K) for each same seed, and for fresh ones."""
    shares = SHARES.get(task, USUAL_SHARES)
    share = shares[list(found.edits).index(name)]
    is_ours = subject in OURS
    pairs = [(own, found.same[name, seed]) for seed, own in by_seed.items() if seed in SAME_SEEDS]
    rows = []
    if pairs:
        value, low, high = bootstrap(
            lambda at: float(np.mean([datamodeling_score(p[at], a[at]) for p, a in pairs])),
            len(predicted),
        )
        targets = SAME_SEED_TARGETS.get(task, USUAL_SAME_SEED_TARGETS)
        target = targets.get(share) if subject == REPLAY else None
        rows.append(Row(title, subject, f"same-seed LDS, {name}", value, low, high, target))
    effects = found.fresh[name]
    value, low, high = bootstrap(lambda at: fresh_score(predicted[at], effects[at]), len(predicted))
    target = f">= {ceiling - 0.01:.4f}" if is_ours else None
    rows.append(Row(title, subject, f"fresh-seed LDS, {name}", value, low, high, target))
    if is_ours and share == shares[1]:
        value, low, high = bootstrap(
            lambda at: agreement.retrain_equivalents(predicted[at], effects[at]), len(predicted)
        )
        metric = f"retrain-equivalents, {name}"
        rows.append(Row(title, subject, metric, value, low, high, ">= 3"))
    return rows


def fresh_score(predicted: Array, effects: Array) -> float:
    """LDS against the mean of 4 fresh retrains, the mean over both halves, as the ceiling is."""
    return float(np.mean([datamodeling_score(predicted, half) for half in halves(effects)]))


def halves(effects: Array) -> tuple[Array, Array]:
    middle = effects.shape[1] // 2
    return effects[:, :middle].mean(1), effects[:, middle:].mean(1)


def targeted_rows(
    title: str, name: str, found: Measured, predicted: Array, has_unit: bool
) -> list[Row]:
    effects = found.fresh["targeted edits"]
    actual, error = effects.mean(1), agreement.standard_error(effects)
    statistics: dict[str, Callable[[NDArray[np.int64]], float]] = {
        "Pearson": lambda at: agreement.pearson(predicted[at], actual[at]),
        "sign rate": lambda at: agreement.sign_rate(predicted[at], actual[at], error[at]),
    }
    if has_unit:
        statistics["slope"] = lambda at: agreement.slope(predicted[at], actual[at])
    if name in OURS:
        statistics["retrain-equivalents"] = lambda at: agreement.retrain_equivalents(
            predicted[at], effects[at]
        )
    rows = []
    for metric, statistic in statistics.items():
        value, low, high = bootstrap(statistic, len(predicted))
        target = {"slope": "0.9 to 1.1", "retrain-equivalents": ">= 3"}.get(metric)
        held = target if name == EDIT_AWARE or metric == "retrain-equivalents" else None
        rows.append(Row(title, name, f"{metric}, targeted edits", value, low, high, held))
    return rows


def margin_rows(
    title: str,
    subject: str,
    drops: Sequence[str],
    found: Measured,
    predictions: dict[str, Array],
    peers: Sequence[Predictor],
) -> list[Row]:
    """The LDS of `predictions` (E, K) less the best peer's."""
    able = [one for one in peers if one.per_seed is not None]
    rows = []
    for name in drops if able else ():
        edits, effects, own = found.edits[name], found.fresh[name], predictions[name]
        others = {one.name: edits.predicted(one.aggregate()) for one in able}
        best = max(others, key=lambda peer: fresh_score(others[peer], effects))
        value, low, high = bootstrap(
            lambda at, own=own, other=others[best], effects=effects: (
                fresh_score(own[at], effects[at]) - fresh_score(other[at], effects[at])
            ),
            len(own),
        )
        metric = f"fresh-seed LDS, {name}"
        words = f"{subject} less the best peer ({best})"
        rows.append(Row(title, words, metric, value, low, high, "> 0"))
    return rows


def edit_aware_predictions(
    one: BenchmarkTask, runs: Sequence[TrainingRun], found: Measured, replay: Predictor
) -> tuple[dict[str, dict[int, Array]], dict[str, Array]]:
    """By name of the edits: predictions (E, K) of each seed, and those (E, K) for fresh seeds.
    Raises NotEditAware."""
    assert replay.per_seed is not None
    scores = InfluenceScores(replay.per_seed, replay.seeds)
    estimator = prepare(list(runs), list(one.behaviours), scores)
    predictions: dict[str, dict[int, Array]] = {}
    fresh: dict[str, Array] = {}
    for name, edits in found.edits.items():
        asked = []
        for row in edits.weights:
            places = np.flatnonzero(row != 1)
            asked.append((places, row[places].astype(np.float64)))
        by_edit = estimator.predict(asked)
        predictions[name] = {seed: by_edit[:, place] for place, seed in enumerate(estimator.seeds)}
        fresh[name] = estimator.over_seeds(estimator.predict_fresh(asked))
    return predictions, fresh
