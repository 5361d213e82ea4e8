"""What every study does: attribute behaviours to training examples, predict what edits do to them,
write the predictions down with their hash, and only then retrain on fresh seeds and compare. What
is asked, and of which texts, lives in the file of each study; how it is told, in `report`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.evidence.canonical import canonical_json, canonical_sha256
from workers.evidence.intervals import first_prediction_interval, paired_effect
from workers.evidence.verdicts import BehaviourVerdict, DecisionRule, decide
from workers.influence.behaviours import Behaviour, behaviour_values
from workers.influence.interface import InfluenceScores
from workers.influence.replay import Replay
from workers.training.batched import train_many
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Say = Callable[[str], None]
Quantity = Callable[[torch.nn.Module, Mapping[str, Tensor]], float]
LEVEL = 0.9
SIZE_FACTOR = 3.0
"""First-order predictions of targeted edits were off in size by up to about this factor on other
tasks (docs/benchmarks/targeted), so a registered interval reaches from a third to three times."""


@dataclass(frozen=True)
class Edit:
    """New weights for some training examples, and the behaviours on which it is judged."""

    name: str
    weights: Mapping[int, float]
    """Training example → new weight."""
    reads: tuple[int, ...]
    """Places of the behaviours that the verdicts read; the first is the primary one."""
    is_placebo: bool = False


@dataclass(frozen=True)
class Study:
    """A training problem, the behaviours asked about, and who retrains: all but the edits."""

    name: str
    problem: TrainingProblem
    behaviours: Mapping[str, Behaviour]
    smallest_effect: Mapping[str, float]
    """For each behaviour, in its unit, the effect below which a change is called none."""
    baseline_seeds: tuple[int, ...]
    fresh_seeds: tuple[int, ...]
    baseline_weights: Array | None = None
    """(N,) weights before any edit; all 1 for None."""
    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    """What is measured on the retrained models beside the behaviours, and not predicted."""

    def __post_init__(self) -> None:
        if set(self.baseline_seeds) & set(self.fresh_seeds):
            raise ValueError("a fresh seed is one that the prediction has not seen")

    @property
    def names(self) -> list[str]:
        return list(self.behaviours)

    @cached_property
    def unedited(self) -> Array:
        """(N,)"""
        if self.baseline_weights is None:
            return np.ones(len(self.problem.train))
        return self.baseline_weights

    def edited(self, edit: Edit) -> Array:
        """(N,) weights after the edit."""
        weights = self.unedited.copy()
        weights[list(edit.weights)] = list(edit.weights.values())
        return weights


@dataclass(frozen=True)
class Attribution:
    """Influence of every training example on every behaviour, from the baseline's seeds alone."""

    runs: tuple[TrainingRun, ...]
    scores: InfluenceScores
    values: Array
    """(S, K) the behaviours of the baseline."""
    seconds: float


@dataclass(frozen=True)
class Registration:
    """Predictions written down before any retrain: `plan` is what `sha256` is the hash of."""

    edits: tuple[Edit, ...]
    predicted: Array
    """(E, K) mean effect on fresh seeds."""
    low: Array
    high: Array
    plan: dict[str, Any]
    sha256: str
    path: Path


@dataclass(frozen=True)
class Outcome:
    """What retraining did, beside what was registered."""

    registration: Registration
    unedited: Array
    """(S, K)"""
    edited: Array
    """(E, S, K)"""
    effect: Array
    """(E, K) mean of edited − unedited, paired by seed."""
    effect_low: Array
    effect_high: Array
    verdicts: tuple[tuple[BehaviourVerdict, ...], ...]
    """For each edit one verdict for each behaviour it reads, in that order."""
    quantities: dict[str, Array]
    """(1 + E, S) each, the unedited arm first."""
    seconds: float


def attribute(study: Study, say: Say = print) -> Attribution:
    """Trains the baseline on its seeds and replays it."""
    began = time.perf_counter()
    weights = torch.from_numpy(study.unedited)
    runs = [
        train(study.problem, seed, weights, trajectory=Trajectory())
        for seed in study.baseline_seeds
    ]
    say(f"trained {len(runs)} baseline runs; {time.perf_counter() - began:.0f} s")
    scores = Replay().scores(runs, list(study.behaviours.values()))
    values, _ = measure(study, torch.stack([run.parameters for run in runs]))
    seconds = time.perf_counter() - began
    say(f"influence of {len(study.problem.train)} examples known; {seconds:.0f} s")
    return Attribution(tuple(runs), scores, values, seconds)


def register(
    study: Study, edits: Sequence[Edit], attribution: Attribution, folder: Path, say: Say = print
) -> Registration:
    """Predicts every edit and writes the plan as canonical JSON; its SHA-256 is the file's own.

    Prediction: Σ (new weight − old weight) · score, robust over seeds, with the interval for the
    mean of as many fresh seeds as are planned, widened to `SIZE_FACTOR` for the error of a
    first-order estimate.
    """
    changes = np.stack([study.edited(edit) - study.unedited for edit in edits])
    per_seed = np.einsum("en,snk->sek", changes, attribution.scores.per_seed.astype(float))
    value = changes @ attribution.scores.aggregate().astype(float)
    intervals = [
        first_prediction_interval(
            per_seed[:, place],
            LEVEL,
            value=value[place],
            number_of_retrain_seeds=len(study.fresh_seeds),
        )
        for place in range(len(edits))
    ]
    sizes = (value / SIZE_FACTOR, value * SIZE_FACTOR)
    low = np.minimum.reduce([*sizes, np.stack([one.low for one in intervals])])
    high = np.maximum.reduce([*sizes, np.stack([one.high for one in intervals])])
    plan = {
        "study": study.name,
        "training_problem_sha256": study.problem.fingerprint,
        "method": "replay, mean over the baseline's seeds",
        "baseline_seeds": list(study.baseline_seeds),
        "fresh_seeds": list(study.fresh_seeds),
        "behaviours": study.names,
        "baseline_values": attribution.values.mean(0).tolist(),
        "smallest_effect_of_interest": [study.smallest_effect[name] for name in study.names],
        "edits": [
            {
                "name": edit.name,
                "placebo": edit.is_placebo,
                "weights": {str(example): weight for example, weight in edit.weights.items()},
                "judged_on": [study.names[place] for place in edit.reads],
                "rule": rule_of(study, edit).sentence([study.names[place] for place in edit.reads]),
                "predicted": value[number].tolist(),
                "low": low[number].tolist(),
                "high": high[number].tolist(),
            }
            for number, edit in enumerate(edits)
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{study.name}-plan.json"
    path.write_bytes(canonical_json(plan))
    sha256 = canonical_sha256(plan)
    say(f"registered {len(edits)} edits before any retrain: SHA-256 {sha256}")
    return Registration(tuple(edits), value, low, high, plan, sha256, path)


def rule_of(study: Study, edit: Edit) -> DecisionRule:
    sizes = np.array([study.smallest_effect[study.names[place]] for place in edit.reads])
    return DecisionRule(len(study.fresh_seeds), 0, sizes, alpha=1 - LEVEL)


def retrain_and_compare(study: Study, registration: Registration, say: Say = print) -> Outcome:
    """Retrains the unedited and every edited arm on the fresh seeds, and judges by the rule."""
    began = time.perf_counter()
    arms = [study.unedited, *(study.edited(edit) for edit in registration.edits)]
    count = len(study.fresh_seeds)
    weights = torch.from_numpy(np.stack(arms)).repeat_interleave(count, 0)
    parameters = train_many(study.problem, list(study.fresh_seeds) * len(arms), weights)
    flat, extra = measure(study, parameters)
    values = flat.reshape(len(arms), count, -1)
    seconds = time.perf_counter() - began
    say(f"retrained {len(parameters)} times; {seconds:.0f} s")
    effects = [paired_effect(arm, values[0], LEVEL) for arm in values[1:]]
    verdicts = []
    for number, edit in enumerate(registration.edits):
        reads = list(edit.reads)
        verdicts.append(
            decide(
                rule_of(study, edit),
                predicted=registration.predicted[number, reads],
                predicted_low=registration.low[number, reads],
                predicted_high=registration.high[number, reads],
                unedited=values[0][:, reads],
                edited=values[1 + number][:, reads],
            )
        )
    return Outcome(
        registration,
        values[0],
        values[1:],
        np.stack([one.mean for one in effects]),
        np.stack([one.low for one in effects]),
        np.stack([one.high for one in effects]),
        tuple(verdicts),
        {name: rows.reshape(len(arms), count) for name, rows in extra.items()},
        seconds,
    )


def measure(study: Study, parameters: Tensor) -> tuple[Array, dict[str, Array]]:
    """(R, K) behaviours, and each further quantity (R,), at rows of final parameters (R, P)."""
    network = study.problem.build_network(0)
    layout = ParameterLayout.of(network)
    behaviours = list(study.behaviours.values())
    rows = [behaviour_values(behaviours, network, layout, row) for row in parameters]
    with torch.no_grad():
        extra = {
            name: np.array([of(network, layout.unflatten(row)) for row in parameters])
            for name, of in study.quantities.items()
        }
    return torch.stack(rows).double().numpy(), extra
