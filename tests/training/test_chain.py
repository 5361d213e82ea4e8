"""The written-out derivatives of chain networks equal those of autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.training.problems import BAG, CONVOLUTIONAL, MLP, RIDGE, SOFTMAX, TRANSFORMER, problem_of
from workers.training.chain import Chain
from workers.training.program import TrainingProgram

CHAINS = {
    "softmax": SOFTMAX,
    "ridge": RIDGE,
    "deep mlp": {**MLP, "hidden": [6, 7]},
    "tanh mlp": {**MLP, "activation": "tanh"},
    "silu mlp": {**MLP, "activation": "silu"},
    "softplus mlp": {**MLP, "activation": "softplus"},
    "bag": BAG,
    "bag without hidden layer": {**BAG, "hidden": 0},
    "convolutional": CONVOLUTIONAL,
    "convolutional, odd image": {**CONVOLUTIONAL, "image_shape": [4, 3, 3], "channels": [2, 3, 4]},
}


def program_of(architecture: dict, seed: int = 0) -> TrainingProgram:
    return TrainingProgram(problem_of(architecture), seed)


def chain_in(program: TrainingProgram) -> Chain:
    assert program.chain is not None
    return program.chain


@pytest.mark.parametrize("architecture", CHAINS.values(), ids=CHAINS)
def test_second_derivatives_equal_autograds(architecture: dict) -> None:
    program = program_of(architecture)
    batch = program.problem.examples.select(torch.tensor([1, 4, 5]))
    weights = torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    for number in (1, 3):
        directions = torch.randn(
            number, len(program.parameters), generator=generator, dtype=torch.float64
        )
        expected = program.differentiate_by_autograd(batch, weights)
        gradient, pull = chain_in(program).differentiate(program.parameters, batch, weights)
        torch.testing.assert_close(gradient, expected.gradient)
        for found, wanted in zip(pull(directions), expected.pull(directions), strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("architecture", CHAINS.values(), ids=CHAINS)
def test_gradients_of_several_runs_equal_autograds(architecture: dict) -> None:
    programs = [program_of(architecture, seed) for seed in (0, 1, 2)]
    theta = torch.stack([program.parameters for program in programs])
    weights = torch.rand(3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    indices = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 7], [9, 8, 0, 2]])
    examples = programs[0].problem.examples
    for own in (indices, indices[:1].expand(3, -1)):
        expected = torch.stack(
            [
                program.gradient(examples.select(row), weight)[0]
                for program, row, weight in zip(programs, own, weights, strict=True)
            ]
        )
        shared = own[0] if (own[0] == own[1]).all() else own
        found = torch.empty_like(theta)
        chain_in(programs[0]).gradient(theta, examples.select(shared), weights, found)
        torch.testing.assert_close(found, expected)


def test_other_networks_are_no_chains() -> None:
    assert program_of(TRANSFORMER).chain is None
    problem = problem_of(MLP)
    partly = replace(problem)
    network = partly.build_network(0)
    network.get_parameter("output.bias").requires_grad_(False)
    object.__setattr__(partly, "build_network", lambda seed: network)
    assert TrainingProgram(partly, 0).chain is None
