"""Training and replay compute on the device that they are told and keep what they find in main
memory. No graphics card is needed here: torch's device “meta” computes shapes alone, and a watcher
of every operation refuses what a card would refuse, to mix its tensors with those of main memory.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.influence.test_behaviours import behaviours_on, problem_of, texts
from workers.influence.behaviours import behaviour_values
from workers.influence.per_token import _TokenWalk
from workers.training import device
from workers.training.device import DeviceError, checked_device
from workers.training.optimizers import build_optimizer
from workers.training.problem import TrainingProblem
from workers.training.program import TrainingProgram
from workers.training.trainer import TrainingRun, full_weights, train
from workers.training.trajectory import Trajectory

CARD, MEMORY = torch.device("meta"), torch.device("cpu")
aten = torch.ops.aten
INDEXED = (aten.index.Tensor,)
"""A card's tensors may be indexed by places that lie in main memory."""


class Card(TorchDispatchMode):
    """Tensors on “meta” lie on a card: they come back by an explicit copy, as zeros."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten._to_copy.default and args[0].device == CARD:
            if kwargs.get("device") == MEMORY:
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            return func(*args, **kwargs)
        if func is not aten._to_copy.default and func is not aten.copy_.default:
            given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
            devices = {one.device for one in given if one.ndim or one.device == CARD}
            if len(devices) > 1 and func not in INDEXED:
                raise RuntimeError(f"{func} is given tensors on two different devices")
        return func(*args, **kwargs)


@pytest.fixture
def on_card():
    with Card():
        yield


def on(problem: TrainingProblem, **recipe) -> TrainingProblem:
    recipe = replace(problem.recipe, precision="float32", **recipe)
    return replace(problem, recipe=recipe, device="meta")


@pytest.mark.parametrize("fields", [{}, {"micro_batch_size": 1}, {"recompute_activations": True}])
@pytest.mark.parametrize("network", ["bytes", "gpt2", "llama", "gpt2 lora"])
def test_steps_and_their_pullback_stay_on_the_device(network, fields, on_card):
    problem = on(problem_of(network), **fields)
    program = TrainingProgram(problem, 0)
    optimizer = build_optimizer(problem.recipe, problem.number_of_steps)
    rows = optimizer.initial_rows(program.parameters)
    program.bind(rows[0])
    trajectory = Trajectory(spacing=1)
    trajectory.begin(problem.number_of_steps, tuple(rows.shape), 4)
    indices = torch.tensor([0, 2])
    batch, weights = problem.examples.select(indices), full_weights(problem, None)[indices]
    gradient, losses = program.gradient(batch, weights)
    optimizer.step(rows, gradient, 0)
    trajectory.record(0, rows, torch.zeros(2, 2))
    assert gradient.device == rows.device == CARD
    assert losses.device == trajectory.rows(0).device == MEMORY
    step = program.differentiate(batch, weights)
    cotangents = optimizer.initial_rows(torch.ones(2, rows.shape[1], device=CARD))
    pulled = optimizer.pullback(rows, step.gradient, cotangents, 0)
    by_parameters, by_weights = step.pull(pulled)
    assert by_parameters.device == by_weights.device == CARD


@pytest.mark.parametrize("network", ["bytes", "llama", "gpt2 lora"])
def test_a_walk_back_computes_on_the_device_and_keeps_its_scores_in_main_memory(network, on_card):
    problem = on(problem_of(network))
    walk = _TokenWalk(recorded_states(problem), behaviours_on(texts(4, 3)), [0, 1], 1e4)
    assert walk.cotangents.device == CARD
    states = walk._states(0, 2)
    walk.step = 1
    walk._walk_step(states.pop())
    assert walk.cotangents.device == CARD
    assert walk.scores.device == walk.token_scores.device == MEMORY


def recorded_states(problem: TrainingProblem) -> TrainingRun:
    """A run without numbers, whose states are all recorded."""
    program = TrainingProgram(problem, 3)
    rows = build_optimizer(problem.recipe, 1).initial_rows(program.parameters.cpu())
    trajectory = Trajectory(spacing=1)
    trajectory.begin(problem.number_of_steps, tuple(rows.shape), 4)
    for step in range(problem.number_of_steps + 1):
        trajectory.record(step, rows, torch.zeros(2, 2))
    return TrainingRun(problem, 3, None, rows[0], program.layout, (), trajectory)


def test_behaviours_are_measured_on_the_device(on_card):
    problem = on(problem_of("llama"))
    program = TrainingProgram(problem, 0)
    behaviours = [one for one in behaviours_on(texts(4, 3)) if one.prompts is None]
    found = behaviour_values(behaviours, program.network, program.layout, program.parameters.cpu())
    assert found.device == MEMORY


def test_the_forward_pass_is_rounded_where_the_recipe_asks_and_weights_are_not():
    problem = problem_of("gpt2")
    mixed = replace(problem, recipe=replace(problem.recipe, precision="mixed_bfloat16"))
    program = TrainingProgram(mixed, 0)
    seen: list[torch.dtype] = []
    program.network.register_forward_hook(lambda *parts: seen.append(parts[2].dtype))
    gradient, losses = program.gradient(problem.train.select(torch.tensor([0])), torch.ones(1))
    assert seen == [torch.bfloat16]
    assert gradient.dtype == losses.dtype == program.parameters.dtype == torch.float32


def test_the_device_is_no_part_of_what_is_trained():
    problem = problem_of("bytes")
    assert replace(problem, device="cuda:0").fingerprint == problem.fingerprint
    run = train(replace(problem, device="cpu"), 1)
    assert run.parameters.device == MEMORY


def test_the_processor_is_always_there():
    assert checked_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "mps", "CPU", ""])
def test_an_unknown_device_is_refused_by_the_settings_name(name):
    with pytest.raises(DeviceError, match="HUNCH_DEVICE"):
        checked_device(name)


def test_a_card_that_is_not_there_is_refused_in_words(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="finds no CUDA device"):
        checked_device("cuda")
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="has 1 CUDA devices"):
        checked_device("cuda:1")


def test_a_card_is_asked_to_repeat_its_sums(monkeypatch):
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert checked_device("cuda:1") == "cuda:1"
    assert device.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


def test_mixing_devices_would_be_noticed(on_card):
    """The fake card is as strict as the tests above need it to be."""
    with pytest.raises(RuntimeError, match="two different devices"):
        torch.ones(2, device=CARD) @ torch.ones(2)
