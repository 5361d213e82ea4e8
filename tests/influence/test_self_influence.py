"""Self-influence is TracIn's influence of an example on its own loss; loss and confidence of each
example agree with the probabilities that the network gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.problems import ARCHITECTURES, LANGUAGE_MODEL, MLP, RIDGE, problem_of
from workers.influence.behaviours import Behaviour
from workers.influence.linearised import Linearised
from workers.influence.registry import build_method
from workers.influence.self_influence import MOST_CHECKPOINTS, self_influence, sparse_trajectory
from workers.training.evaluation import evaluate, losses_and_confidences
from workers.training.trainer import TrainingRun, train


def recorded(architecture: dict, **recipe: object) -> TrainingRun:
    problem = problem_of(architecture, **recipe)
    return train(problem, 3, trajectory=sparse_trajectory(problem))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_it_is_minus_the_influence_of_an_example_on_its_own_loss(
    architecture: dict, optimizer: str
) -> None:
    run = recorded(architecture, optimizer=optimizer, schedule="linear")
    each = [
        Behaviour("mean_loss", run.problem.train.select(torch.tensor([place])))
        for place in range(len(run.problem.train))
    ]
    method = build_method("checkpoints", most_checkpoints=MOST_CHECKPOINTS)
    own = -np.diagonal(method.scores([run], each).per_seed[0])
    np.testing.assert_allclose(self_influence(run).numpy(), own, rtol=1e-5, atol=1e-9)


def test_an_example_that_nothing_else_teaches_has_most_of_it() -> None:
    problem = problem_of(MLP, 40, epochs=30)
    features = torch.randn(3, 5, generator=torch.Generator().manual_seed(5)) * 3
    classes = torch.arange(40) % 3
    problem.train.inputs["features"][:] = features[classes]
    problem.train.targets[:] = classes
    problem.train.targets[7] = (classes[7] + 1) % 3
    run = train(problem, 3, trajectory=sparse_trajectory(problem))
    assert int(self_influence(run).argmax()) == 7


def test_progress_ends_at_its_total_and_may_stop_the_work() -> None:
    run, seen = recorded(MLP), []
    self_influence(run, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        self_influence(run, stop)


def test_a_run_without_trajectory_is_refused() -> None:
    with pytest.raises(ValueError, match="trajectory"):
        self_influence(train(problem_of(MLP), 3))


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_mean_of_the_losses_is_the_baselines_metric(architecture: dict) -> None:
    run = train(problem_of(architecture), 3)
    losses, _ = losses_and_confidences(run, run.problem.train)
    assert float(losses.mean()) == pytest.approx(evaluate(run, run.problem.train)["loss"])


def test_confidence_is_the_probability_of_the_labelled_class() -> None:
    run = train(problem_of(MLP), 3)
    _, confidences = losses_and_confidences(run, run.problem.train)
    outputs = Linearised.of(run).outputs(run.problem.examples.inputs)
    expected = outputs.softmax(1)[torch.arange(10), run.problem.train.targets]
    torch.testing.assert_close(confidences, expected)


def test_confidence_of_a_text_is_the_mean_probability_of_its_own_tokens() -> None:
    run = train(problem_of(LANGUAGE_MODEL), 3)
    run.problem.train.targets[4] = -100
    _, confidences = losses_and_confidences(run, run.problem.train)
    outputs = Linearised.of(run).outputs(run.problem.examples.inputs).softmax(2)
    for place, targets in enumerate(run.problem.train.targets):
        own = [float(outputs[place, at, one]) for at, one in enumerate(targets) if one >= 0]
        if not own:
            assert torch.isnan(confidences[place])
            continue
        assert float(confidences[place]) == pytest.approx(np.mean(own))


def test_a_regression_has_no_confidence_and_an_empty_split_no_numbers() -> None:
    run = train(problem_of(RIDGE), 3)
    assert losses_and_confidences(run, run.problem.train)[1] is None
    losses, _ = losses_and_confidences(run, run.problem.train.select(torch.arange(0)))
    assert len(losses) == 0
