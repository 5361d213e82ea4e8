"""How close each method, control and peer comes to what retraining does: rank on random drops
(LDS), size, sign and correlation on targeted edits, beside how well retrains predict each other.

Needs `make peers` for the peers; without it their rows say so."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.agreement import datamodeling_score
from benchmarks.fidelity_rows import (
    BASELINE_SEEDS,
    SAME_SEEDS,
    SHARES,
    USUAL_SHARES,
    Measured,
    Predictor,
    rows_of,
)
from benchmarks.peers.launch import PEERS, peer_task, run_peer
from benchmarks.problems import BenchmarkTask
from benchmarks.report import Report, Row
from benchmarks.retrains import (
    TASKS,
    built,
    cached,
    random_drops,
    retrained,
    source_digest,
    targeted_edits,
)
from workers.influence.checkpoint_method import ARBITRARY_UNIT
from workers.influence.ensembles import robust_mean
from workers.influence.registry import METHODS, build_method
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

FRESH_SEEDS = tuple(range(301, 309))
DROPS = {"images": 24, "transformer": 16}
USUAL_DROPS = 30
TARGETED_SHARES = (0.01, 0.05, 0.1)
RANKINGS = ("replay", "curvature", "gradient_cosine", "control_embedding_similarity")
UNITLESS_PEERS = ("TRAK", "TracIn")
PEER_SECONDS = 180.0


def run() -> Report:
    rows = []
    with ProcessPoolExecutor(
        max_workers=os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        for task in TASKS:
            rows += measure(task, pool.map)
    return Report(
        title="Fidelity: predictions beside retrains",
        rows=rows,
        seeds=[*BASELINE_SEEDS, *FRESH_SEEDS],
        notes=NOTES,
    )


def measure(task: str, mapping: Callable[..., Iterable[Any]]) -> list[Row]:
    """All rows of one task; `mapping` is a map, of a pool or the built-in one."""
    torch.set_num_threads(1)
    one = built(task)
    runs = [train(one.problem, seed, trajectory=Trajectory()) for seed in BASELINE_SEEDS]
    ours = [p for group in mapping(own_scores, [task] * len(METHODS), METHODS) for p in group]
    found = retrain_all(task, one, {one.name: one for one in ours}, mapping)
    pool = peers_of(one, runs, mapping)
    peers = [best_damping(name, given, found) for name, given in pool]
    return rows_of(task, one, runs, found, ours, peers)


def own_scores(task: str, name: str) -> list[Predictor]:
    """One method of the registry on the baseline's seeds."""
    torch.set_num_threads(1)
    one, method = built(task), build_method(name)
    has_unit = getattr(method, "unit", "") != ARBITRARY_UNIT
    key = (
        one.problem.fingerprint,
        one.behaviour_names,
        name,
        BASELINE_SEEDS,
        source_digest("workers/influence", "workers/training"),
    )
    try:
        packed = cached("scores", key, lambda: _packed(one, name))
    except (ValueError, RuntimeError) as error:
        return [Predictor(name, problem=str(error).splitlines()[0][:160])]
    seeds = tuple(int(seed) for seed in packed[:, 0, 0])
    return [Predictor(name, packed[:, 1:], seeds, has_unit)]


def _packed(one: BenchmarkTask, name: str) -> NDArray[np.float32]:
    """(S, 1 + N, K): the seed in row 0, then the scores."""
    runs = [train(one.problem, seed, trajectory=Trajectory()) for seed in BASELINE_SEEDS]
    scores = build_method(name).scores(runs, list(one.behaviours))
    head = np.broadcast_to(
        np.array(scores.seeds, np.float32)[:, None, None],
        (len(scores.seeds), 1, scores.per_seed.shape[2]),
    )
    return np.concatenate([head, scores.per_seed], axis=1)


def retrain_all(
    task: str,
    one: BenchmarkTask,
    by_name: dict[str, Predictor],
    mapping: Callable[..., Iterable[Any]],
) -> Measured:
    number = len(one.problem.train)
    shares, drops = SHARES.get(task, USUAL_SHARES), DROPS.get(task, USUAL_DROPS)
    rankings = [by_name[name].aggregate() for name in RANKINGS if by_name[name].problem is None]
    groups = [random_drops(number, share, drops) for share in shares]
    groups.append(targeted_edits(rankings, one.better, TARGETED_SHARES))
    edits = {group.name: group for group in groups}
    unedited = np.ones((1, number), np.float32)
    seeds = (*FRESH_SEEDS, *SAME_SEEDS)
    jobs = [
        (name, seed)
        for name in edits
        for seed in (FRESH_SEEDS if name == "targeted edits" else seeds)
    ]
    plain = dict(
        zip(
            seeds,
            mapping(retrained, [task] * len(seeds), seeds, [unedited] * len(seeds)),
            strict=True,
        )
    )
    values = dict(
        zip(
            jobs,
            mapping(
                retrained,
                [task] * len(jobs),
                [seed for _, seed in jobs],
                [edits[name].weights for name, _ in jobs],
            ),
            strict=True,
        )
    )
    effects = {(name, seed): values[name, seed] - plain[seed] for name, seed in jobs}
    return Measured(
        edits,
        {name: np.stack([effects[name, s] for s in FRESH_SEEDS], 1) for name in edits},
        {(name, s): found for (name, s), found in effects.items() if s in SAME_SEEDS},
    )


def peers_of(
    one: BenchmarkTask, runs: Sequence[TrainingRun], mapping: Callable[..., Iterable[Any]]
) -> list[tuple[str, NDArray[np.float32] | str]]:
    """Each peer's scores (S, D, N, K), or why it has none."""
    given = peer_task(one, runs)
    keys = [
        (
            one.problem.fingerprint,
            one.behaviour_names,
            BASELINE_SEEDS,
            source_digest(f"benchmarks/peers/{library}_peer.py"),
        )
        for library, _ in PEERS.values()
    ]
    found = mapping(_peer, PEERS, [given] * len(PEERS), keys)
    return list(zip(PEERS, found, strict=True))


def _peer(name: str, given: Any, key: object) -> NDArray[np.float32] | str:
    def compute() -> NDArray[np.float32]:
        with tempfile.TemporaryDirectory() as folder:
            result = run_peer(name, Path(folder), given, PEER_SECONDS)
        if result.scores is None:
            raise ValueError(result.problem)
        return result.scores

    try:
        return cached("peers", (key, name), compute)
    except ValueError as error:
        return str(error)


def best_damping(name: str, given: NDArray[np.float32] | str, found: Measured) -> Predictor:
    """The peer at the damping that suits it best on the drops of middle size, which favours it."""
    has_unit = not any(word in name for word in UNITLESS_PEERS)
    if isinstance(given, str):
        return Predictor(name, problem=given)
    middle = list(found.edits)[1]
    edits, effects = found.edits[middle], found.fresh[middle].mean(1)
    quality = [
        datamodeling_score(edits.predicted(robust_mean(given[:, place])), effects)
        for place in range(given.shape[1])
    ]
    return Predictor(name, given[:, int(np.argmax(quality))], has_unit=has_unit)


NOTES = (
    "LDS is the mean over eight behaviours of Spearman's correlation between predicted and actual "
    "effects of removing random examples. Same-seed figures are means over 2 seeds; fresh-seed "
    "figures take the robust mean of 4 seeds' scores against the mean of 4 retrains with other "
    "seeds, twice, as the ceiling does with 4 retrains against 4 others. Intervals hold 90% of "
    "200 bootstrap draws over the edits.",
    "Targeted edits remove the most harmful or triple the most helpful 1, 5 and 10%, as replay, "
    "curvature, the gradients' cosine and embedding similarity rank them. Slope is actual on "
    "predicted through 0, median over behaviours; the sign rate counts effects beyond 2 standard "
    "errors; scores without a unit have no slope. Actual is the mean of 8 fresh seeds.",
    "Retrain-equivalents: how many retrains of the edit one would have to average to correlate as "
    "well with the mean over seeds, after correction for the noise of the 8; at most 1,000.",
    "Peers score the same weights and data with the same four seeds; where a library leaves the "
    "damping to the user, the best of a few was taken on reported drops (the second size), which "
    "favours the peer. Hunch's own methods run as the registry builds them.",
)
