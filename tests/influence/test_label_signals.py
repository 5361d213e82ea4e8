"""Signals of wrong labels: planted errors stand out, and held-out means held out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.problems import BAG, LANGUAGE_MODEL, MLP, RIDGE, problem_of
from workers.evidence.label_errors import rank_label_errors, signal_weights
from workers.influence.feature_signals import (
    last_features,
    linear_model_loss,
    neighbour_disagreement,
)
from workers.influence.label_signals import NoLabels, label_signals
from workers.training.examples import EncodedExamples
from workers.training.trainer import train


def learnable(number=120, wrong=8):
    """Three classes told apart by the features; the first `wrong` labels are false."""
    problem = problem_of(MLP, number, epochs=8, batch_size=16, precision="float32")
    features = problem.train.inputs["features"]
    targets = features[:, :3].argmax(1)
    targets[:wrong] = (targets[:wrong] + 1) % 3
    return replace(problem, train=EncodedExamples({"features": features}, targets))


def test_planted_label_errors_come_first():
    signals = label_signals(learnable(), [0, 1])
    named = signals.by_name()
    for weights in (None, signal_weights(named)):
        order = rank_label_errors(named, weights).order
        assert np.isin(np.arange(8), order[:20]).mean() >= 0.75
    assert signals.held_out_outputs.shape == (120, 3)
    np.testing.assert_allclose(signals.held_out_outputs.sum(1), 1, rtol=1e-5)


def test_an_examples_own_label_does_not_reach_its_held_out_outputs():
    problem = learnable()
    changed = problem.train.targets.clone()
    changed[50] = (changed[50] + 1) % 3
    other = replace(problem, train=EncodedExamples(problem.train.inputs, changed))
    first, second = (label_signals(one, [0]).held_out_outputs for one in (problem, other))
    np.testing.assert_allclose(first[50], second[50], atol=1e-6)
    assert not np.allclose(first, second, atol=1e-4)


def test_self_influence_is_the_squared_gradient_times_the_learning_rate():
    problem = problem_of(MLP, 8, epochs=1, batch_size=8)
    found = label_signals(problem, [0], folds=2).self_influence[0]
    run = train(problem, 0)
    network = problem.build_network(0)
    parameters = {
        name: value.requires_grad_() for name, value in run.layout.unflatten(run.parameters).items()
    }
    examples = problem.examples.select(torch.tensor([3]))
    outputs = torch.func.functional_call(network, parameters, (), examples.inputs)
    loss = torch.nn.functional.cross_entropy(outputs, examples.targets)
    squares = sum(
        float(one.square().sum()) for one in torch.autograd.grad(loss, list(parameters.values()))
    )
    assert found[3] == pytest.approx(problem.recipe.learning_rate * squares, rel=1e-6)


def test_regression_has_no_margin_and_texts_without_labels_are_refused():
    assert "margin" not in label_signals(problem_of(RIDGE, 12), [0]).by_name()
    with pytest.raises(NoLabels):
        label_signals(problem_of(LANGUAGE_MODEL, 10), [0])


def test_neighbours_and_linear_model_find_labels_that_features_contradict():
    problem = learnable(wrong=6)
    features, labels = problem.train.inputs["features"], problem.train.targets
    everyone = np.arange(120)
    for suspicion in (
        neighbour_disagreement(features, labels, everyone, everyone),
        linear_model_loss(features, labels, 5),
    ):
        assert np.isin(np.argsort(-suspicion)[:18], everyone[:6]).sum() >= 5


def test_neighbours_are_the_nearest_other_references():
    features = torch.tensor([[1.0, 0], [1, 0.1], [1, 0.2], [0, 1], [0.1, 1]])
    labels = torch.tensor([0, 1, 0, 1, 1])
    found = neighbour_disagreement(features, labels, np.array([0]), np.arange(5))
    cosine = torch.nn.functional.normalize(features, dim=1) @ torch.tensor([1.0, 0])
    weights = cosine[1:].numpy()
    assert found[0] == pytest.approx(
        weights[labels[1:].numpy() == 1].sum() / weights.sum(), abs=1e-6
    )
    nobody = neighbour_disagreement(features, labels, np.array([0]), np.array([0]))
    assert nobody[0] == 0


def test_neighbours_of_a_number_are_compared_with_their_mean():
    features = torch.ones(4, 2)
    targets = torch.tensor([3.0, 0.0, 2.0, 4.0])
    found = neighbour_disagreement(features, targets, np.array([0]), np.array([1, 2, 3]))
    assert found[0] == pytest.approx(1.0)


def test_the_linear_model_does_not_see_the_label_that_it_judges():
    problem = learnable()
    features, labels = problem.train.inputs["features"], problem.train.targets
    changed = labels.clone()
    changed[50] = (changed[50] + 1) % 3
    first, second = (linear_model_loss(features, own, 5) for own in (labels, changed))
    chances = np.exp(-first[50]) + np.exp(-second[50])
    assert chances <= 1 + 1e-9
    assert not np.allclose(first, second, atol=1e-4)


def test_features_of_any_network_enter_its_last_layer():
    problem = learnable()
    network = problem.build_network(0)
    with last_features(network) as found, torch.no_grad():
        outputs = network(**problem.train.inputs)
    layer = network.output
    assert torch.allclose(layer(found[0]), outputs)
    network(**problem.train.inputs)
    assert len(found) == 1


def test_without_features_neighbours_come_from_models_trained_without_the_example():
    problem = problem_of(BAG, 30, epochs=2, batch_size=10, precision="float32")
    alone = label_signals(problem, [0, 1])
    assert alone.neighbours.shape == (2, 30)
    assert "linear_model" not in alone.by_name()
    assert "self_influence" not in signal_weights(alone.by_name())
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    helped = label_signals(problem, [0, 1], features=features)
    assert helped.neighbours.shape == helped.linear_model.shape == (1, 30)
    np.testing.assert_array_equal(helped.margin, alone.margin)
