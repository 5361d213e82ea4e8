"""Is our EK-FAC, blocks alone, the EK-FAC of others? Its scores beside those of kronfluence on the
same networks and at the same dampings, in rank and in value. Needs `make peers`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from benchmarks.peers.launch import peer_task, run_peer
from benchmarks.problems import digits
from benchmarks.report import Report, Row
from workers.influence.ekfac import Ekfac
from workers.training.trainer import train
from workers.training.trajectory import Trajectory

SEEDS = (1, 2, 3)
PEER = "kronfluence, EK-FAC"
DAMPINGS = {1: 1e-1, 2: 1e-2, 3: 1e-3}
"""By their place among the peer's own (`benchmarks.peers.kronfluence_peer`)."""
TARGETS = {"Pearson": ">= 0.98", "Spearman": ">= 0.95", "ours / theirs": "0.9 to 1.1"}


def run() -> Report:
    one = digits()
    behaviours = list(one.behaviours)
    runs = [train(one.problem, seed, trajectory=Trajectory()) for seed in SEEDS]
    with tempfile.TemporaryDirectory() as folder:
        peer = run_peer(PEER, Path(folder), peer_task(one, runs))
    rows: list[Row] = []
    for place, damping in DAMPINGS.items():
        subject = f"EK-FAC beside kronfluence, damping {damping:g}"
        if peer.scores is None:
            rows += [
                Row(one.name, subject, metric, None, target=target, reason=peer.problem)
                for metric, target in TARGETS.items()
            ]
            continue
        ours = (
            Ekfac(damping=damping, scales=()).scores(runs, behaviours).per_seed.astype(np.float64)
        )
        theirs = peer.scores[:, place].astype(np.float64)
        columns = [
            (ours[seed, :, k], theirs[seed, :, k])
            for seed in range(len(SEEDS))
            for k in range(len(behaviours))
        ]
        found = {
            "Pearson": [np.corrcoef(*pair)[0, 1] for pair in columns],
            "Spearman": [spearmanr(*pair).statistic for pair in columns],
            "ours / theirs": [np.linalg.norm(a) / np.linalg.norm(b) for a, b in columns],
        }
        for metric, values in found.items():
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            rows.append(
                Row(
                    one.name,
                    subject,
                    metric,
                    float(middle),
                    float(low),
                    float(high),
                    TARGETS[metric],
                )
            )
    return Report(
        title="Our EK-FAC beside kronfluence's",
        rows=rows,
        seeds=SEEDS,
        notes=[
            "Each figure is the median over seeds and behaviours, with its quartiles. kronfluence "
            "draws one label for each example from the model; Hunch sums over all ten classes."
        ],
    )
