"""What influence functions answer: the proximal Bregman response, not retraining from scratch
(Bae et al. 2022); and how the gap to retraining grows with depth, width and low weight decay (Basu
et al. 2020). Also one waterfall: the rungs of an edit of many examples."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.plots import Series, line_plot
from benchmarks.problems import EncodedSplits, encode, features_column
from benchmarks.report import Report, Row
from workers.evidence.ladder import RUNGS, climb
from workers.influence.behaviours import Behaviour
from workers.influence.damped_method import penalty
from workers.influence.damping import training_time_damping
from workers.influence.ladder import exact_step, float64_copy, measure_rungs
from workers.influence.response import proximal_response
from workers.training.batched import train_many
from workers.training.examples import EncodedExamples
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import train

TRAIN_EXAMPLES = 300
LEFT_OUT = 30
PROBES = 8
SEEDS = (1, 2, 3)
FRESH_SEEDS = tuple(range(301, 313))
DEPTHS = (1, 2, 4, 6)
WIDTHS = (8, 32, 128)
WEIGHT_DECAYS = (1e-4, 1e-3, 1e-2, 5e-2)
DEPTH, WIDTH, WEIGHT_DECAY = 2, 32, 1e-3
TASK = "digits, leave-one-out"


@dataclass(frozen=True)
class Setting:
    """One network and weight decay."""

    depth: int = DEPTH
    width: int = WIDTH
    weight_decay: float = WEIGHT_DECAY

    @property
    def title(self) -> str:
        layers = f"{self.depth} hidden layer{'s' if self.depth > 1 else ''}"
        return f"{layers} of {self.width}, weight decay {self.weight_decay:g}"


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of influence with each counterfactual, mean over probes, by seed."""

    response: tuple[float, ...]
    cold: tuple[float, ...]


def run() -> Report:
    os.environ["OMP_NUM_THREADS"] = "1"
    depths = [Setting(depth=depth) for depth in DEPTHS]
    widths = [Setting(width=width) for width in WIDTHS]
    decays = [Setting(weight_decay=decay) for decay in WEIGHT_DECAYS]
    settings = list(dict.fromkeys([*depths, *widths, *decays]))
    pairs = [(setting, seed) for setting in settings for seed in SEEDS]
    with ProcessPoolExecutor(
        max_workers=os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        found = list(pool.map(agreement, *zip(*pairs, strict=True)))
        waterfall = pool.submit(waterfall_rows).result()
    by_setting = {
        setting: Agreement(
            *zip(
                *[one for (own, _), one in zip(pairs, found, strict=True) if own == setting],
                strict=True,
            )
        )
        for setting in settings
    }
    rows = [row for setting in settings for row in setting_rows(setting, by_setting[setting])]
    rows += [
        trend("one hidden layer less six", by_setting[depths[0]], by_setting[depths[-1]]),
        trend("narrowest less widest", by_setting[widths[0]], by_setting[widths[-1]]),
        trend("most weight decay less least", by_setting[decays[-1]], by_setting[decays[0]]),
        *waterfall,
    ]
    figures = {}
    for name, chosen, axis, logarithmic in (
        ("depth", depths, [one.depth for one in depths], False),
        ("width", widths, [one.width for one in widths], True),
        ("weight decay", decays, [one.weight_decay for one in decays], True),
    ):
        figures[f"Influence against its counterfactuals, by {name}"] = line_plot(
            [
                Series(
                    "with the proximal response",
                    axis,
                    [float(np.mean(by_setting[one].response)) for one in chosen],
                ),
                Series(
                    "with leave-one-out retraining, same seed",
                    axis,
                    [float(np.mean(by_setting[one].cold)) for one in chosen],
                ),
            ],
            title=f"What influence tracks, by {name}",
            x_name=name,
            y_name="rank correlation with influence",
            logarithmic_x=logarithmic,
        )
    return Report(
        title="What influence functions answer",
        rows=rows,
        seeds=[*SEEDS, *FRESH_SEEDS],
        notes=NOTES,
        figures=figures,
    )


NOTES = (
    f"{TRAIN_EXAMPLES} digits train a perceptron by SGD; {LEFT_OUT} random examples are left out, "
    f"one at a time. Influence is the exactly solved Gauss–Newton influence function with the "
    "damping that follows from training time, the proximal Bregman response is minimised by L-BFGS "
    "in double precision, and leave-one-out retrains from scratch with the same seed. Correlations "
    f"are Spearman's over the examples left out, mean over the losses of {PROBES} single probe "
    f"examples and {len(SEEDS)} seeds; low and high are the smallest and largest seed.",
    "The waterfall removes the 30 training examples with the most harmful influence on one "
    "behaviour; its rungs are means over the seeds, in the behaviour's unit, and low and high are "
    "two standard errors over seeds.",
    "Width goes the other way than in Basu et al.: of these small networks the widest are the "
    "closest to their linearisation, and influence follows their retraining best.",
)


def setting_rows(setting: Setting, found: Agreement) -> list[Row]:
    response, cold = np.array(found.response), np.array(found.cold)
    more = response - cold
    return [
        Row(
            TASK,
            setting.title,
            "influence with the proximal response",
            float(response.mean()),
            float(response.min()),
            float(response.max()),
            ">= 0.9",
        ),
        Row(
            TASK,
            setting.title,
            "influence with leave-one-out retraining",
            float(cold.mean()),
            float(cold.min()),
            float(cold.max()),
        ),
        Row(
            TASK,
            setting.title,
            "how much closer to the proximal response",
            float(more.mean()),
            float(more.min()),
            float(more.max()),
            "> 0",
        ),
    ]


def trend(name: str, easy: Agreement, hard: Agreement) -> Row:
    fall = np.array(easy.cold) - np.array(hard.cold)
    return Row(
        TASK,
        name,
        "fall of the correlation with leave-one-out retraining",
        float(fall.mean()),
        float(fall.min()),
        float(fall.max()),
        "> 0",
    )


def agreement(setting: Setting, seed: int) -> tuple[float, float]:
    """Rank correlation of influence with the proximal response and with retraining."""
    torch.set_num_threads(1)
    problem, behaviours = problem_of(setting)
    trained = train(problem, seed)
    at = float64_copy(trained)
    strength = training_time_damping(trained) + penalty(problem)
    chosen = np.random.default_rng(0).choice(TRAIN_EXAMPLES, LEFT_OUT, replace=False)
    weights = torch.ones(LEFT_OUT, TRAIN_EXAMPLES)
    weights[torch.arange(LEFT_OUT), torch.as_tensor(chosen)] = 0
    gradients = at.behaviour_gradients(behaviours)
    influence, response = [], []
    for row in weights.double():
        influence.append((gradients @ exact_step(at, row, strength)).numpy())
        moved = proximal_response(at, row, strength, lambda: None).parameters
        response.append(losses(problem, behaviours, moved))
    unedited = losses(problem, behaviours, at.parameters)
    retrained = [
        losses(problem, behaviours, final)
        for final in train_many(problem, [seed] * LEFT_OUT, weights)
    ]
    before = np.array(response) - unedited, np.array(retrained) - unedited
    return correlation(np.array(influence), before[0]), correlation(np.array(influence), before[1])


def correlation(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """Spearman's over rows, mean over columns."""
    columns = range(first.shape[1])
    return float(np.mean([stats.spearmanr(first[:, k], second[:, k]).statistic for k in columns]))


def waterfall_rows() -> list[Row]:
    """The rungs of removing the examples that harm one behaviour most."""
    torch.set_num_threads(1)
    problem, behaviours = problem_of(Setting())
    everything = [one.examples for one in behaviours]
    inputs = torch.cat([one.inputs["features"] for one in everything])
    targets = torch.cat([one.targets for one in everything])
    behaviour = Behaviour("mean_loss", EncodedExamples({"features": inputs}, targets))
    runs = [train(problem, seed) for seed in SEEDS]
    at = float64_copy(runs[0])
    strength = training_time_damping(runs[0]) + penalty(problem)
    solved = [
        at.behaviour_gradients([behaviour])
        @ exact_step(at, torch.ones(TRAIN_EXAMPLES).double() - row, strength)
        for row in torch.eye(TRAIN_EXAMPLES, dtype=torch.float64)
    ]
    removed = torch.cat(solved).argsort()[:LEFT_OUT]
    weights = torch.ones(TRAIN_EXAMPLES)
    weights[removed] = 0
    rungs = measure_rungs(runs, weights, [behaviour], fresh_seeds=FRESH_SEEDS)
    means, errors = rungs.means(0), rungs.standard_errors(0)
    ladder = climb(means, errors)
    task = "digits, removing the 30 most harmful examples"
    rows = [
        Row(
            task,
            rung.title,
            "change of the mean loss",
            means[rung.name],
            means[rung.name] - 2 * errors[rung.name],
            means[rung.name] + 2 * errors[rung.name],
        )
        for rung in RUNGS
    ]
    return rows + [
        Row(task, f"step: {gap.name}", "share of all steps", gap.share) for gap in ladder.gaps
    ]


def problem_of(setting: Setting) -> tuple[TrainingProblem, list[Behaviour]]:
    encoded = digits_splits(setting)
    train_part = encoded.train.select(torch.arange(TRAIN_EXAMPLES))
    recipe = Recipe(
        optimizer="sgd",
        learning_rate=0.02,
        momentum=0.9,
        batch_size=50,
        epochs=60,
        weight_decay=setting.weight_decay,
    )
    behaviours = [
        Behaviour("mean_loss", encoded.probe.select(torch.tensor([place])))
        for place in range(PROBES)
    ]
    return TrainingProblem(encoded.architecture, train_part, recipe, encoded.loss), behaviours


def digits_splits(setting: Setting) -> EncodedSplits:
    from sklearn.datasets import load_digits

    data = load_digits()
    table = {"features": features_column(data.data), "label": [str(one) for one in data.target]}
    architecture = {"name": "mlp", "hidden": [setting.width] * setting.depth}
    return encode(table, "tabular_classification", architecture, seed=21)


def losses(
    problem: TrainingProblem, behaviours: list[Behaviour], parameters: torch.Tensor
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(K,) in double precision."""
    network = problem.build_network(0).double()
    named = ParameterLayout.of(network).unflatten(parameters.double())
    with torch.no_grad():
        return np.array([float(one.values(network, named)) for one in behaviours])
