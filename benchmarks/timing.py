"""One thing to be timed, in a process of its own so that its peak memory is its own:
`python -m benchmarks.timing PART TASK [OPTION]` prints seconds and peak memory as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import problems
from benchmarks.peers.__main__ import peak_bytes
from benchmarks.problems import BenchmarkTask
from workers.influence.registry import build_method
from workers.influence.replay import Replay
from workers.training.batched import train_many
from workers.training.trainer import train
from workers.training.trajectory import Trajectory

REPEATS = 5
LONGEST = 30.0
"""Seconds after which a part is not repeated again."""
RETRAINS = 16
SEED = 1


def replay(one: BenchmarkTask, option: str) -> dict[str, float]:
    """A plain run, a recorded run and its replay with `option` behaviours, in turns."""
    number = int(option)
    wanted = [one.behaviours[place % len(one.behaviours)] for place in range(number)]
    run = train(one.problem, SEED, trajectory=Trajectory())
    return alternating(
        {
            "plain": lambda: train(one.problem, SEED),
            "recorded": lambda: train(one.problem, SEED, trajectory=Trajectory()),
            "replay": lambda: Replay().scores([run], wanted),
        }
    )


def method(one: BenchmarkTask, option: str) -> dict[str, float]:
    """The registry's method called `option`, on one run and all behaviours."""
    run = train(one.problem, SEED, trajectory=Trajectory())
    own = build_method(option)
    before = peak_bytes()
    found = alternating({"method": lambda: own.scores([run], list(one.behaviours))})
    return {**found, "bytes_before": before}


def retrains(one: BenchmarkTask, option: str) -> dict[str, float]:
    """Retrains of random drops of 5%, one by one and batched; `option` is their seeds, same or
    fresh. One by one on a quarter of them, since each takes the same."""
    number = len(one.problem.train)
    generator = torch.Generator().manual_seed(0)
    weights = (torch.rand(RETRAINS, number, generator=generator) > 0.05).float()
    seeds = [SEED] * RETRAINS if option == "same" else list(range(RETRAINS))
    few = RETRAINS // 4

    def one_by_one() -> None:
        for seed, row in zip(seeds[:few], weights[:few], strict=True):
            train(one.problem, seed, row)

    found = alternating(
        {
            "one by one": one_by_one,
            "batched": lambda: train_many(one.problem, seeds, weights),
        }
    )
    return {**found, "one by one": found["one by one"] * RETRAINS / few}


def trainer(one: BenchmarkTask, option: str) -> dict[str, float]:
    """Hunch's own training run."""
    return alternating({"plain": lambda: train(one.problem, SEED)})


def alternating(parts: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The least seconds of each part; they take turns, so that all meet the same machine. A first
    turn warms up and does not count unless it is the only one that time allows."""
    found: dict[str, list[float]] = {name: [] for name in parts}
    began = time.perf_counter()
    for turn in range(REPEATS + 1):
        for name, act in parts.items():
            start = time.perf_counter()
            act()
            found[name].append(time.perf_counter() - start)
        if time.perf_counter() - began > LONGEST and turn:
            break
    return {name: float(np.min(seconds[1:])) for name, seconds in found.items()}


PARTS = {"replay": replay, "method": method, "retrains": retrains, "trainer": trainer}


def main() -> None:
    torch.set_num_threads(1)
    part, task, *rest = sys.argv[1:]
    one: BenchmarkTask = getattr(problems, task)()
    found = PARTS[part](one, rest[0] if rest else "")
    print(json.dumps({**found, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
