"""The distance an optimizer moves each parameter, and how an edit changes it: checked against the
distances of real retrains, homogeneity and finite differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

from workers.influence.behaviours import Behaviour
from workers.influence.edit_aware import linearise
from workers.influence.step_metric import MetricChange, metric_change, step_metric
from workers.training.examples import EncodedExamples
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory


class EachParameter:
    """Coordinates that are the parameters themselves."""

    def average(self, values: torch.Tensor, importance: torch.Tensor) -> torch.Tensor:
        return values


def wine(optimizer: str = "adamw") -> TrainingProblem:
    data = load_wine()
    order = np.random.default_rng(0).permutation(len(data.target))[:120]
    inputs = torch.tensor(data.data[order], dtype=torch.float64)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    return TrainingProblem(
        {"name": "mlp", "hidden": [8], "number_of_features": 13, "number_of_outputs": 3},
        EncodedExamples({"features": inputs}, torch.tensor(data.target[order])),
        Recipe(
            optimizer=optimizer,
            learning_rate=5e-3,
            batch_size=10,
            epochs=8,
            weight_decay=0.0,
            epsilon=1e-12,
            precision="float64",
        ),
        "cross_entropy",
    )


@pytest.fixture(scope="module")
def run() -> TrainingRun:
    return train(wine(), 0, trajectory=Trajectory())


@pytest.fixture(scope="module")
def change(run: TrainingRun) -> MetricChange:
    found = metric_change(run, EachParameter())
    assert found is not None
    return found


def test_sgd_moves_by_the_gradient_alone_whatever_the_weights():
    recorded = train(wine("sgd"), 0, trajectory=Trajectory())
    assert metric_change(recorded, EachParameter()) is None
    steps, rate, momentum = recorded.problem.number_of_steps, 5e-3, 0.9
    expected = steps * rate / (1 - momentum)
    torch.testing.assert_close(
        step_metric(recorded), torch.full_like(recorded.parameters, expected)
    )


def test_a_constant_factor_on_all_weights_shortens_every_step_by_that_factor(change):
    # √v is homogeneous of degree 1 in the weights, so its derivatives at 1 sum to 1.
    torch.testing.assert_close(
        change.slopes.sum(0),
        torch.ones(change.slopes.shape[1], dtype=torch.float64),
        rtol=1e-3,
        atol=1e-3,
    )


def test_the_slopes_are_the_derivatives_of_the_factor(change):
    indices = torch.tensor([3, 50, 70])
    step = 1e-6
    for place in range(3):
        weights = torch.ones(3, dtype=torch.float64)
        weights[place] += step
        numeric = (change.factor(indices, weights) - 1) / step
        torch.testing.assert_close(numeric, change.slopes[indices[place]], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_the_factor_foresees_how_far_the_edited_run_moves_each_parameter(run, change, weight):
    """Against step_metric of a real retrain with the edited weights."""
    sizes = change.squares.sum(1)
    indices = sizes.argsort(descending=True)[:12]
    weights = torch.ones(120, dtype=torch.float64)
    weights[indices] = weight
    retrained = train(run.problem, 0, weights, trajectory=Trajectory())
    actual = (step_metric(run) / step_metric(retrained)).log()
    predicted = change.factor(indices, weights[indices]).log()
    # Single parameters are noisy (one run sees each example eight times); size and scale are not.
    assert float(predicted.median()) == pytest.approx(float(actual.median()), rel=0.1)
    scale = float((actual * predicted).sum() / predicted.square().sum())
    assert 0.7 < scale < 1.3


@pytest.mark.parametrize("features", [1024, 40])
def test_with_adamw_the_first_step_is_the_scores_sum_and_a_tiny_edits_optimum(run, features):
    behaviours = [Behaviour("mean_margin", run.problem.train.select(torch.arange(20)))]
    network = linearise(run, behaviours, features)
    indices = torch.arange(30, 60)
    change = torch.linspace(-1, 1, 30, dtype=torch.float64)
    first, _ = network.responses(indices, 1 + change)
    torch.testing.assert_close(first, change @ network.scores()[indices])
    first, optimum = network.responses(indices, 1 + 1e-4 * change)
    torch.testing.assert_close(first, optimum, rtol=2e-2, atol=1e-9)


def test_the_metric_is_independent_of_how_examples_are_ordered(run, change):
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(120, generator=generator)
    shuffled = replace(run, problem=replace(run.problem, train=run.problem.train.select(order)))
    found = metric_change(shuffled, EachParameter())
    assert found is not None
    torch.testing.assert_close(found.squares, change.squares[order])
    torch.testing.assert_close(found.means, change.means[order])
