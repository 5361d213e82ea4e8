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
        for name, share in zip(drops, SHARES.get(task, USUAL_SHARES), strict=True):
            rows += drop_rows(task, title, predictor, found, name, share, ceilings[name])
        rows += targeted_rows(
            title,
            predictor.name,
            found,
            found.edits["targeted edits"].predicted(predictor.aggregate()),
            predictor.has_unit,
        )
    rows += margin_rows(title, drops, found, ours, peers)
    return rows + edit_aware_rows(title, one, runs, found, ours)


def drop_rows(
    task: str,
    title: str,
    predictor: Predictor,
    found: Measured,
    name: str,
    share: float,
    ceiling: float,
) -> list[Row]:
    assert predictor.per_seed is not None
    edits, is_replay = found.edits[name], predictor.name == "replay"
    by_seed = [
        (edits.predicted(predictor.per_seed[predictor.seeds.index(seed)]), found.same[name, seed])
        for seed in SAME_SEEDS
        if seed in predictor.seeds
    ]
    rows = []
    if by_seed:
        value, low, high = bootstrap(
            lambda at: float(np.mean([datamodeling_score(p[at], a[at]) for p, a in by_seed])),
            len(edits.weights),
        )
        targets = SAME_SEED_TARGETS.get(task, USUAL_SAME_SEED_TARGETS)
        target = targets.get(share) if is_replay else None
        rows.append(Row(title, predictor.name, f"same-seed LDS, {name}", value, low, high, target))
    predicted = edits.predicted(predictor.aggregate())
    value, low, high = bootstrap(
        lambda at: fresh_score(predicted[at], found.fresh[name][at]), len(predicted)
    )
    target = f">= {ceiling - 0.01:.4f}" if is_replay else None
    rows.append(Row(title, predictor.name, f"fresh-seed LDS, {name}", value, low, high, target))
    if share == SHARES.get(task, USUAL_SHARES)[1] and is_replay:
        value, low, high = bootstrap(
            lambda at: agreement.retrain_equivalents(predicted[at], found.fresh[name][at]),
            len(predicted),
        )
        rows.append(
            Row(title, predictor.name, f"retrain-equivalents, {name}", value, low, high, ">= 3")
        )
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
    if name in ("replay", "edit-aware"):
        statistics["retrain-equivalents"] = lambda at: agreement.retrain_equivalents(
            predicted[at], effects[at]
        )
    rows = []
    for metric, statistic in statistics.items():
        value, low, high = bootstrap(statistic, len(predicted))
        target = {"slope": "0.9 to 1.1", "retrain-equivalents": ">= 3"}.get(metric)
        held = target if name == "edit-aware" or metric == "retrain-equivalents" else None
        rows.append(Row(title, name, f"{metric}, targeted edits", value, low, high, held))
    return rows


def margin_rows(
    title: str,
    drops: Sequence[str],
    found: Measured,
    ours: Sequence[Predictor],
    peers: Sequence[Predictor],
) -> list[Row]:
    """Replay's LDS less the best peer's."""
    replay = next(one for one in ours if one.name == "replay")
    able = [one for one in peers if one.per_seed is not None]
    if replay.per_seed is None or not able:
        return []
    rows = []
    for name in drops:
        edits, effects = found.edits[name], found.fresh[name]
        best = max(able, key=lambda p: fresh_score(edits.predicted(p.aggregate()), effects))
        own, other = edits.predicted(replay.aggregate()), edits.predicted(best.aggregate())
        value, low, high = bootstrap(
            lambda at, own=own, other=other, effects=effects: (
                fresh_score(own[at], effects[at]) - fresh_score(other[at], effects[at])
            ),
            len(own),
        )
        rows.append(
            Row(
                title,
                f"replay less the best peer ({best.name})",
                f"fresh-seed LDS, {name}",
                value,
                low,
                high,
                "> 0",
            )
        )
    return rows


def edit_aware_rows(
    title: str,
    one: BenchmarkTask,
    runs: Sequence[TrainingRun],
    found: Measured,
    ours: Sequence[Predictor],
) -> list[Row]:
    replay = next(predictor for predictor in ours if predictor.name == "replay")
    if replay.per_seed is None:
        return []
    scores = InfluenceScores(replay.per_seed, replay.seeds)
    try:
        estimator = prepare(list(runs), list(one.behaviours), scores)
    except ValueError as error:
        return [Row(title, "edit-aware", "scores", None, reason=str(error)[:160])]
    asked = []
    for row in found.edits["targeted edits"].weights:
        places = np.flatnonzero(row != 1)
        asked.append((places, row[places].astype(np.float64)))
    predicted = robust_mean(estimator.predict_fresh(asked).transpose(1, 0, 2))
    return targeted_rows(title, "edit-aware", found, predicted, True)
