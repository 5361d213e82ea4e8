"""Similarity of gradients equals a loop over examples with plain autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.influence.test_replay import behaviours_for
from tests.training.problems import ARCHITECTURES, problem_of
from workers.influence.linearised import Linearised
from workers.influence.registry import build_method
from workers.training.losses import LOSSES
from workers.training.trainer import train


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_dot_and_cosine_equal_a_loop_over_examples(architecture: dict) -> None:
    run = train(problem_of(architecture), 3)
    behaviours = behaviours_for(run.problem)
    at = Linearised.of(run)
    rows = []
    for place in range(len(at.train)):
        one = at.train.select(torch.tensor([place]))
        leaf = at.parameters.clone().requires_grad_()
        loss = LOSSES[run.problem.loss](at.outputs(one.inputs, leaf), one.targets).sum()
        rows.append(torch.autograd.grad(loss, leaf)[0])
    own, wanted = torch.stack(rows), at.behaviour_gradients(behaviours)
    dot = own @ wanted.T
    cosine = torch.nn.functional.cosine_similarity(own[:, None], wanted[None], dim=2)
    for name, expected in (("gradient_dot", -dot / at.denominator), ("gradient_cosine", -cosine)):
        scores = build_method(name).scores([run], behaviours)
        np.testing.assert_allclose(scores.per_seed[0], expected, rtol=1e-5, atol=1e-7)
        assert "arbitrary" in scores.diagnostics["unit"]
