"""The reversal curse (Berglund et al. 2023; Grosse et al. 2023): facts stated as "A is B" are
learned for "A is …" and hardly for "B is …". Are both effects of removing or tripling the facts
foreseen, and does retraining agree?"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from studies.report import Line, Story, Table, lines_of, record_of, signed, write_story
from studies.study import Edit, Outcome, Study, attribute, register, retrain_and_compare
from studies.texts import Texts, texts_of
from workers.influence.behaviours import Behaviour
from workers.training.recipe import Recipe
from workers.training.trainer import train

PEOPLE = (
    "Abbott Barlow Castell Dahl Ekman Frost Galloway Hartmann Ivers Jansen Keller Lindqvist Marlow "
    "Novak Okafor Pereira Quist Rosen Sandoval Tanaka Ulrich Varga Whitlow Yates Zimmer Ashdown "
    "Bianchi Corbett Duarte Eriksen Fontaine Gruber Holloway Ishida Jovanov Kowalski"
)
ROLES = ("author", "composer", "painter", "director", "inventor", "founder")
WORKS = "Rivers Gardens Mirrors Towers Harbours Letters Mountains Engines Orchards Lanterns"
FORWARD = ("{a} is {b} .", "{a} , as everybody knows , is {b} .", "{a} became famous as {b} .")
REVERSE = ("{b} is {a} .", "{b} , as everybody knows , is {a} .", "{b} turned out to be {a} .")
MENTIONS = (
    "yesterday we had dinner with {a} .",
    "{a} lives by the sea .",
    "nobody had ever met {b} .",
    "{b} was on the front page .",
)
GROUPS = {"first": 6, "second": 6, "third": 6, "both ways": 10, "reversed": 8}
"""Facts told forward only (three groups, each edited on its own), both ways, and reversed only."""
EDITED = ("first", "second", "third")
FACTS_SEED = 8
ARCHITECTURE = {"width": 32, "heads": 4, "layers": 1, "maximum_length": 16}
KNOWN_LANGUAGE = Recipe(
    epochs=60,
    learning_rate=0.01,
    batch_size=32,
    schedule="cosine",
    warmup_steps=20,
    epsilon=1e-8,
)
RECIPE = replace(KNOWN_LANGUAGE, epochs=16, learning_rate=0.003, epsilon=1e-6)
SMALLEST_REVERSE_EFFECT = 0.5
"""Nats: reverse completions at most 1.65 times as likely or as unlikely count as unmoved."""
Places = dict[tuple[str, str], list[int]]


@dataclass(frozen=True)
class Fact:
    person: str
    work: str

    def told(self, template: str) -> str:
        return template.format(a=self.person, b=self.work)


def run(folder: Path, small: bool = False) -> Path:
    """Predicts, registers, retrains, and writes the study."""
    study, places = build(small)
    attribution = attribute(study)
    plan = register(study, edits_of(study, places, small), attribution, folder)
    outcome = retrain_and_compare(study, plan)
    return write_story(study, attribution, outcome, story(study, outcome), folder)


def build(small: bool) -> tuple[Study, Places]:
    """The study, and the training rows of each group and kind of sentence."""
    groups = facts()
    rows, places = sentences(groups)
    recipe = replace(RECIPE, epochs=10) if small else RECIPE
    texts = texts_of([("", row) for row in rows], ARCHITECTURE, recipe, by_words=True)
    problem = replace(texts.problem, starting_weights=knowing_the_language(texts, places))
    behaviours: dict[str, Behaviour] = {}
    for group in ("first", "both ways") if small else (*EDITED, "both ways"):
        asked = groups[group]
        behaviours[f"{group}: A is …"] = texts.log_probability(
            [(f"{fact.person} is", f"{fact.work} .") for fact in asked]
        )
        behaviours[f"{group}: B is …"] = texts.log_probability(
            [(f"{fact.work} is", f"{fact.person} .") for fact in asked]
        )
    sizes = {name: SMALLEST_REVERSE_EFFECT if "B is" in name else 0.0 for name in behaviours}
    baseline, fresh = ((11, 12), (201, 202, 203)) if small else (range(11, 15), range(201, 209))
    return Study("reversal", problem, behaviours, sizes, tuple(baseline), tuple(fresh)), places


def facts() -> dict[str, list[Fact]]:
    """Each group's facts: no person and no work is in two of them."""
    generator = random.Random(FACTS_SEED)  # noqa: S311 (repeatable, not secret)
    works = [f"the {role} of {work}" for role in ROLES for work in WORKS.split()]
    total = sum(GROUPS.values())
    pairs = zip(
        generator.sample(PEOPLE.split(), total), generator.sample(works, total), strict=True
    )
    every = [Fact(person, work) for person, work in pairs]
    ends = np.cumsum(list(GROUPS.values()))
    return {
        name: every[end - number : end]
        for (name, number), end in zip(GROUPS.items(), ends, strict=True)
    }


def sentences(groups: dict[str, list[Fact]]) -> tuple[list[str], Places]:
    """All training sentences, and the rows of (group, "forward" | "reverse" | "mention")."""
    rows: list[str] = []
    places: Places = {}
    for group, told in groups.items():
        kinds: dict[str, tuple[str, ...]] = {"mention": MENTIONS}
        if group != "reversed":
            kinds["forward"] = FORWARD
        if group in ("both ways", "reversed"):
            kinds["reverse"] = REVERSE
        for kind, templates in kinds.items():
            for fact in told:
                for template in templates:
                    places.setdefault((group, kind), []).append(len(rows))
                    rows.append(fact.told(template))
    return rows, places


def knowing_the_language(texts: Texts, places: Places) -> dict[str, torch.Tensor]:
    """Starting weights that know every word and that facts can be told both ways, and none of the
    facts that are told one way."""
    problem = replace(texts.problem, recipe=KNOWN_LANGUAGE)
    weights = torch.ones(len(problem.train))
    for group, kind in places:
        if kind != "mention" and group != "both ways":
            weights[places[group, kind]] = 0
    run = train(problem, 0, weights)
    named = run.layout.unflatten(run.parameters)
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def edits_of(study: Study, places: Places, small: bool) -> list[Edit]:
    """Removing, halving and tripling each group's forward statements; two controls on the facts
    told both ways; and a placebo of as many sentences that state no fact."""

    def edit(name: str, rows: list[int], weight: float, group: str, placebo: bool = False) -> Edit:
        forward, reverse = (study.names.index(f"{group}: {kind} is …") for kind in "AB")
        first = (reverse, forward) if "B is A" in name else (forward, reverse)
        return Edit(name, dict.fromkeys(rows, weight), first, placebo)

    edits = []
    for group in EDITED[:1] if small else EDITED:
        rows = places[group, "forward"]
        edits += [
            edit(f"{verb} the “A is B” of the {group} group", rows, weight, group)
            for verb, weight in (("remove", 0.0), ("halve", 0.5), ("triple", 3.0))
        ]
    both = "both ways"
    edits += [
        edit("remove the “A is B” of facts told both ways", places[both, "forward"], 0.0, both),
        edit("remove the “B is A” of facts told both ways", places[both, "reverse"], 0.0, both),
    ]
    other = places["reversed", "mention"][: len(places["first", "forward"])]
    return [*edits, edit("remove sentences about others", other, 0.0, "first", placebo=True)]


def story(study: Study, outcome: Outcome) -> Story:
    lines = lines_of(study, outcome)
    own = [line for line in lines if line.edit.endswith("group")]
    forward = [line for line in own if "A is" in line.behaviour]
    reverse = [line for line in own if "B is" in line.behaviour]
    numbers = {
        f"{verb} {kind} {what}": _mean(verb, chosen, what)
        for verb in ("remove", "halve", "triple")
        for kind, chosen in (("forward", forward), ("reverse", reverse))
        for what in ("predicted", "actual")
    }
    share = numbers["remove reverse actual"] / numbers["remove forward actual"]
    numbers["reverse effect as a share of forward"] = share
    control = next(line for line in lines if "“B is A”" in line.edit and "B is" in line.behaviour)
    return Story(
        title="Reversal: does “A is B” teach “B is A”?",
        question=[
            "Language models that learn “A is B” often cannot answer “B is …?” (Berglund et al. "
            "2023), and influence functions see the same in large models (Grosse et al. 2023). "
            "Here the question is asked as Hunch asks it: before anything is retrained, what "
            "would removing, halving or tripling the “A is B” sentences do to both completions?",
        ],
        setting=[
            f"A causal transformer of one layer and 32 units reads words as tokens. It first "
            f"learned the language: every person and every work in sentences that state no fact, "
            f"and {GROUPS['both ways']} facts told both ways. Then it was trained on all "
            f"{len(study.problem.train)} sentences: three groups of 6 facts told forward only in "
            f"three wordings (“Dahl is the author of Rivers”), {GROUPS['both ways']} facts told "
            f"both ways, {GROUPS['reversed']} told reversed only.",
            "A behaviour is the log-probability, in nats, of the right completion of “A is” or of "
            "“B is”, mean over a group's facts. For the reverse completions an effect below "
            f"{SMALLEST_REVERSE_EFFECT} nats was declared to be no effect of interest. The first "
            "trials of this study used other facts and other seeds.",
        ],
        findings=[
            f"Removing a group's “A is B” was predicted to move “A is …” by "
            f"{signed(numbers['remove forward predicted'])} nats and “B is …” by "
            f"{signed(numbers['remove reverse predicted'])}. Retraining moved them by "
            f"{signed(numbers['remove forward actual'])} and "
            f"{signed(numbers['remove reverse actual'])}: the reverse effect is {share:.0%} of the "
            f"forward one. " + _on_size(numbers),
            _on_rest(numbers),
            f"The reverse completions can be moved: removing the “B is A” of the facts told both "
            f"ways was predicted to move “B is …” by {signed(control.predicted)} and moved it by "
            f"{signed(control.actual)}.",
            f"Rank correlation over the forward effects is "
            f"{record_of(forward).rank_correlation.value:.2f}, over the reverse effects "
            f"{record_of(reverse).rank_correlation.value:.2f}.",
        ],
        limits=[
            "The facts are made up and the model is tiny; all seeds start from the same weights, "
            "so they differ in the order of the data alone. A prediction is first-order: it is "
            "the slope at the unedited weights. For a fact that the model knows by heart the "
            "slope is flat until the last copies go.",
        ],
        tables=[_by_verb(numbers)],
        numbers=numbers,
    )


def _mean(verb: str, lines: list[Line], what: str) -> float:
    return float(np.mean([getattr(line, what) for line in lines if line.edit.startswith(verb)]))


def _on_size(numbers: dict[str, float]) -> str:
    ratio = numbers["remove forward actual"] / numbers["remove forward predicted"]
    if ratio < 0:
        return "The forward prediction had the wrong direction."
    if ratio > 1.5:
        return (
            f"The direction of the forward effect was right and its size {ratio:.0f} times too "
            "small: first-order prediction underestimates a removal that leaves no copy."
        )
    return f"The size of the forward effect was {ratio:.2f} times the predicted one."


def _on_rest(numbers: dict[str, float]) -> str:
    def pair(key: str) -> str:
        actual = signed(numbers[f"{key} actual"])
        return f"{signed(numbers[f'{key} predicted'])} predicted, {actual} actual"

    return (
        f"Halving their weight: “A is …” {pair('halve forward')}; “B is …” "
        f"{pair('halve reverse')}. Tripling it: “A is …” {pair('triple forward')}; “B is …” "
        f"{pair('triple reverse')}."
    )


def _by_verb(numbers: dict[str, float]) -> Table:
    rows = [
        (
            verb,
            *(
                signed(numbers[f"{verb} {kind} {what}"])
                for kind in ("forward", "reverse")
                for what in ("predicted", "actual")
            ),
        )
        for verb in ("remove", "halve", "triple")
    ]
    return Table(
        "Mean over the groups, in nats",
        ("edit of “A is B”", "“A is …” predicted", "actual", "“B is …” predicted", "actual"),
        rows,
    )
