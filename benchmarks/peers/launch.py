"""Hands a task to a peer in its own process and environment, and reads the scores."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmarks.peers.exchange import KINDS, PeerTask, Probes, save_task
from benchmarks.problems import BenchmarkTask
from benchmarks.report import ROOT
from workers.influence.checkpoints import checkpoint_learning_rates
from workers.training.trainer import TrainingRun

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PEERS: dict[str, tuple[str, str]] = {
    "kronfluence, EK-FAC": ("kronfluence", "EK-FAC"),
    "captum, TracIn": ("captum", "TracIn"),
    "captum, influence by Arnoldi": ("captum", "influence, Arnoldi"),
    "captum, influence by the whole Hessian": ("captum", "influence, whole Hessian"),
    "dattri, influence by conjugate gradients": ("dattri", "influence, conjugate gradients"),
    "dattri, EK-FAC": ("dattri", "EK-FAC"),
    "dattri, TRAK": ("dattri", "TRAK"),
    "traker, TRAK": ("traker", "TRAK"),
}
TIMED: dict[str, tuple[str, str]] = {
    "transformers.Trainer": ("trainer", "train"),
    "bergson, replay": ("bergson", "replay"),
}
"""What is timed and gives no scores."""
LANGUAGE: dict[str, tuple[str, str]] = {
    "bergson, replay": ("bergson_language", "replay"),
    "bergson, EK-FAC": ("bergson_finished", "EK-FAC"),
    "bergson, TRAK": ("bergson_finished", "TRAK"),
}
"""What scores language models alone (benchmark `language`)."""
CHECKPOINTS = 4
MISSING = "the peers' environment is missing: make peers"


@dataclass(frozen=True)
class PeerScores:
    """What a peer found, or why it could not."""

    scores: NDArray[np.float32] | None
    """(S, D, N, K) for each of D dampings, the library's usual one first."""
    seconds: tuple[float, ...]
    """For each seed, at the first damping, without imports."""
    peak_bytes: int
    bytes_before: int
    """Peak memory at the start: the interpreter, the libraries and the data."""
    problem: str | None


def peer_task(one: BenchmarkTask, runs: Sequence[TrainingRun]) -> PeerTask:
    problem = one.problem
    trajectory = runs[0].trajectory
    assert trajectory is not None
    shares = checkpoint_learning_rates(trajectory.steps, problem.recipe, CHECKPOINTS)
    probes = []
    for kind in KINDS:
        places = [place for place, own in enumerate(one.behaviours) if own.kind == kind]
        if not places:
            continue
        used = torch.cat([one.probe_places[place] for place in places]).unique()
        rows = torch.zeros(len(places), len(used))
        for row, place in zip(rows, places, strict=True):
            own = torch.searchsorted(used, one.probe_places[place])
            row[own] = 1 / len(own)
        probes.append(Probes(kind, one.probe.select(used), rows, tuple(places)))
    return PeerTask(
        dict(problem.architecture),
        problem.loss,
        problem.train,
        float(problem.recipe.batch_size * problem.steps_per_epoch),
        len(one.behaviours),
        tuple(probes),
        torch.stack([run.parameters for run in runs]),
        torch.stack(
            [
                torch.stack([run.trajectory.rows(step)[0] for step in shares])  # type: ignore[union-attr]
                for run in runs
            ]
        ),
        tuple(shares.values()),
        problem.recipe.to_json(),
        torch.stack([problem.batch_order(run.seed) for run in runs]),
    )


def run_peer(
    name: str,
    folder: Path,
    task: PeerTask,
    limit: float = 300.0,
    first_only: bool = False,
    among: Mapping[str, tuple[str, str]] | None = None,
) -> PeerScores:
    """The scores of the peer called `name`, worked out in `folder`, within `limit` seconds. `among`
    names other peers than the usual ones."""
    if not PYTHON.exists():
        return PeerScores(None, (), 0, 0, MISSING)
    library, method = (among or PEERS | TIMED)[name]
    options = ["first"] if first_only else []
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    save_task(folder, task)
    try:
        finished = subprocess.run(
            [PYTHON, "-W", "ignore", "-m", "benchmarks.peers", library, method, folder, *options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return PeerScores(None, (), 0, 0, f"did not finish within {limit:g} s")
    if not (folder / "result.json").exists():
        words = (finished.stderr.strip().splitlines() or ["no output"])[-1]
        return PeerScores(None, (), 0, 0, f"ended with {finished.returncode}: {words[:200]}")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    scores = None
    if result["problem"] is None and (folder / "scores.safetensors").exists():
        scores = load_file(folder / "scores.safetensors")["scores"].transpose(2, 3).numpy()
        if not np.isfinite(scores).all():
            result["problem"], scores = "its scores are not finite", None
    return PeerScores(
        scores,
        tuple(result["seconds"]),
        result["peak_bytes"],
        result["bytes_before"],
        result["problem"],
    )
