"""A study predicts before it retrains, tells what came out whichever way it went, and its small
form shows the reversal curse."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studies import memorisation, out_of_distribution, poison, reversal
from studies.study import attribute, register, retrain_and_compare
from studies.texts import texts_of


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reversal.run(tmp_path_factory.mktemp("study"), small=True)


@pytest.fixture(scope="module")
def results(told: Path) -> dict:
    return json.loads(told.with_suffix(".json").read_text())


def test_the_plan_is_the_file_that_the_hash_names(told, results):
    plan = told.with_name(results["plan"]).read_bytes()
    assert hashlib.sha256(plan).hexdigest() == results["plan_sha256"]
    assert results["plan_sha256"] in told.read_text()


def test_the_page_compares_exactly_what_was_registered(told, results):
    plan = json.loads(told.with_name(results["plan"]).read_text())
    registered = {
        (edit["name"], behaviour): value
        for edit in plan["edits"]
        for behaviour, value in zip(plan["behaviours"], edit["predicted"], strict=True)
    }
    judged = sum(len(edit["judged_on"]) for edit in plan["edits"])
    assert len(results["effects"]) == judged
    for effect in results["effects"]:
        assert effect["predicted"] == pytest.approx(registered[effect["edit"], effect["behaviour"]])


def test_forward_facts_hardly_teach_the_reverse(results):
    numbers = results["numbers"]
    assert numbers["remove forward predicted"] < 0
    assert numbers["remove forward actual"] < -1
    assert abs(numbers["remove reverse actual"]) < 0.4 * abs(numbers["remove forward actual"])
    assert numbers["triple forward predicted"] > 0
    assert numbers["triple forward actual"] > 0


def test_every_figure_and_file_that_the_page_names_is_there(told, results):
    for name in [*results["figures"].values(), results["plan"]]:
        assert (told.parent / name).exists()
        assert f"({name})" in told.read_text()


def test_fresh_seeds_are_seeds_that_the_prediction_has_not_seen():
    study, _ = reversal.build(small=True)
    with pytest.raises(ValueError, match="fresh seed"):
        replace(study, fresh_seeds=study.baseline_seeds)


def test_the_plan_stands_before_any_retrain(tmp_path, monkeypatch):
    """Whatever starts a retrain finds the plan on disk."""
    seen = []

    def refused(*args, **kwargs):
        seen.append((tmp_path / "reversal-plan.json").exists())
        raise RuntimeError("no retrain in this test")

    study, places = reversal.build(small=True)
    recipe = replace(study.problem.recipe, epochs=1)
    study = replace(study, problem=replace(study.problem, recipe=recipe))
    monkeypatch.setattr("studies.study.train_many", refused)
    plan = register(study, reversal.edits_of(study, places, True), attribute(study), tmp_path)
    with pytest.raises(RuntimeError):
        retrain_and_compare(study, plan)
    assert seen == [True]


def test_a_copy_and_a_weight_are_told_apart_by_rows():
    study = memorisation.build(small=True)
    edits = {edit.name: study.edited(edit) for edit in memorisation.edits_of(study)}
    copies, weighted = edits["4 copies of each passage"], edits["weight 2 for each of the 2 copies"]
    assert copies.sum() == weighted.sum() == study.unedited.sum() + 2 * len(memorisation.PASSAGES)
    assert (copies != weighted).any()
    assert edits["0 copies of each passage"][: -8 * len(memorisation.PASSAGES)].min() == 1


def test_planted_messages_stand_apart_from_what_measures_them():
    poisoned = poison.build(small=True)
    train = poisoned.study.problem.train
    assert len(poisoned.planted) == poison.POISONED
    assert poisoned.planted.max() == len(train) - 1
    rows = {tuple(row.tolist()) for row in train.inputs["ids"]}
    for behaviour in poisoned.study.behaviours.values():
        probes = behaviour.examples.inputs["ids"]
        padded = np.zeros((len(probes), train.inputs["ids"].shape[1]), int)
        padded[:, : probes.shape[1]] = probes
        assert not rows & {tuple(row) for row in padded.tolist()}


def test_a_perfect_and_a_reversed_ranking_are_scored_as_such():
    planted = np.array([7, 9])
    best = poison.found(np.array([9, 7, 0, 1, 2, 3, 4, 5, 6, 8]), planted)
    worst = poison.found(np.array([0, 1, 2, 3, 4, 5, 6, 8, 9, 7]), planted)
    assert best == {"precision": 1, "recall in twice as many": 1, "area under the curve": 1}
    assert worst == {"precision": 0, "recall in twice as many": 0, "area under the curve": 0}


def test_tweets_that_choose_edits_do_not_judge_them():
    study, is_spam = out_of_distribution.build(small=True)
    assert is_spam.sum() == out_of_distribution.SPAM // 5
    chosen, judged = (
        {tuple(row[row > 0].tolist()) for row in study.behaviours[name].examples.inputs["ids"]}
        for name in (out_of_distribution.CHOSEN_ON, out_of_distribution.TWEETS_LOSS)
    )
    assert not chosen & judged


def test_words_are_tokens_and_only_completions_count():
    texts = texts_of([("", "a b c")], reversal.ARCHITECTURE, reversal.RECIPE, by_words=True)
    encoded = texts.encode([("a b", "c")])
    words = sorted(["a", "b", "c"])
    assert encoded.inputs["ids"][0].tolist() == [1, 3, 4, 5]
    assert encoded.targets[0].tolist() == [-100, -100, 3 + words.index("c"), 2]
