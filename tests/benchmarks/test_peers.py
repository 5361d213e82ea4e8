"""A peer gets the same network, weights and behaviours as Hunch; what fails is told in words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call

from benchmarks.peers import launch
from benchmarks.peers.exchange import load_task, save_task
from benchmarks.problems import BenchmarkTask
from tests.training.problems import BAG, CONVOLUTIONAL, MLP, TRANSFORMER, examples_for, problem_of
from workers.influence.behaviours import Behaviour, behaviour_gradients
from workers.influence.linearised import Linearised
from workers.training.trainer import train
from workers.training.trajectory import Trajectory

NETWORKS = {"mlp": MLP, "convolutional": CONVOLUTIONAL, "bag": BAG, "transformer": TRANSFORMER}


def task_of(architecture: dict) -> tuple[BenchmarkTask, list]:
    problem = problem_of(architecture, precision="float32")
    probe = examples_for(architecture, 9, seed=1)
    places = (torch.arange(9), torch.tensor([1, 4, 5]), torch.tensor([0, 8]))
    kinds = ("mean_loss", "mean_margin", "mean_loss")
    behaviours = tuple(
        Behaviour(kind, probe.select(own)) for kind, own in zip(kinds, places, strict=True)
    )
    task = BenchmarkTask("task", problem, behaviours, ("a", "b", "c"), probe, places)
    return task, [train(problem, seed, trajectory=Trajectory()) for seed in (1, 2)]


@pytest.mark.parametrize("architecture", NETWORKS.values(), ids=NETWORKS)
def test_a_peer_sees_the_trained_network_made_of_standard_layers(architecture, tmp_path):
    one, runs = task_of(architecture)
    save_task(tmp_path, launch.peer_task(one, runs))
    given = load_task(tmp_path)
    inputs = one.problem.train.inputs
    for place, run in enumerate(runs):
        network = one.problem.build_network(run.seed)
        expected = functional_call(network, run.layout.unflatten(run.parameters), (), inputs)
        found = given.network(place)(*inputs.values())
        torch.testing.assert_close(found, expected)
    assert any(isinstance(module, torch.nn.Linear) for module in given.network(0).modules())


def test_behaviours_are_put_together_from_probe_examples(tmp_path):
    one, runs = task_of(MLP)
    save_task(tmp_path, launch.peer_task(one, runs))
    given = load_task(tmp_path)
    at = Linearised.of(runs[0])
    tables = []
    for probes in given.probes:
        alone = [
            Behaviour(probes.kind, probes.examples.select(torch.tensor([place])))
            for place in range(len(probes.examples))
        ]
        gradients = behaviour_gradients(alone, at.network, at.layout, at.parameters)
        tables.append(at.loss_products(gradients))
    expected = at.loss_products(at.behaviour_gradients(one.behaviours))
    torch.testing.assert_close(given.behaviour_rows(tables), expected)


def test_a_missing_environment_is_told_in_words(tmp_path, monkeypatch):
    one, runs = task_of(MLP)
    monkeypatch.setattr(launch, "PYTHON", tmp_path / "python")
    found = launch.run_peer("kronfluence, EK-FAC", tmp_path, launch.peer_task(one, runs))
    assert found.scores is None
    assert found.problem == launch.MISSING


@pytest.mark.skipif(not launch.PYTHON.exists(), reason=launch.MISSING)
@pytest.mark.parametrize("name", ["kronfluence, EK-FAC", "captum, TracIn", "dattri, EK-FAC"])
def test_a_peers_scores_have_the_sign_and_shape_of_hunchs(name, tmp_path):
    one, runs = task_of(MLP)
    found = launch.run_peer(name, tmp_path, launch.peer_task(one, runs), first_only=True)
    assert found.problem is None
    assert found.scores.shape == (2, 1, 10, 3)
    at = Linearised.of(runs[0])
    gradient_products = -at.loss_products(at.behaviour_gradients(one.behaviours)).T.numpy()
    agreement = np.corrcoef(found.scores[0, 0].ravel(), gradient_products.ravel())[0, 1]
    assert agreement > 0.1


def test_a_peer_that_fails_says_why(tmp_path):
    one, runs = task_of(MLP)
    given = launch.peer_task(one, runs)
    if not launch.PYTHON.exists():
        pytest.skip(launch.MISSING)
    found = launch.run_peer(
        "dattri, EK-FAC", tmp_path, replace(given, parameters=given.parameters * torch.nan)
    )
    assert found.scores is None
    assert found.problem
