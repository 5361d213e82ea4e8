"""Methods on a small Llama that reads bytes: rank agreement with retrains of random drops, with the
same seed and with fresh ones, beside what retrains say of each other; and bergson's replay, EK-FAC
and TRAK on the same network, weights, batches and retrains.

Needs `make peers` for the peer; without it its rows say so."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmarks.agreement import bootstrap, datamodeling_score
from benchmarks.peers.launch import LANGUAGE, PeerScores, peer_task, run_peer
from benchmarks.problems import SPAM, BenchmarkTask, EncodedSplits, encode, read_lines, task
from benchmarks.report import Report, Row
from benchmarks.retrains import cached, random_drops, training_code
from workers.influence.ensembles import robust_mean
from workers.influence.registry import METHODS, build_method
from workers.influence.replay import Replay
from workers.training.batched import train_many
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

BASELINE_SEEDS = (11, 12, 13, 14)
SAME_SEEDS = (11, 12)
FRESH_SEEDS = tuple(range(401, 409))
SHARE, DROPS = 0.08, 24
LEFT_OUT = (
    "leave_one_out",
    "control_gradient_norm",
    "control_loss",
    "control_embedding_similarity",
)
"""Methods that are retrains themselves, and controls that rank all behaviours alike."""
PEER_SECONDS = 900.0
REPLAY_PEER = "bergson, replay"
OTHER_PEERS = {"bergson, EK-FAC": "ekfac", "bergson, TRAK": "projected"}
"""Peers that score one finished model, and the method of Hunch's that does likewise."""
CEILING = "mean of 4 retrains against 4 others"
Array = NDArray[np.float64]


def byte_model() -> BenchmarkTask:
    """A Llama of two layers of 32 units that has read 1,500 text messages as bytes, at most 40 of
    each, and learns from 280 others."""
    messages = [one["text"][:40] for one in read_lines(SPAM)[:1_900]]
    encoded = as_bytes(messages[:400], seed=18)
    before = as_bytes(messages[400:], seed=19)
    architecture = llama(encoded.architecture["vocabulary_size"])
    known = Recipe(
        learning_rate=1e-2,
        batch_size=20,
        epochs=4,
        schedule="linear",
        warmup_steps=20,
        epsilon=1e-6,
    )
    first = train(TrainingProblem(architecture, before.train, known, before.loss), 0)
    starting = {name: one.clone() for name, one in first.layout.unflatten(first.parameters).items()}
    recipe = Recipe(learning_rate=1e-3, batch_size=20, epochs=4, warmup_steps=10, epsilon=1e-6)
    found = task(
        "text messages by bytes, Llama", replace(encoded, architecture=architecture), recipe
    )
    return replace(found, problem=replace(found.problem, starting_weights=starting))


def as_bytes(texts: list[str], seed: int) -> EncodedSplits:
    read = {"name": "causal_transformer", "maximum_length": 40, "tokenizer": "bytes"}
    return encode({"text": texts}, "text", read | {"loss_on": "all"}, seed)


def llama(vocabulary_size: int) -> dict[str, Any]:
    return {
        "name": "uploaded_language_model",
        "vocabulary_size": vocabulary_size,
        "model_configuration": {
            "model_type": "llama",
            "vocab_size": vocabulary_size,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2_048,
            "initializer_range": 0.1,
            "tie_word_embeddings": False,
        },
    }


def run() -> Report:
    torch.set_num_threads(1)
    one = byte_model()
    runs = [train(one.problem, seed, trajectory=Trajectory()) for seed in BASELINE_SEEDS]
    edits = random_drops(len(one.problem.train), SHARE, DROPS)
    fresh, same = effects(one, edits.weights, FRESH_SEEDS), effects(one, edits.weights, SAME_SEEDS)
    first, second = fresh[:, ::2].mean(1), fresh[:, 1::2].mean(1)
    ceiling = bootstrap(lambda at: datamodeling_score(first[at], second[at]), DROPS)
    rows = [Row(one.name, CEILING, "fresh-seed LDS", *ceiling)]
    found: dict[str, tuple[NDArray[np.float32], float]] = {}
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
        found[name] = scores, time.perf_counter() - began
        rows += agreement_rows(one, name, scores, edits.predicted, fresh, same)
        rows.append(Row(one.name, name, "seconds, 4 seeds and 8 behaviours", found[name][1]))
    compared = Compared(one, runs, edits.predicted, fresh, same)
    rows += replay_rows(compared, found["replay"][0])
    for peer, name in OTHER_PEERS.items():
        rows += finished_rows(compared, peer, name, *found[name])
    return Report(
        title="Language: methods and bergson on a Llama of bytes",
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


@dataclass(frozen=True)
class Compared:
    """What a peer is given and measured by."""

    one: BenchmarkTask
    runs: Sequence[TrainingRun]
    predict: Callable[[NDArray[Any]], Array]
    fresh: Array
    same: Array

    def agreement(self, name: str, scores: NDArray[np.float32]) -> list[Row]:
        return agreement_rows(self.one, name, scores, self.predict, self.fresh, self.same)

    def no_less(self, peer: str, mine: list[Row], theirs: list[Row]) -> list[Row]:
        """How much better ours agrees, for each kind of retrain."""
        return [
            Row(
                self.one.name,
                f"{own.subject} against {peer}",
                f"{own.metric}, ours less theirs",
                _value(own) - _value(other),
                target=">= -0.01",
            )
            for own, other in zip(mine, theirs, strict=True)
        ]


def replay_rows(compared: Compared, own: NDArray[np.float32]) -> list[Row]:
    """bergson's replay of two seeds: agreement, likeness and time of a walk."""
    one, two = compared.one, compared.runs[: len(SAME_SEEDS)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        starts = {str(n): run.trajectory.rows(0)[0].clone() for n, run in enumerate(two)}  # type: ignore[union-attr]
        save_file(starts, place / "initial.safetensors")
        found = run_peer(REPLAY_PEER, place, peer_task(one, two), PEER_SECONDS, among=LANGUAGE)
        walks = [float(file.read_text()) for file in sorted(place.glob("walk-*.txt"))]
    if found.scores is None or not walks:
        return [Row(one.name, REPLAY_PEER, "scores", None, reason=found.problem)]
    theirs = found.scores[:, 0]
    rows = compared.agreement(REPLAY_PEER, theirs)
    ours = compared.agreement("replay of 2 seeds", own[: len(two)])
    rows += compared.no_less(REPLAY_PEER, ours, rows)
    alike = np.corrcoef(theirs.ravel(), own[: len(two)].ravel())[0, 1]
    rows.append(Row(one.name, f"replay and {REPLAY_PEER}", "correlation of scores", float(alike)))
    return rows + time_rows(one, compared.runs[0], walks, found)


def finished_rows(
    compared: Compared, peer: str, name: str, own: NDArray[np.float32], seconds: float
) -> list[Row]:
    """A peer that scores each finished model, all seeds, beside our method called `name`."""
    one = compared.one
    with tempfile.TemporaryDirectory() as folder:
        task = peer_task(one, compared.runs)
        found = run_peer(peer, Path(folder), task, PEER_SECONDS, among=LANGUAGE)
    if found.scores is None:
        return [Row(one.name, peer, "scores", None, reason=found.problem)]
    rows = compared.agreement(peer, found.scores[:, 0])
    ours = compared.agreement(name, own)
    theirs = float(sum(found.seconds))
    return [
        *rows,
        Row(one.name, peer, "seconds, 4 seeds and 8 behaviours", theirs),
        *compared.no_less(peer, ours, rows),
        Row(
            one.name,
            f"{name} against {peer}",
            "share of its time",
            seconds / theirs,
            target="<= 0.5",
        ),
        Row(one.name, peer, "peak memory, MiB", found.peak_bytes / 2**20),
    ]


def _value(row: Row) -> float:
    assert row.value is not None
    return row.value


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
            Row(one.name, REPLAY_PEER, f"seconds of its walks, {what}", theirs * number),
            Row(
                one.name,
                f"replay against {REPLAY_PEER}",
                f"share of its time, {what}",
                own / (theirs * number),
                target="<= 0.5",
            ),
        ]
    rows.append(Row(one.name, REPLAY_PEER, "peak memory, MiB", found.peak_bytes / 2**20))
    return rows


def _seconds_of_walk(run: TrainingRun, one: BenchmarkTask, number: int) -> float:
    began = time.perf_counter()
    Replay().scores([run], list(one.behaviours)[:number])
    return time.perf_counter() - began


NOTES = (
    f"LDS is the mean over eight behaviours of Spearman's correlation between predicted and actual "
    f"effects of {DROPS} random drops of {SHARE:.0%}. Same-seed figures are means over 2 seeds; "
    "fresh-seed figures take the robust mean over the baseline's 4 seeds (bergson's replay: 2) "
    "against the mean of 4 retrains with other seeds, twice, as the ceiling does. Intervals hold "
    "90% of 200 bootstrap draws over the edits.",
    "All seeds start from one Llama that was trained on 1,500 other messages, as people start from "
    "an upload; they differ in the order of the data. Its first weights and the learning rate were "
    "chosen on other drops and seeds so that training is smooth: from Llama's usual small first "
    "weights, without that first training, replay of the same seed told nothing.",
    "All of bergson runs in its own process on the same network, weights and data, on one core. "
    "Its replay takes the same batches and optimizer and walks back once for each behaviour; its "
    "seconds are the mean of its walks, without forward run and imports, and Hunch's walk is the "
    "least of three. EK-FAC and TRAK are its own pipelines: gradients of the linear layers, one "
    "score column for each of the 120 probe texts, of which behaviours are means. Both damp by a "
    "tenth of the mean eigenvalue, EK-FAC's default; TRAK takes 1,024 projections, as many as "
    "Hunch. Their seconds hold reading the model and writing the index, which is what its commands "
    "do; Hunch's hold all its work on finished runs, for its EK-FAC and its projected gradients.",
)
