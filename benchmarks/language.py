"""Methods on a small language model that reads bytes: rank agreement with retrains of random drops,
same seed and fresh seeds, beside what retrains say of each other; and bergson's replay on the same
network, batches and retrains.

Needs `make peers` for the peer; without it its rows say so."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmarks.agreement import bootstrap, datamodeling_score
from benchmarks.peers.launch import LANGUAGE, PeerScores, peer_task, run_peer
from benchmarks.problems import SPAM, BenchmarkTask, encode, read_lines, task
from benchmarks.report import Report, Row
from benchmarks.retrains import cached, random_drops, training_code
from workers.influence.ensembles import robust_mean
from workers.influence.registry import METHODS, build_method
from workers.influence.replay import Replay
from workers.training.batched import train_many
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

BASELINE_SEEDS = (1, 2, 3, 4)
SAME_SEEDS = (1, 2)
FRESH_SEEDS = tuple(range(301, 309))
SHARE, DROPS = 0.1, 24
LEFT_OUT = (
    "leave_one_out",
    "control_gradient_norm",
    "control_loss",
    "control_embedding_similarity",
)
"""Methods that are retrains themselves, and controls that rank all behaviours alike."""
PEER, PEER_SECONDS = "bergson, replay", 400.0
OTHER_PEERS = ("bergson, EK-FAC", "bergson, gradient projections (TRAK)")
WITHOUT = "scores transformers models on its own datasets; this network is not one"
CEILING = "mean of 4 retrains against 4 others"
Array = NDArray[np.float64]


def byte_model() -> BenchmarkTask:
    """400 text messages of at most 40 bytes, 280 to train on; two layers of 32 units."""
    table = {"text": [one["text"][:40] for one in read_lines(SPAM)[:400]]}
    architecture = {
        "name": "causal_transformer",
        "width": 32,
        "layers": 2,
        "heads": 2,
        "maximum_length": 40,
        "tokenizer": "bytes",
        "loss_on": "all",
    }
    encoded = encode(table, "text", architecture, seed=18)
    recipe = Recipe(learning_rate=3e-3, batch_size=20, epochs=4)
    return task("text messages by bytes, language model", encoded, recipe)


def run() -> Report:
    torch.set_num_threads(1)
    one = byte_model()
    runs = [train(one.problem, seed, trajectory=Trajectory()) for seed in BASELINE_SEEDS]
    edits = random_drops(len(one.problem.train), SHARE, DROPS)
    fresh, same = effects(one, edits.weights, FRESH_SEEDS), effects(one, edits.weights, SAME_SEEDS)
    first, second = fresh[:, ::2].mean(1), fresh[:, 1::2].mean(1)
    ceiling = bootstrap(lambda at: datamodeling_score(first[at], second[at]), DROPS)
    rows = [Row(one.name, CEILING, "fresh-seed LDS", *ceiling)]
    for name in METHODS:
        if name in LEFT_OUT:
            continue
        began = time.perf_counter()
        try:
            scores = build_method(name).scores(runs, list(one.behaviours)).per_seed
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:160]
            rows.append(Row(one.name, name, "scores", None, reason=reason))
            continue
        seconds = time.perf_counter() - began
        if name == "replay":
            own = scores
        rows += agreement_rows(one, name, scores, edits.predicted, fresh, same)
        rows.append(Row(one.name, name, "seconds, 4 seeds and 8 behaviours", seconds))
    rows += peer_rows(one, runs, own, edits.predicted, fresh, same)
    rows += [Row(one.name, name, "scores", None, reason=WITHOUT) for name in OTHER_PEERS]
    return Report(
        title="Language: methods and bergson on a model of bytes",
        rows=rows,
        seeds=[*BASELINE_SEEDS, *FRESH_SEEDS],
        notes=NOTES,
    )


def effects(one: BenchmarkTask, weights: NDArray[np.float32], seeds: Sequence[int]) -> Array:
    """(E, S, K) what retraining with each row of `weights` (E, N) does, paired by seed."""

    def retrain() -> Array:
        arms = torch.from_numpy(np.concatenate([np.ones_like(weights[:1]), weights]))
        rows = arms.repeat_interleave(len(seeds), 0)
        found = one.measure(train_many(one.problem, list(seeds) * len(arms), rows))
        return found.reshape(len(arms), len(seeds), -1)

    key = (
        "language",
        one.problem.fingerprint,
        one.behaviour_names,
        tuple(seeds),
        weights.tobytes(),
        training_code(),
    )
    values = cached("retrains", key, retrain)
    return values[1:] - values[:1]


def agreement_rows(
    one: BenchmarkTask,
    name: str,
    scores: NDArray[np.float32],
    predict: Any,
    fresh: Array,
    same: Array,
) -> list[Row]:
    """LDS of scores (S, N, K) of the baseline's seeds against both kinds of retrains."""
    by_seed = [
        (predict(scores[place]), same[:, place])
        for place, seed in enumerate(SAME_SEEDS[: len(scores)])
        if BASELINE_SEEDS[place] == seed
    ]
    mean = predict(robust_mean(scores))
    halves = (fresh[:, ::2].mean(1), fresh[:, 1::2].mean(1))
    return [
        Row(
            one.name,
            name,
            "same-seed LDS",
            *bootstrap(
                lambda at: float(np.mean([datamodeling_score(p[at], a[at]) for p, a in by_seed])),
                DROPS,
            ),
        ),
        Row(
            one.name,
            name,
            "fresh-seed LDS",
            *bootstrap(
                lambda at: float(np.mean([datamodeling_score(mean[at], h[at]) for h in halves])),
                DROPS,
            ),
        ),
    ]


def peer_rows(
    one: BenchmarkTask,
    runs: Sequence[TrainingRun],
    own: NDArray[np.float32],
    predict: Any,
    fresh: Array,
    same: Array,
) -> list[Row]:
    """bergson's replay on the first of the runs: agreement, likeness and time of a walk."""
    two = runs[: len(SAME_SEEDS)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        starts = {str(n): run.trajectory.rows(0)[0].clone() for n, run in enumerate(two)}  # type: ignore[union-attr]
        save_file(starts, place / "initial.safetensors")
        found = run_peer(PEER, place, peer_task(one, two), PEER_SECONDS, among=LANGUAGE)
        walks = [float(file.read_text().split()[0]) for file in sorted(place.glob("walk-*.txt"))]
    if found.scores is None or not walks:
        return [Row(one.name, PEER, "scores", None, reason=found.problem)]
    theirs = found.scores[:, 0]
    rows = agreement_rows(one, PEER, theirs, predict, fresh, same)
    ours = agreement_rows(one, "replay", own[: len(two)], predict, fresh, same)
    for mine, other in zip(ours, rows, strict=True):
        assert mine.value is not None
        assert other.value is not None
        rows.append(
            Row(
                one.name,
                "replay of 2 seeds",
                f"{mine.metric} less bergson's",
                mine.value - other.value,
                target=">= -0.01",
            )
        )
    alike = np.corrcoef(theirs.ravel(), own[: len(two)].ravel())[0, 1]
    rows.append(Row(one.name, "replay and bergson, replay", "correlation of scores", float(alike)))
    return rows + time_rows(one, runs[0], walks, found)


def time_rows(
    one: BenchmarkTask, run: TrainingRun, walks: Sequence[float], found: PeerScores
) -> list[Row]:
    """Seconds of one seed's walk for one behaviour and for all, against bergson's walks."""
    rows = []
    theirs = float(np.min(walks))
    for number in (1, len(one.behaviours)):
        own = min(_seconds_of_walk(run, one, number) for _ in range(3))
        what = f"{number} behaviour" + "s" * (number > 1)
        rows += [
            Row(one.name, "replay", f"seconds of a walk, {what}", own),
            Row(one.name, PEER, f"seconds of its walks, {what}", theirs * number),
            Row(
                one.name,
                "replay against bergson, replay",
                f"share of its time, {what}",
                own / (theirs * number),
                target="<= 0.5",
            ),
        ]
    rows.append(Row(one.name, PEER, "peak memory, MiB", found.peak_bytes / 2**20))
    return rows


def _seconds_of_walk(run: TrainingRun, one: BenchmarkTask, number: int) -> float:
    began = time.perf_counter()
    Replay().scores([run], list(one.behaviours)[:number])
    return time.perf_counter() - began


NOTES = (
    f"LDS is the mean over eight behaviours of Spearman's correlation between predicted and actual "
    f"effects of {DROPS} random drops of {SHARE:.0%}. Same-seed figures are means over 2 seeds; "
    "fresh-seed figures take the robust mean over the baseline's 4 seeds (the peer's: 2) against "
    "the mean of 4 retrains with other seeds, twice, as the ceiling does. Intervals hold 90% of "
    "200 bootstrap draws over the edits.",
    "bergson's replay runs in its own process on the same network, weights, batches and optimizer, "
    "and walks back once for each behaviour; its seconds are the mean of its walks, without its "
    "forward run and imports. Hunch's walk is the least of three. Both on one core.",
)
