"""Edits of a benchmark task and what retraining them does, kept in var/ so that a stopped
benchmark goes on where it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.problems import BenchmarkTask, digits, images, small_transformer, spam
from benchmarks.report import ROOT
from workers.training.batched import train_many

CACHE = ROOT / "var" / "benchmarks"
TASKS: dict[str, Callable[[], BenchmarkTask]] = {
    "digits": digits,
    "spam": spam,
    "images": images,
    "transformer": small_transformer,
}
TRAINING_CODE = (
    "workers/training/optimizers.py",
    "workers/training/data_order.py",
    "workers/training/losses.py",
    "workers/training/networks",
)
Array = NDArray[np.float64]
KINDS = (("remove the most harmful", 0.0, -1.0), ("triple the most helpful", 3.0, 1.0))


@dataclass(frozen=True)
class Edits:
    """E edits of N examples."""

    name: str
    weights: NDArray[np.float32]
    """(E, N) new weights."""

    def predicted(self, scores: NDArray[np.floating[Any]]) -> Array:
        """(E, K) Σ (new weight - 1) · score, of scores (N, K)."""
        return (self.weights.astype(np.float64) - 1) @ scores.astype(np.float64)


def random_drops(number_of_examples: int, share: float, number: int) -> Edits:
    """`number` edits that each remove another random `share` of the examples."""
    generator = np.random.default_rng(round(share * 10_000))
    weights = np.ones((number, number_of_examples), np.float32)
    for row in weights:
        chosen = generator.permutation(number_of_examples)[: round(share * number_of_examples)]
        row[chosen] = 0
    return Edits(f"random drops, {share:.0%}", weights)


def targeted_edits(
    rankings: Sequence[NDArray[np.floating[Any]]],
    better: Array,
    shares: Sequence[float],
) -> Edits:
    """What people do: remove the most harmful, triple the most helpful, as different `rankings`
    (N, K) have them, for one behaviour after the other."""
    rows = []
    for scores in rankings:
        gains = scores.astype(np.float64) * better
        for _, weight, sign in KINDS:
            for share in shares:
                behaviour = len(rows) % gains.shape[1]
                count = max(1, round(share * len(gains)))
                row = np.ones(len(gains), np.float32)
                row[np.argsort(-sign * gains[:, behaviour], kind="stable")[:count]] = weight
                rows.append(row)
    return Edits("targeted edits", np.stack(rows))


@lru_cache(maxsize=1)
def built(task: str) -> BenchmarkTask:
    return TASKS[task]()


def retrained(task: str, seed: int, weights: NDArray[np.float32]) -> Array:
    """(E, K) the behaviours after retraining with each row of `weights` (E, N) and `seed`."""
    one = built(task)
    key = (one.problem.fingerprint, one.behaviour_names, seed, weights.tobytes(), training_code())
    return cached("retrains", key, lambda: _retrain(one, seed, weights))


def _retrain(one: BenchmarkTask, seed: int, weights: NDArray[np.float32]) -> Array:
    torch.set_num_threads(1)
    return one.measure(train_many(one.problem, [seed] * len(weights), torch.from_numpy(weights)))


def cached(kind: str, key: object, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """The array of `compute`, or the one that an earlier call with this `key` left in var/."""
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
    file = CACHE / kind / f"{digest}.npy"
    if file.exists():
        return np.load(file)
    found = compute()
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f"{digest}.{os.getpid()}.npy")
    np.save(aside, found)
    os.replace(aside, file)
    return found


@lru_cache(maxsize=1)
def training_code() -> str:
    """What decides a retrain beyond float tolerance; a change of it forgets the kept ones."""
    return source_digest(*TRAINING_CODE)


@lru_cache(maxsize=8)
def source_digest(*paths: str) -> str:
    digest = hashlib.sha256()
    for name in paths:
        path = ROOT / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()
