"""Signals of wrong labels: planted errors stand out, and held-out means held out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.problems import LANGUAGE_MODEL, MLP, RIDGE, problem_of
from workers.evidence.label_errors import rank_label_errors
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
    order = rank_label_errors(signals.by_name()).order
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
