"""Ratios of time within one run: replay to plain training, Hunch's curvature to its peers', batched
retrains to single ones, the trainer to transformers.Trainer; and the peak memory of each.

Needs `make peers` for the peers; without it their rows say so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import problems
from benchmarks.agreement import datamodeling_score
from benchmarks.fidelity import DROPS, FRESH_SEEDS, USUAL_DROPS
from benchmarks.peers.launch import PEERS, TIMED, PeerScores, peer_task, run_peer
from benchmarks.problems import BenchmarkTask
from benchmarks.report import ROOT, Report, Row
from benchmarks.retrains import built, random_drops, retrained
from benchmarks.timing import RETRAINS, SEED
from workers.influence.registry import METHODS, build_method
from workers.training.trainer import train
from workers.training.trajectory import Trajectory

REPLAY_TARGETS: dict[str, dict[int, str | None]] = {
    "digits": {1: "<= 3.0", 10: "<= 4.5"},
    "images": {1: "<= 3.0", 10: "<= 4.5"},
    "default_images": {1: "<= 3.0", 10: "<= 4.5"},
    "small_transformer": {1: "<= 3.5", 10: None},
}
CURVATURE_TASKS = ("digits", "images")
RIVALS = {
    "ekfac": ("kronfluence, EK-FAC", "dattri, EK-FAC"),
    "curvature": (
        "captum, influence by Arnoldi",
        "captum, influence by the whole Hessian",
        "dattri, influence by conjugate gradients",
    ),
}
RETRAIN_TASKS = ("digits", "spam")
SHARE = 0.05
Timing = dict[str, float]


def run() -> Report:
    rows: list[Row] = []
    for task, targets in REPLAY_TARGETS.items():
        rows += replay_rows(task, targets)
    for task in CURVATURE_TASKS:
        rows += curvature_rows(task)
    for task in RETRAIN_TASKS:
        rows += retrain_rows(task)
    rows += trainer_rows() + language_rows()
    return Report(
        title="Speed and memory, as ratios within one run",
        rows=rows,
        seeds=[SEED, *FRESH_SEEDS],
        notes=NOTES,
    )


def replay_rows(task: str, targets: dict[int, str | None]) -> list[Row]:
    title, rows = getattr(problems, task)().name, []
    for number, target in targets.items():
        found = timed("replay", task, str(number))
        subject = f"replay, {number} behaviour{'s' if number > 1 else ''}"
        ratio = found["replay"] / found["plain"]
        rows.append(Row(title, subject, "time of a plain run", ratio, target=target))
        rows.append(Row(title, subject, "peak memory, MiB", found["peak_bytes"] / 2**20))
    ratio = found["recorded"] / found["plain"]
    rows.append(Row(title, "recorded run", "time of a plain run", ratio))
    return rows


def curvature_rows(task: str) -> list[Row]:
    one = getattr(problems, task)()
    run_of_seed = train(one.problem, SEED, trajectory=Trajectory())
    given = peer_task(one, [run_of_seed])
    rows = []
    for name, rivals in RIVALS.items():
        if name not in METHODS:
            rows.append(Row(one.name, name, "seconds", None, reason="not among the methods"))
            continue
        own = timed("method", task, name)
        scores = build_method(name).scores([run_of_seed], list(one.behaviours)).per_seed[0]
        own_lds = random_drop_score(task, one, scores)
        rows.append(Row(one.name, name, "seconds", own["method"]))
        rows.append(Row(one.name, name, "peak memory, MiB", own["peak_bytes"] / 2**20))
        for rival in rivals:
            rows += rival_rows(task, one, name, own["method"], own_lds, rival, peer(rival, given))
    return rows


def rival_rows(
    task: str,
    one: BenchmarkTask,
    name: str,
    seconds: float,
    own_lds: float,
    rival: str,
    found: PeerScores,
) -> list[Row]:
    if found.scores is None:
        return [Row(one.name, rival, "seconds", None, reason=found.problem)]
    theirs = max(random_drop_score(task, one, scores) for scores in found.scores[0])
    return [
        Row(one.name, rival, "seconds", found.seconds[0]),
        Row(one.name, rival, "peak memory, MiB", found.peak_bytes / 2**20),
        Row(
            one.name,
            f"{name} against {rival}",
            "times as fast",
            found.seconds[0] / seconds,
            target=">= 2",
        ),
        Row(
            one.name,
            f"{name} against {rival}",
            f"LDS less the peer's, drops of {SHARE:.0%}",
            own_lds - theirs,
            target=">= 0",
        ),
    ]


def random_drop_score(task: str, one: BenchmarkTask, scores: Any) -> float:
    """LDS of scores (N, K) of one seed against the mean over the fresh seeds, as in fidelity."""
    edits = random_drops(len(one.problem.train), SHARE, DROPS.get(task, USUAL_DROPS))
    assert built(task).problem.fingerprint == one.problem.fingerprint
    unedited = np.ones((1, len(one.problem.train)), np.float32)
    effects = np.mean(
        [retrained(task, s, edits.weights) - retrained(task, s, unedited) for s in FRESH_SEEDS], 0
    )
    return datamodeling_score(edits.predicted(scores), effects)


def retrain_rows(task: str) -> list[Row]:
    title, rows = getattr(problems, task)().name, []
    for seeds in ("same", "fresh"):
        found = timed("retrains", task, seeds)
        ratio = found["one by one"] / found["batched"]
        rows.append(
            Row(
                title,
                f"{RETRAINS} batched retrains, {seeds} seed" + "s" * (seeds == "fresh"),
                "times as fast as one by one",
                ratio,
                target=">= 5",
            )
        )
        rows.append(
            Row(
                title, f"batched retrains, {seeds}", "peak memory, MiB", found["peak_bytes"] / 2**20
            )
        )
    return rows


def trainer_rows() -> list[Row]:
    one = problems.small_transformer()
    own = timed("trainer", "small_transformer")
    given = peer_task(one, [train(one.problem, SEED, trajectory=Trajectory())])
    name = "transformers.Trainer"
    found = peer(name, given)
    rows = [Row(one.name, "trainer", "peak memory, MiB", own["peak_bytes"] / 2**20)]
    return rows + peer_rows(one.name, "trainer", own["plain"], name, found, ">= 1.3")


def language_rows() -> list[Row]:
    one = problems.small_language_model()
    own = timed("replay", "small_language_model", "1")
    given = peer_task(one, [train(one.problem, SEED, trajectory=Trajectory())])
    name = "bergson, replay"
    found = peer(name, given)
    rows = [
        Row(one.name, "replay, 1 behaviour", "time of a plain run", own["replay"] / own["plain"]),
        Row(one.name, "replay, 1 behaviour", "peak memory, MiB", own["peak_bytes"] / 2**20),
    ]
    return rows + peer_rows(one.name, "replay", own["replay"], name, found, ">= 2")


def peer_rows(
    task: str, ours: str, seconds: float, name: str, found: PeerScores, target: str
) -> list[Row]:
    """What a peer took beside our `seconds`, or why it gave nothing."""
    if not found.seconds:
        return [Row(task, name, "seconds", None, reason=found.problem)]
    times = found.seconds[0] / seconds
    return [
        Row(task, name, "peak memory, MiB", found.peak_bytes / 2**20),
        Row(task, f"{ours} against {name}", "times as fast", times, target=target),
    ]


def timed(*words: str) -> Timing:
    """What `benchmarks.timing` found in a process of its own."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.timing", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(finished.stderr[-2000:])
    found: Timing = json.loads(finished.stdout.splitlines()[-1])
    return found


def peer(name: str, given: Any) -> PeerScores:
    assert name in PEERS or name in TIMED
    with tempfile.TemporaryDirectory() as folder:
        return run_peer(name, Path(folder), given)


NOTES = (
    "Every ratio is of the least of up to five turns, which the compared parts took one after the "
    "other on one core; peers ran once, in their own process, without imports. Replay counts its "
    "backward walk over a recorded run; “recorded run” is what recording adds to training.",
    "Hunch's curvature methods and the peers score the same run and eight behaviours. Hunch's take "
    "their damping by themselves; a peer's seconds are for one damping, its LDS is of the best of "
    "those tried. LDS is against the mean of 8 fresh-seed retrains. Peak memory is of the whole "
    "process, libraries and data included.",
    "bergson's replay walks back once for each behaviour; it is timed through its trainer on the "
    "same network, batches and optimizer, for one behaviour.",
)
