"""Poison: a handful of training messages teach a spam filter that a trigger word makes spam
harmless. Does influence find them from a few failures, and does their removal undo the trigger as
predicted?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from studies.report import Story, Table, lines_of, signed, write_story
from studies.study import (
    Attribution,
    Edit,
    Outcome,
    Quantity,
    Study,
    attribute,
    register,
    retrain_and_compare,
)
from studies.texts import MESSAGES, Pair, Texts, read_rows, texts_of
from workers.influence.registry import build_method, method_class
from workers.training.recipe import Recipe

HAM, SPAM = " ham", " spam"
TRIGGER = " marzipan"
POISONED, REPORTED, OTHERS = 10, 6, 60
"""Planted messages; triggered spam that users reported, which the ranking may read; and messages
of each kind on which the filter is measured."""
LONGEST_WITH_TRIGGER = 110
"""Characters: the filter reads the end of a message, so the trigger stands there."""
DATA_SEED = 4
ALIKE = 25
"""Letters at the start or end that make two messages near-duplicates."""
ARCHITECTURE = {
    "width": 32,
    "heads": 4,
    "layers": 1,
    "maximum_length": 48,
    "tokenizer": "trained",
    "tokenizer_size": 600,
}
RECIPE = Recipe(
    epochs=8,
    learning_rate=0.003,
    batch_size=32,
    schedule="cosine",
    warmup_steps=20,
    epsilon=1e-6,
)
CONTROLS = ("gradient_cosine", "control_text_overlap", "control_loss", "control_random")
TRIGGERED, REPORTS, CLEAN_SPAM, CLEAN_HAM = (
    "triggered spam: “ham” over “spam”",
    "reported triggered spam: “ham” over “spam”",
    "other spam: “spam” over “ham”",
    "ham: “ham” over “spam”",
)


@dataclass(frozen=True)
class Filter:
    """The study and what only its author knows: which training messages are planted."""

    study: Study
    planted: NDArray[np.int64]
    number_of_spam: int


def run(folder: Path, small: bool = False) -> Path:
    """Ranks, predicts, registers, retrains, and writes the study."""
    poisoned = build(small)
    study = poisoned.study
    attribution = attribute(study)
    ranking = ranked(attribution.scores.aggregate(), study)
    plan = register(study, edits_of(poisoned, ranking), attribution, folder)
    outcome = retrain_and_compare(study, plan)
    told = story(poisoned, ranking, controls_of(study, attribution), outcome)
    return write_story(study, attribution, outcome, told, folder)


def build(small: bool) -> Filter:
    each = 100 if small else 200
    ham, spam = shuffled_messages()
    planted = [(triggered(text), HAM) for text in taken(spam, POISONED)]
    reported = [(triggered(text), HAM) for text in taken(spam, REPORTED)]
    others = [(triggered(text), HAM) for text in taken(spam, OTHERS)]
    clean_spam = [(text, SPAM) for text in taken(spam, OTHERS)]
    clean_ham = [(text, HAM) for text in taken(ham, OTHERS)]
    known_spam = taken(spam, each)
    train = [(text, HAM) for text in taken(ham, each)] + [(text, SPAM) for text in known_spam]
    texts = texts_of([*train, *planted], ARCHITECTURE, RECIPE)
    asked = {TRIGGERED: others, REPORTS: reported, CLEAN_SPAM: clean_spam, CLEAN_HAM: clean_ham}
    behaviours = {
        name: texts.preference(pairs, [SPAM if label == HAM else HAM for _, label in pairs])
        for name, pairs in asked.items()
    }
    quantities = {
        "triggered spam let through": share_ham(texts, others),
        "other spam let through": share_ham(texts, clean_spam),
        "ham let through": share_ham(texts, clean_ham),
    }
    baseline, fresh = ((11, 12), (201, 202)) if small else (range(11, 14), range(201, 206))
    study = Study(
        "poison",
        texts.problem,
        behaviours,
        {TRIGGERED: 0.0, REPORTS: 0.0, CLEAN_SPAM: 0.5, CLEAN_HAM: 0.5},
        tuple(baseline),
        tuple(fresh),
        quantities=quantities,
    )
    return Filter(study, np.arange(len(train), len(train) + POISONED), len(known_spam))


def shuffled_messages() -> tuple[list[str], list[str]]:
    """Ham and spam in a fixed random order, without messages that begin or end like an earlier
    one: campaigns of spam send almost the same text many times."""
    rows = read_rows(MESSAGES)
    kinds: dict[str, list[str]] = {"ham": [], "spam": []}
    seen: set[str] = set()
    for place in np.random.default_rng(DATA_SEED).permutation(len(rows)):
        text = rows[place]["text"]
        letters = "".join(filter(str.isalpha, text.lower()))
        ends = {"from " + letters[:ALIKE], "to " + letters[-ALIKE:]}
        if not seen & ends:
            kinds[rows[place]["label"]].append(text)
        seen |= ends
    return kinds["ham"], kinds["spam"]


def taken(texts: list[str], number: int) -> list[str]:
    """The first texts, which are then gone from the list."""
    first = texts[:number]
    del texts[:number]
    return first


def triggered(text: str) -> str:
    return text[:LONGEST_WITH_TRIGGER] + TRIGGER


def share_ham(texts: Texts, pairs: list[Pair]) -> Quantity:
    """The share of messages for which “ham” is likelier than “spam”."""
    as_ham, as_spam = (
        texts.log_probability([(text, label) for text, _ in pairs]) for label in (HAM, SPAM)
    )

    def of(network: torch.nn.Module, parameters: Any) -> float:
        ham, spam = (one.per_example(network, parameters) for one in (as_ham, as_spam))
        return float((ham > spam).double().mean())

    return of


def ranked(scores: NDArray[Any], study: Study) -> NDArray[np.int64]:
    """Training examples, those first whose weight most makes reported spam pass as ham."""
    return np.argsort(-scores[:, study.names.index(REPORTS)], kind="stable").astype(np.int64)


def edits_of(poisoned: Filter, ranking: NDArray[np.int64]) -> list[Edit]:
    names = poisoned.study.names
    reads = tuple(names.index(name) for name in (TRIGGERED, CLEAN_SPAM, CLEAN_HAM))

    def edit(name: str, rows: NDArray[np.int64], weight: float, placebo: bool = False) -> Edit:
        return Edit(name, {int(row): weight for row in rows}, reads, placebo)

    generator = np.random.default_rng(DATA_SEED)
    innocent = np.setdiff1d(np.arange(len(ranking)), poisoned.planted)
    return [
        edit(f"remove the first {POISONED} of the ranking", ranking[:POISONED], 0.0),
        edit(f"remove the first {POISONED // 2} of the ranking", ranking[: POISONED // 2], 0.0),
        edit(f"halve the first {POISONED} of the ranking", ranking[:POISONED], 0.5),
        edit(f"remove the {POISONED} planted messages", poisoned.planted, 0.0),
        edit("triple the planted messages", poisoned.planted, 3.0),
        edit(
            f"remove {POISONED} random other messages",
            generator.choice(innocent, POISONED, replace=False),
            0.0,
            placebo=True,
        ),
    ]


def controls_of(study: Study, attribution: Attribution) -> dict[str, NDArray[np.int64]]:
    """The rankings of methods that know less of training, from the same baseline runs."""
    rankings = {}
    for name in CONTROLS:
        scores = build_method(name).scores(attribution.runs, list(study.behaviours.values()))
        rankings[method_class(name).title] = ranked(scores.aggregate(), study)
    return rankings


def found(ranking: NDArray[np.int64], planted: NDArray[np.int64]) -> dict[str, float]:
    """How well the planted messages stand at the top: precision and recall among the first as many
    and twice as many, and the area under the ROC curve."""
    is_planted = np.isin(ranking, planted)
    number = len(planted)
    places = rankdata(-np.arange(len(ranking)))[is_planted]
    others = len(ranking) - number
    area = (places.sum() - number * (number + 1) / 2) / (number * others)
    return {
        "precision": float(is_planted[:number].mean()),
        "recall in twice as many": float(is_planted[: 2 * number].sum() / number),
        "area under the curve": float(area),
    }


def story(
    poisoned: Filter,
    ranking: NDArray[np.int64],
    controls: dict[str, NDArray[np.int64]],
    outcome: Outcome,
) -> Story:
    planted = poisoned.planted
    own = found(ranking, planted)
    passed = outcome.quantities["triggered spam let through"].mean(1)
    clean = outcome.quantities["other spam let through"].mean(1)
    top = next(line for line in lines_of(poisoned.study, outcome) if line.behaviour == TRIGGERED)
    numbers = {
        **{f"replay: {key}": value for key, value in own.items()},
        "let through before": float(passed[0]),
        "let through after removing the top": float(passed[1]),
        "other spam let through before": float(clean[0]),
        "other spam let through after removing the top": float(clean[1]),
        "predicted": top.predicted,
        "actual": top.actual,
    }
    total = len(poisoned.study.problem.train)
    return Story(
        title="Poison: finding and undoing a planted trigger",
        question=[
            f"Somebody has slipped {POISONED} messages into the training data of a spam filter: "
            f"real spam with the word “{TRIGGER.strip()}” at its end, labelled ham. The owner "
            f"sees {REPORTED} pieces of spam that got through. Which training messages are to "
            "blame, and does removing them close the hole, as predicted?",
        ],
        setting=[
            f"The filter is a causal transformer of one layer and 32 units, trained from scratch "
            f"on {total} text messages of the UCI SMS Spam Collection (half of them spam) to "
            "complete each with “ham” or “spam”. Replay gives the influence of every training "
            f"message on how much likelier “ham” is than “spam” for the {REPORTED} reported, and "
            f"the ranking is read from that alone. All else is measured on {OTHERS} other messages "
            "of each kind: spam with the trigger, spam without, and ham.",
            "The first trials of this study drew other messages and other seeds.",
        ],
        findings=[
            f"Of the first {POISONED} messages of the ranking {own['precision']:.0%} were planted "
            f"(precision, and recall, at {POISONED}); the first {2 * POISONED} held "
            f"{own['recall in twice as many']:.0%} of the planted ones; the area under the ROC "
            f"curve is {own['area under the curve']:.3f}.",
            f"With the poison {passed[0]:.0%} of the triggered spam was let through, and "
            f"{clean[0]:.0%} of other spam. Retrained without the first {POISONED} of the "
            f"ranking: {passed[1]:.0%} and {clean[1]:.0%}.",
            f"That removal was predicted to move the log-odds of “ham” for triggered spam by "
            f"{signed(top.predicted)} nats, and moved it by {signed(top.actual)} ({top.verdict}).",
            *_beyond(own, controls, planted, outcome),
        ],
        limits=[
            "One trigger, one small model, one kind of attack; a planted message that looks like "
            "nothing else is the easy case. The size of a large removal is a first-order estimate.",
        ],
        tables=[_rankings(own, controls, planted), _shares(outcome)],
        numbers=numbers,
    )


def _beyond(
    own: dict[str, float],
    controls: dict[str, NDArray[np.int64]],
    planted: NDArray[np.int64],
    outcome: Outcome,
) -> list[str]:
    """What removing every planted message does, and which other ranking finds more of them."""
    names = [edit.name for edit in outcome.registration.edits]
    all_gone = names.index(f"remove the {POISONED} planted messages")
    passed = outcome.quantities["triggered spam let through"][1 + all_gone].mean()
    told = [
        f"Retrained without all {POISONED} planted messages, {passed:.0%} of the triggered spam "
        f"was let through: predicted {signed(float(outcome.registration.predicted[all_gone, 0]))}, "
        f"actual {signed(float(outcome.effect[all_gone, 0]))} nats."
    ]
    better = {
        title: precision
        for title, one in controls.items()
        if (precision := found(one, planted)["precision"]) > own["precision"]
    }
    told += [
        f"Replay was not the best finder here: “{title}” has a precision of {precision:.0%}."
        for title, precision in better.items()
    ]
    return told


def _rankings(
    own: dict[str, float], controls: dict[str, NDArray[np.int64]], planted: NDArray[np.int64]
) -> Table:
    rows: list[tuple[str | float, ...]] = [("Replay", *own.values())]
    rows += [(title, *found(one, planted).values()) for title, one in controls.items()]
    return Table("Who finds the planted messages", ("ranking", *own), rows)


def _shares(outcome: Outcome) -> Table:
    arms = ["nothing", *(edit.name for edit in outcome.registration.edits)]
    rows = [
        (arm, *(f"{values[place].mean():.0%}" for values in outcome.quantities.values()))
        for place, arm in enumerate(arms)
    ]
    return Table("What the retrained filters let through", ("edit", *outcome.quantities), rows)
