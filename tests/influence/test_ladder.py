"""The rungs of the ladder: equal where the model is linear, apart where it is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.problems import MLP, RIDGE, SOFTMAX, examples_for, problem_of
from workers.evidence.ladder import RUNGS, climb
from workers.influence.behaviours import Behaviour
from workers.influence.curvature import Curvature
from workers.influence.ladder import exact_step, measure_rungs
from workers.influence.leave_one_out import linear_optimum
from workers.influence.linearised import Linearised
from workers.influence.response import continued, proximal_response
from workers.training.trainer import train

ALL_RUNGS = [rung.name for rung in RUNGS]


def converged_ridge(number=40):
    """Ridge regression, trained by full-batch gradient descent until nothing moves."""
    return problem_of(
        RIDGE,
        number,
        optimizer="sgd",
        momentum=0.0,
        learning_rate=0.1,
        weight_decay=0.05,
        batch_size=number,
        epochs=600,
    )


def slight_edit(number, shift=-1e-4):
    """Small enough that second-order terms vanish, so that the rungs must agree."""
    weights = torch.ones(number)
    weights[:3] += shift
    return weights


def behaviour_of(architecture, number=12):
    return Behaviour("mean_loss", examples_for(architecture, number, seed=5))


def test_on_ridge_regression_all_rungs_agree():
    problem = converged_ridge()
    runs = [train(problem, seed) for seed in (0, 1)]
    found = measure_rungs(
        runs, slight_edit(40), [behaviour_of(RIDGE)], fresh_seeds=[2, 3], damping=1e-9
    )
    assert list(found.effects) == ALL_RUNGS
    # The behaviour is quadratic and weights are float32, hence a thousandth.
    effects = np.concatenate(list(found.effects.values()))
    np.testing.assert_allclose(effects, effects.mean(), rtol=1e-3)
    assert found.notes == ()


def test_on_a_perceptron_the_rungs_part():
    problem = problem_of(MLP, 30, learning_rate=0.05, epochs=30)
    weights = torch.ones(30)
    weights[:8] = 0
    found = measure_rungs([train(problem, 0)], weights, [behaviour_of(MLP)], fresh_seeds=[7, 8, 9])
    ladder = climb(found.means(0), found.standard_errors(0))
    assert [gap.upper for gap in ladder.gaps] == ALL_RUNGS[1:]
    assert ladder.gaps[0].share < 0.01  # curvature solves this size exactly
    assert sum(gap.share > 0.02 for gap in ladder.gaps) >= 3
    assert ladder.difference == pytest.approx(sum(gap.amount for gap in ladder.gaps))


@pytest.mark.parametrize("architecture", [SOFTMAX, MLP], ids=["softmax", "mlp"])
def test_the_proximal_response_starts_as_the_exact_solve(architecture):
    problem = problem_of(architecture, 20, epochs=5)
    at = Linearised.of(train(problem, 0))
    weights = slight_edit(20, -1e-3).double()
    response = proximal_response(at, weights, 0.1, lambda: None)
    assert response.converged
    moved = response.parameters - at.parameters
    step = exact_step(at, weights, 0.1)
    assert float((moved - step).norm() / step.norm()) < 5e-3


def test_without_an_edit_the_proximal_response_stays():
    at = Linearised.of(train(problem_of(MLP, 20), 0))
    response = proximal_response(at, torch.ones(20, dtype=torch.float64), 0.1, lambda: None)
    torch.testing.assert_close(response.parameters, at.parameters, rtol=0, atol=1e-9)


def test_continued_training_reaches_the_known_minimum_of_a_convex_problem():
    problem = problem_of(
        SOFTMAX, 20, optimizer="sgd", weight_decay=0.1, epochs=2, learning_rate=0.1
    )
    at = Linearised.of(train(problem, 0))
    weights = torch.ones(20, dtype=torch.float64)
    found = continued(at, weights, 0.1, lambda: None)
    features = problem.train.inputs["features"].double()
    design = torch.cat([features, torch.ones(20, 1, dtype=torch.float64)], 1)
    optimum = linear_optimum(design, problem.train.targets, 3, 0.1, 20.0).parameters
    named = at.layout.unflatten(found.parameters)
    weight = next(tensor for tensor in named.values() if tensor.ndim == 2)
    torch.testing.assert_close(weight, optimum[:, :-1], rtol=1e-4, atol=1e-5)


def test_the_exact_solve_is_what_curvature_scores_say():
    problem = problem_of(MLP, 20)
    run = train(problem, 0)
    weights = torch.ones(20)
    weights[[2, 5]] = torch.tensor([0.0, 3.0])
    at = Linearised.of(run)
    behaviour = behaviour_of(MLP)
    scores = Curvature(damping=0.01).scores([run], [behaviour]).per_seed[0, :, 0]
    effect = at.behaviour_gradients([behaviour])[0] @ exact_step(at, weights.double(), 0.01)
    assert float(effect) == pytest.approx(float((weights - 1).numpy() @ scores), rel=1e-4)


def test_progress_never_goes_back_and_may_stop_the_work():
    problem = problem_of(MLP, 10)
    seen = []

    def progress(done, total):
        seen.append(done)
        assert done <= total

    measure_rungs(
        [train(problem, 0)],
        slight_edit(10),
        [behaviour_of(MLP)],
        fresh_seeds=[4],
        progress=progress,
    )
    assert seen == sorted(seen)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_rungs([train(problem, 0)], slight_edit(10), [behaviour_of(MLP)], progress=stop)


def test_edited_runs_are_refused():
    problem = problem_of(MLP, 10)
    run = train(problem, 0, torch.full((10,), 0.5))
    with pytest.raises(ValueError, match="unedited"):
        measure_rungs([run], slight_edit(10), [behaviour_of(MLP)])
    with pytest.raises(ValueError, match="10 weights"):
        measure_rungs([replace(run, weights=None)], torch.ones(3), [behaviour_of(MLP)])
