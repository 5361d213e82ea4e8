"""Out of distribution: a language model trained on text messages is asked about tweets, which it
never sees. Is the effect of data edits foreseen there as well as at home?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.report import Line, Story, Table, lines_of, record_of, signed, write_story
from studies.study import (
    Attribution,
    Edit,
    Outcome,
    Study,
    attribute,
    register,
    retrain_and_compare,
)
from studies.texts import MESSAGES, TWEETS, Pair, read_rows, texts_of
from workers.influence.behaviours import HIGHER_IS_BETTER
from workers.training.recipe import Recipe

HAM, SPAM, PROBED = 350, 150, 60
EDITED_SHARE = 0.1
DATA_SEED = 9
ARCHITECTURE = {
    "width": 32,
    "heads": 4,
    "layers": 1,
    "maximum_length": 40,
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
CHOSEN_ON, TWEETS_LOSS, HAM_LOSS, SPAM_LOSS = (
    "loss on the tweets that edits were chosen on",
    "loss on other tweets",
    "loss on ordinary messages",
    "loss on spam",
)
SMALLEST_EFFECT = 0.005
"""Nats a token, half a percent in perplexity."""


def run(folder: Path, small: bool = False) -> Path:
    """Attributes, chooses edits, predicts, registers, retrains, and writes the study."""
    study, is_spam = build(small)
    attribution = attribute(study)
    plan = register(study, edits_of(study, attribution, is_spam), attribution, folder)
    outcome = retrain_and_compare(study, plan)
    return write_story(study, attribution, outcome, story(study, attribution, outcome), folder)


def build(small: bool) -> tuple[Study, NDArray[np.bool_]]:
    """The study, and which training messages are spam (N,)."""
    part = 5 if small else 1
    ham, spam = (texts_with("label", kind) for kind in ("ham", "spam"))
    tweets = shuffled([row["text"] for row in read_rows(TWEETS) if not row.get("crude")])
    train = [*ham[: HAM // part], *spam[: SPAM // part]]
    texts = texts_of(whole(train), ARCHITECTURE, RECIPE)
    asked = {
        CHOSEN_ON: tweets[:PROBED],
        TWEETS_LOSS: tweets[PROBED : 2 * PROBED],
        HAM_LOSS: ham[-PROBED:],
        SPAM_LOSS: spam[-PROBED:],
    }
    behaviours = {name: texts.loss(whole(chosen)) for name, chosen in asked.items()}
    baseline, fresh = ((11, 12), (201, 202)) if small else (range(11, 14), range(201, 207))
    study = Study(
        "out_of_distribution",
        texts.problem,
        behaviours,
        dict.fromkeys(behaviours, SMALLEST_EFFECT),
        tuple(baseline),
        tuple(fresh),
    )
    return study, np.arange(len(train)) >= HAM // part


def texts_with(column: str, value: str) -> list[str]:
    """Distinct messages, in a fixed random order."""
    rows = {row["text"]: row for row in read_rows(MESSAGES)}
    return shuffled([text for text, row in rows.items() if row[column] == value])


def shuffled(texts: list[str]) -> list[str]:
    order = np.random.default_rng(DATA_SEED).permutation(len(texts))
    return [texts[place] for place in order]


def whole(texts: list[str]) -> list[Pair]:
    return [("", text) for text in texts]


def edits_of(study: Study, attribution: Attribution, is_spam: NDArray[np.bool_]) -> list[Edit]:
    """Edits that influence chooses for the first set of tweets, spam as a whole, and a placebo."""
    names = study.names
    reads = tuple(names.index(name) for name in (TWEETS_LOSS, HAM_LOSS, SPAM_LOSS))
    scores = attribution.scores.aggregate()
    kind = study.behaviours[CHOSEN_ON].kind
    good = scores[:, names.index(CHOSEN_ON)] * (1 if HIGHER_IS_BETTER[kind] else -1)
    number = round(EDITED_SHARE * len(good))
    order = np.argsort(-good, kind="stable")
    best, worst = order[:number], order[-number:]
    generator = np.random.default_rng(DATA_SEED)

    def edit(name: str, rows: NDArray[np.int64], weight: float, placebo: bool = False) -> Edit:
        return Edit(name, {int(row): weight for row in rows}, reads, placebo)

    return [
        edit("remove the tenth that helps tweets most", best, 0.0),
        edit("triple the tenth that helps tweets most", best, 3.0),
        edit("remove the tenth that helps tweets least", worst, 0.0),
        edit("triple the tenth that helps tweets least", worst, 3.0),
        edit("halve all spam", np.flatnonzero(is_spam), 0.5),
        edit("remove all spam", np.flatnonzero(is_spam), 0.0),
        edit("double all spam", np.flatnonzero(is_spam), 2.0),
        edit(
            "remove a random tenth", generator.choice(len(good), number, replace=False), 0.0, True
        ),
    ]


def story(study: Study, attribution: Attribution, outcome: Outcome) -> Story:
    lines = lines_of(study, outcome)
    by_behaviour = {
        name: [line for line in lines if line.behaviour == name]
        for name in (TWEETS_LOSS, HAM_LOSS, SPAM_LOSS)
    }
    records = {name: record_of(own) for name, own in by_behaviour.items()}
    rank = {name: record.rank_correlation.value for name, record in records.items()}
    start = dict(zip(study.names, outcome.unedited.mean(0), strict=True))
    best, spam = (
        next(line for line in by_behaviour[TWEETS_LOSS] if line.edit == name)
        for name in ("remove the tenth that helps tweets most", "remove all spam")
    )
    placebo = next(line for line in by_behaviour[TWEETS_LOSS] if line.is_placebo)
    apart = _apart(by_behaviour)
    return Story(
        title="Out of distribution: edits of messages, effects on tweets",
        question=[
            "What a data edit does to texts like the training texts is one question; what it does "
            "to another kind of text is the harder one, and the one that matters when a model is "
            "used. A model is trained on text messages alone. Can the effect of edits on tweets "
            "be foreseen as well as the effect on messages?",
        ],
        setting=[
            f"A causal transformer of one layer and 32 units is trained from scratch on "
            f"{len(study.problem.train)} text messages of the UCI SMS Spam Collection, "
            f"{HAM / (HAM + SPAM):.0%} ordinary and the rest spam. A behaviour is the mean loss in "
            f"nats a token on {PROBED} texts: tweets, ordinary messages and spam, none of them "
            f"trained on. The baseline's losses are {start[TWEETS_LOSS]:.2f}, "
            f"{start[HAM_LOSS]:.2f} and {start[SPAM_LOSS]:.2f}.",
            "Edits were chosen by influence on one set of tweets and judged on another. Effects "
            f"below {SMALLEST_EFFECT} nats a token were declared to be no effect of interest. No "
            "trial was run before.",
        ],
        findings=[
            f"The rank correlation of predicted and actual effects is "
            f"{rank[TWEETS_LOSS]:.2f} for tweets, {rank[HAM_LOSS]:.2f} for ordinary messages and "
            f"{rank[SPAM_LOSS]:.2f} for spam; actual over predicted is "
            f"{records[TWEETS_LOSS].slope.value:.2f}, {records[HAM_LOSS].slope.value:.2f} and "
            f"{records[SPAM_LOSS].slope.value:.2f}.",
            f"Removing the tenth of the messages that helps tweets most was predicted to move the "
            f"loss on other tweets by {signed(best.predicted)} and moved it by "
            f"{signed(best.actual)}; removing a random tenth moved it by {signed(placebo.actual)}. "
            f"Removing all spam: {signed(spam.predicted)} predicted, {signed(spam.actual)} actual.",
            apart,
        ],
        limits=[
            "One model of 32 units, trained so shortly that it knows little beyond which tokens "
            "are frequent, and two kinds of short text. The tweets that chose the edits "
            "and those that judged them are of one source, so the choice carries over easily.",
        ],
        tables=[_table(by_behaviour)],
        numbers={**{f"rank correlation, {name}": value for name, value in rank.items()}},
    )


def _apart(by_behaviour: dict[str, list[Line]]) -> str:
    """For which edits tweets and ordinary messages were to move in opposite directions, and how
    often they did."""
    pairs = list(zip(by_behaviour[TWEETS_LOSS], by_behaviour[HAM_LOSS], strict=True))
    foreseen = [(tweet, ham) for tweet, ham in pairs if tweet.predicted * ham.predicted < 0]
    came = sum(tweet.actual * ham.actual < 0 for tweet, ham in foreseen)
    if not foreseen:
        return "No edit was predicted to move tweets and ordinary messages in opposite directions."
    edits = "; ".join(tweet.edit for tweet, _ in foreseen)
    return (
        f"{len(foreseen)} edits were predicted to move tweets and ordinary messages in opposite "
        f"directions ({edits}); {came} did."
    )


def _table(by_behaviour: dict[str, list[Line]]) -> Table:
    rows = []
    for place, line in enumerate(by_behaviour[TWEETS_LOSS]):
        cells = [
            signed(value)
            for name in (TWEETS_LOSS, HAM_LOSS, SPAM_LOSS)
            for value in (by_behaviour[name][place].predicted, by_behaviour[name][place].actual)
        ]
        rows.append((line.edit, *cells))
    header = (
        "edit",
        "tweets, predicted",
        "actual",
        "ordinary messages, predicted",
        "actual",
        "spam, predicted",
        "actual",
    )
    return Table("Change of the loss, nats a token", header, rows)
