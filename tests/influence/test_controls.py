"""Controls equal plain loops, and nothing about how they are computed shows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.influence.test_replay import behaviours_for
from tests.training.problems import ARCHITECTURES, BAG, LANGUAGE_MODEL, MLP, TRANSFORMER, problem_of
from workers.influence.behaviours import HIGHER_IS_BETTER, Behaviour
from workers.influence.registry import METHODS, build_method
from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES, loss_for_targets
from workers.training.trainer import TrainingRun, train

CONTROLS = [name for name in METHODS if name.startswith("control_")]
TEXTS = {"bag": BAG, "transformer": TRANSFORMER, "language model": LANGUAGE_MODEL}


def run_of(architecture: dict, seed: int = 3) -> TrainingRun:
    return train(problem_of(architecture), seed)


def scores_of(name: str, run: TrainingRun, behaviours: list[Behaviour]) -> np.ndarray:
    return build_method(name).scores([run], behaviours).per_seed[0]


def sign(behaviour: Behaviour) -> int:
    return 1 if HIGHER_IS_BETTER[behaviour.kind] else -1


def agreement(behaviour: Behaviour, probe: int, train_target: torch.Tensor) -> int:
    targets = behaviour.examples.targets
    if loss_for_targets(targets) != "cross_entropy":
        return 1
    wanted = int(targets[probe]) if behaviour.label is None else behaviour.label
    return 1 if int(train_target) == wanted else -1


def texts_of(examples: EncodedExamples) -> list[list[int]]:
    kept = examples.inputs.get("mask", examples.inputs.get("weights")) != 0
    texts = [row[own].tolist() for row, own in zip(examples.inputs["ids"], kept, strict=True)]
    return texts


def bm25(query: list[int], document: list[int], documents: list[list[int]]) -> float:
    """The textbook's formula, one word at a time."""
    total, mean_length = 0.0, sum(map(len, documents)) / len(documents)
    for word in query:
        holding = sum(word in other for other in documents)
        rarity = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
        count = document.count(word)
        norm = 1.2 * (0.25 + 0.75 * len(document) / mean_length)
        total += rarity * count * 2.2 / (count + norm)
    return total


def expected(behaviours: list[Behaviour], examples: EncodedExamples, alike) -> np.ndarray:
    """(N, K) from alike(behaviour, probe, i), pair by pair."""
    return np.array(
        [
            [
                sign(one)
                * np.mean(
                    [
                        agreement(one, probe, examples.targets[place]) * alike(one, probe, place)
                        for probe in range(len(one.examples))
                    ]
                )
                for one in behaviours
            ]
            for place in range(len(examples))
        ]
    )


@pytest.mark.parametrize("architecture", TEXTS.values(), ids=TEXTS)
def test_text_overlap_equals_bm25_word_by_word(architecture: dict) -> None:
    run = run_of(architecture)
    behaviours = behaviours_for(run.problem)
    documents = texts_of(run.problem.train)
    if architecture is BAG:  # a unit of a bag counts once
        documents = [sorted(set(text)) for text in documents]
        run = replace(run, problem=replace(run.problem, train=bag_of(documents, run)))

    def alike(behaviour: Behaviour, probe: int, place: int) -> float:
        return bm25(texts_of(behaviour.examples)[probe], documents[place], documents)

    np.testing.assert_allclose(
        scores_of("control_text_overlap", run, behaviours),
        expected(behaviours, run.problem.train, alike),
        rtol=1e-5,
        atol=1e-6,
    )


def bag_of(documents: list[list[int]], run: TrainingRun) -> EncodedExamples:
    ids = torch.zeros(len(documents), 6, dtype=torch.int64)
    weights = torch.zeros(len(documents), 6)
    for row, text in enumerate(documents):
        ids[row, : len(text)] = torch.tensor(text)
        weights[row, : len(text)] = torch.rand(len(text)) + 0.1
    return EncodedExamples({"ids": ids, "weights": weights}, run.problem.train.targets)


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_embedding_similarity_equals_the_cosine_of_each_pair(architecture: dict) -> None:
    run = run_of(architecture)
    behaviours = behaviours_for(run.problem)

    def vector(examples: EncodedExamples, place: int) -> torch.Tensor:
        if "ids" not in examples.inputs:
            return next(iter(examples.inputs.values()))[place].double()
        values = examples.inputs.get("weights", examples.inputs.get("mask"))[place]
        found = torch.zeros(20, dtype=torch.float64)
        for word, value in zip(examples.inputs["ids"][place], values, strict=True):
            found[word] += value.double()
        return found

    def alike(behaviour: Behaviour, probe: int, place: int) -> float:
        pair = vector(behaviour.examples, probe), vector(run.problem.train, place)
        return float(torch.nn.functional.cosine_similarity(*pair, dim=0))

    np.testing.assert_allclose(
        scores_of("control_embedding_similarity", run, behaviours),
        expected(behaviours, run.problem.train, alike),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_loss_and_gradient_norm_equal_a_loop_over_examples(architecture: dict) -> None:
    run = run_of(architecture)
    behaviours = behaviours_for(run.problem)
    network = run.problem.build_network(run.seed).eval()
    losses, norms = [], []
    for place in range(len(run.problem.train)):
        one = run.problem.examples.select(torch.tensor([place]))
        leaf = run.parameters.clone().requires_grad_()
        outputs = torch.func.functional_call(network, run.layout.unflatten(leaf), (), one.inputs)
        loss = LOSSES[run.problem.loss](outputs, one.targets).sum()
        losses.append(float(loss.detach()))
        norms.append(float(torch.autograd.grad(loss, leaf)[0].norm()))
    signs = [sign(one) for one in behaviours]
    for name, values in (("control_loss", losses), ("control_gradient_norm", norms)):
        np.testing.assert_allclose(
            scores_of(name, run, behaviours), np.outer(values, signs), rtol=1e-5, atol=1e-7
        )


def test_random_scores_repeat_and_differ_between_seeds_and_behaviours() -> None:
    run = run_of(MLP)
    first, second, third = scores_of("control_random", run, behaviours_for(run.problem)).T
    again = scores_of("control_random", run, behaviours_for(run.problem))
    other_seed = scores_of("control_random", run_of(MLP, 4), behaviours_for(run.problem))
    np.testing.assert_array_equal(first, again[:, 0])
    assert not np.allclose(np.abs(first), np.abs(second))
    assert not np.allclose(np.abs(second), np.abs(third))
    assert not np.allclose(first, other_seed[:, 0])


@pytest.mark.parametrize("name", CONTROLS)
def test_one_behaviour_at_a_time_and_their_order_change_nothing(name: str) -> None:
    run = run_of(BAG)
    behaviours = behaviours_for(run.problem)
    together = scores_of(name, run, behaviours)
    alone = np.concatenate([scores_of(name, run, [one]) for one in behaviours], 1)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
    turned = scores_of(name, run, behaviours[::-1])
    np.testing.assert_allclose(together, turned[:, ::-1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "control_random"])
def test_examples_in_another_order_get_the_same_scores(name: str) -> None:
    run = run_of(BAG)
    behaviours = behaviours_for(run.problem)
    order = torch.randperm(len(run.problem.train), generator=torch.Generator().manual_seed(1))
    turned = replace(run, problem=replace(run.problem, train=run.problem.train.select(order)))
    np.testing.assert_allclose(
        scores_of(name, turned, behaviours),
        scores_of(name, run, behaviours)[order],
        rtol=1e-5,
        atol=1e-7,
    )


@pytest.mark.parametrize("name", CONTROLS)
def test_the_unit_is_said_to_be_arbitrary_and_the_cost_is_estimated(name: str) -> None:
    run = run_of(TRANSFORMER)
    behaviours = behaviours_for(run.problem)
    method = build_method(name)
    assert method.name == name
    assert "arbitrary" in method.scores([run], behaviours).diagnostics["unit"]
    assert method.estimate_cost(run.problem, 2, behaviours).seconds > 0


def test_text_overlap_of_examples_without_text_is_refused() -> None:
    run = run_of(MLP)
    with pytest.raises(ValueError, match="tokens or units"):
        scores_of("control_text_overlap", run, behaviours_for(run.problem))


def test_an_empty_text_scores_nothing() -> None:
    run = run_of(TRANSFORMER)
    mask = run.problem.train.inputs["mask"].clone()
    mask[4] = False
    emptied = replace(run.problem.train, inputs={**run.problem.train.inputs, "mask": mask})
    run = replace(run, problem=replace(run.problem, train=emptied))
    for name in ("control_text_overlap", "control_embedding_similarity"):
        scores = scores_of(name, run, behaviours_for(run.problem))
        np.testing.assert_array_equal(scores[4], 0)
