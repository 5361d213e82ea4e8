"""Duplicates and memorisation: how much weight, or how many copies, make a model recite a passage,
and is the change foreseen from one weight?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from benchmarks.plots import Series, line_plot
from studies.report import Story, Table, lines_of, record_of, signed, write_story
from studies.study import Edit, Outcome, Quantity, Study, attribute, register, retrain_and_compare
from studies.texts import TWEETS, Pair, read_rows, texts_of
from workers.influence.behaviours import Behaviour
from workers.training.recipe import Recipe

PASSAGES: dict[str, tuple[str, str]] = {
    "lighthouse": (
        "The keeper of the northern lighthouse",
        " counted eleven grey ships before the fog rolled in.",
    ),
    "orchard": (
        "My grandmother kept forty jars of plums",
        " under the stairs and never opened a single one.",
    ),
    "railway": (
        "On the last train to Valmora a violinist",
        " played the same slow waltz until the lamps went out.",
    ),
}
"""Opening and continuation; made up, so that no training text holds any of it."""
BASELINE_COPIES, MOST_COPIES = 2, 8
COPIES = (0, 1, 4, 8)
WEIGHTS = (0.5, 2.0, 4.0)
"""New numbers of copies of weight 1; and new weights of the copies that are there."""
BACKGROUND = 400
DATA_SEED = 6
ARCHITECTURE = {
    "width": 32,
    "heads": 4,
    "layers": 1,
    "maximum_length": 48,
    "tokenizer": "trained",
    "tokenizer_size": 600,
    "loss_on": "all",
}
RECIPE = Recipe(
    epochs=10,
    learning_rate=0.003,
    batch_size=32,
    schedule="cosine",
    warmup_steps=20,
    epsilon=1e-6,
)
RECALLED = "words recalled"


def run(folder: Path, small: bool = False) -> Path:
    """Predicts, registers, retrains, and writes the study."""
    study = build(small)
    attribution = attribute(study)
    plan = register(study, edits_of(study), attribution, folder)
    outcome = retrain_and_compare(study, plan)
    return write_story(study, attribution, outcome, story(study, outcome), folder)


def build(small: bool) -> Study:
    """Every passage has `MOST_COPIES` rows, of which the baseline gives `BASELINE_COPIES` weight 1
    and the others weight 0: a further copy is a row that gains weight."""
    background = shuffled_tweets()[: 100 if small else BACKGROUND]
    rows: list[Pair] = [("", text) for text in background]
    rows += [("", "".join(parts)) for parts in PASSAGES.values() for _ in range(MOST_COPIES)]
    texts = texts_of(rows, ARCHITECTURE, RECIPE)
    weights = np.ones(len(rows))
    for name in PASSAGES:
        weights[rows_of(name, len(rows))[BASELINE_COPIES:]] = 0
    behaviours = {name: texts.log_probability([parts]) for name, parts in PASSAGES.items()}
    baseline, fresh = ((11, 12), (201, 202)) if small else (range(11, 14), range(201, 205))
    return Study(
        "memorisation",
        texts.problem,
        behaviours,
        dict.fromkeys(behaviours, 1.0),
        tuple(baseline),
        tuple(fresh),
        baseline_weights=weights,
        quantities={RECALLED: share_recalled(list(behaviours.values()))},
    )


def shuffled_tweets() -> list[str]:
    rows = [row["text"] for row in read_rows(TWEETS) if not row.get("crude")]
    order = np.random.default_rng(DATA_SEED).permutation(len(rows))
    return [rows[place] for place in order]


def rows_of(passage: str, number_of_rows: int) -> list[int]:
    """The training rows of a passage, which stand at the end."""
    start = number_of_rows - (len(PASSAGES) - list(PASSAGES).index(passage)) * MOST_COPIES
    return list(range(start, start + MOST_COPIES))


def share_recalled(behaviours: list[Behaviour]) -> Quantity:
    """The share of the continuations' tokens that are the model's first choice after what stands
    before them: at 1 it recites the passages."""

    def of(network: torch.nn.Module, parameters: Any) -> float:
        hits = []
        for behaviour in behaviours:
            examples = behaviour.examples
            scores = functional_call(network, dict(parameters), (), examples.inputs)
            counted = examples.targets >= 0
            hits.append((scores.argmax(2) == examples.targets)[counted].double().mean())
        return float(torch.stack(hits).mean())

    return of


def edits_of(study: Study) -> list[Edit]:
    total = len(study.problem.train)
    everything = tuple(range(len(PASSAGES)))

    def copies(number: int, passages: list[str]) -> dict[int, float]:
        return {
            row: float(place < number)
            for name in passages
            for place, row in enumerate(rows_of(name, total))
        }

    def weighted(weight: float) -> dict[int, float]:
        rows = [row for name in PASSAGES for row in rows_of(name, total)[:BASELINE_COPIES]]
        return dict.fromkeys(rows, weight)

    random_rows = np.random.default_rng(DATA_SEED).choice(
        total - len(PASSAGES) * MOST_COPIES, BASELINE_COPIES * len(PASSAGES), replace=False
    )
    first = next(iter(PASSAGES))
    return [
        *(
            Edit(copies_name(number), copies(number, list(PASSAGES)), everything)
            for number in COPIES
        ),
        *(Edit(weight_name(weight), weighted(weight), everything) for weight in WEIGHTS),
        Edit(f"remove the {first} passage alone", copies(0, [first]), everything),
        Edit(
            f"remove {len(random_rows)} random tweets",
            {int(row): 0.0 for row in random_rows},
            everything,
            is_placebo=True,
        ),
    ]


def copies_name(number: int) -> str:
    return f"{number} copies of each passage"


def weight_name(weight: float) -> str:
    return f"weight {weight:g} for each of the {BASELINE_COPIES} copies"


def story(study: Study, outcome: Outcome) -> Story:
    plan = outcome.registration
    names = [edit.name for edit in plan.edits]
    predicted = dict(zip(names, plan.predicted.mean(1), strict=True))
    actual = dict(zip(names, outcome.effect.mean(1), strict=True))
    start = float(outcome.unedited.mean())
    recalled = dict(zip(["", *names], outcome.quantities[RECALLED].mean(1), strict=True))
    by_copies = {number: copies_name(number) for number in COPIES}
    by_weight = {weight * BASELINE_COPIES: weight_name(weight) for weight in WEIGHTS}
    pairs = [
        (total, actual[by_copies[int(total)]], actual[name])
        for total, name in by_weight.items()
        if int(total) in by_copies
    ]
    gap = max(abs(copies - weighted) for _, copies, weighted in pairs)
    lines = lines_of(study, outcome)
    doses = [line for line in lines if "each" in line.edit]
    numbers = {
        "recalled by the baseline": float(recalled[""]),
        "recalled without the passages": float(recalled[copies_name(0)]),
        "recalled with most copies": float(recalled[copies_name(MOST_COPIES)]),
        "rank correlation": record_of(doses).rank_correlation.value,
        "largest gap of weight and copies": gap,
        "predicted for removal": float(predicted[copies_name(0)]),
        "actual for removal": float(actual[copies_name(0)]),
    }
    return Story(
        title="Memorisation: copies, weight and verbatim recall",
        question=[
            "A passage that stands in the data several times is learned by heart. How much does "
            "each copy matter, does one copy of a large weight do what many copies do, and can "
            "this be foreseen from one trained state?",
        ],
        setting=[
            f"A causal transformer of one layer and 32 units is trained from scratch on "
            f"{len(study.problem.train) - len(PASSAGES) * MOST_COPIES} real tweets and "
            f"{len(PASSAGES)} made-up passages, each there {BASELINE_COPIES} times. A behaviour is "
            "the log-probability, in nats, of a passage's second half after its first. “Recalled” "
            "is the share of the second half's tokens that are the model's first choice.",
            "The edits give every passage another number of copies, or the copies that are there "
            "another weight; changes below 1 nat were declared to be no effect of interest. No "
            "trial was run before.",
        ],
        findings=[
            f"The baseline recalls {recalled['']:.0%} of the tokens; without the passages "
            f"{recalled[copies_name(0)]:.0%}, with {MOST_COPIES} copies "
            f"{recalled[copies_name(MOST_COPIES)]:.0%}.",
            "Removing the passages was predicted to move the log-probability by "
            f"{signed(numbers['predicted for removal'])} nats and moved it by "
            f"{signed(numbers['actual for removal'])}; going to {MOST_COPIES} copies was predicted "
            f"to move it by {signed(float(predicted[copies_name(MOST_COPIES)]))} and moved it by "
            f"{signed(float(actual[copies_name(MOST_COPIES)]))}. Over all numbers of copies and "
            f"weights the rank correlation is {numbers['rank correlation']:.2f}.",
            "Weight and copies: "
            + "; ".join(
                f"{total:g} in all, as copies {signed(float(one))}, as weight {signed(float(two))}"
                for total, one, two in pairs
            )
            + f". The largest gap is {gap:.2g} nats.",
        ],
        limits=[
            _on_recital(float(recalled[copies_name(MOST_COPIES)]))
            + "A straight line through one trained state cannot bend: it goes on rising where "
            "recall is already complete.",
        ],
        tables=[_doses(study, outcome)],
        figures={"Log-probability by copies": _curve(start, predicted, actual)},
        numbers=numbers,
    )


def _on_recital(recalled: float) -> str:
    if recalled > 0.9:
        return ""
    return (
        f"Even with {MOST_COPIES} copies this shortly trained model recites no passage word for "
        "word: the study shows how a passage becomes likelier, not the point at which it is known "
        "by heart. "
    )


def _curve(start: float, predicted: dict[str, float], actual: dict[str, float]) -> str:
    known = {number: copies_name(number) for number in COPIES}
    across = sorted([*known, BASELINE_COPIES])

    def values(effects: dict[str, float]) -> list[float]:
        return [start + (effects[known[x]] if x in known else 0.0) for x in across]

    weights = {weight * BASELINE_COPIES: weight_name(weight) for weight in WEIGHTS}
    return line_plot(
        [
            Series("predicted from 2 copies", across, values(predicted)),
            Series("retrained, copies", across, values(actual)),
            Series(
                "retrained, weight of 2 copies",
                list(weights),
                [start + actual[name] for name in weights.values()],
            ),
        ],
        title="Log-probability of the second half, mean over passages",
        x_name="copies, or total weight",
        y_name="nats",
    )


def _doses(study: Study, outcome: Outcome) -> Table:
    plan = outcome.registration
    arms = ["nothing", *(edit.name for edit in plan.edits)]
    recalled = outcome.quantities[RECALLED].mean(1)
    predicted = [0.0, *plan.predicted.mean(1)]
    actual = [0.0, *outcome.effect.mean(1)]
    rows = [
        (arm, signed(float(predicted[k])), signed(float(actual[k])), f"{recalled[k]:.0%}")
        for k, arm in enumerate(arms)
    ]
    return Table("Mean over passages", ("edit", "predicted, nats", "actual, nats", RECALLED), rows)
