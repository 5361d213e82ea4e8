"""A peer gets the same network, weights and behaviours as Hunch; what fails is told in words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.func import functional_call

from benchmarks.language import llama
from benchmarks.peers import launch
from benchmarks.peers.exchange import load_task, save_task
from benchmarks.problems import BenchmarkTask
from tests.training.problems import BAG, CONVOLUTIONAL, MLP, TRANSFORMER, examples_for, problem_of
from workers.influence.behaviours import Behaviour, behaviour_gradients
from workers.influence.linearised import Linearised
from workers.influence.replay import Replay
from workers.training.examples import EncodedExamples
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
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


def language_task() -> tuple[BenchmarkTask, list]:
    """Six short sequences of different lengths to train on, and three to ask about."""
    generator = torch.Generator().manual_seed(0)

    def sequences(number: int) -> EncodedExamples:
        ids = torch.randint(1, 40, (number, 9), generator=generator)
        mask = torch.arange(8) < torch.randint(4, 9, (number, 1), generator=generator)
        targets = torch.where(mask, ids[:, 1:], -100)
        return EncodedExamples({"ids": (ids[:, :-1] * mask).int(), "mask": mask}, targets)

    recipe = Recipe(batch_size=3, epochs=2, learning_rate=0.01, warmup_steps=2, epsilon=1e-6)
    problem = TrainingProblem(llama(40), sequences(6), recipe, "next_token")
    probe = sequences(3)
    places = (torch.arange(3), torch.tensor([1]))
    behaviours = tuple(Behaviour("mean_loss", probe.select(own)) for own in places)
    task = BenchmarkTask("task", problem, behaviours, ("a", "b"), probe, places)
    return task, [train(problem, 1, trajectory=Trajectory())]


@pytest.mark.skipif(not launch.PYTHON.exists(), reason=launch.MISSING)
def test_a_language_models_peer_walks_back_over_the_same_run(tmp_path):
    one, runs = language_task()
    start = {"0": runs[0].trajectory.rows(0)[0].clone()}
    save_file(start, tmp_path / "initial.safetensors")
    given = launch.peer_task(one, runs)
    found = launch.run_peer("bergson, replay", tmp_path, given, among=launch.LANGUAGE)
    assert found.problem is None
    own = Replay().scores(runs, list(one.behaviours)).per_seed
    assert np.corrcoef(found.scores[:, 0].ravel(), own.ravel())[0, 1] > 0.999


@pytest.mark.skipif(not launch.PYTHON.exists(), reason=launch.MISSING)
def test_a_language_models_peer_scores_the_finished_model(tmp_path):
    one, runs = language_task()
    given = launch.peer_task(one, runs)
    found = launch.run_peer("bergson, EK-FAC", tmp_path, given, among=launch.LANGUAGE)
    assert found.problem is None
    assert found.scores.shape == (1, 1, 6, 2)
    gradients = Linearised.of(runs[0]).behaviour_gradients(one.behaviours)
    alike = -Linearised.of(runs[0]).loss_products(gradients).T.numpy()
    assert np.corrcoef(found.scores[0, 0].ravel(), alike.ravel())[0, 1] > 0.3
