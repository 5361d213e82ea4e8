"""Edit-aware prediction: exact where the network is linear, first order for tiny edits, and nearer
to real retrains than first order for the edits that people make."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from workers.influence.behaviours import Behaviour, behaviour_values
from workers.influence.edit_aware import NotEditAware, linearise, prepare
from workers.influence.replay import Replay
from workers.influence.step_metric import step_metric
from workers.training.batched import train_many
from workers.training.examples import EncodedExamples
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

CLASSES, FEATURES = 10, 64


def digits(labels_wrong: float = 0.1) -> tuple[TrainingProblem, list[Behaviour]]:
    data = load_digits()
    generator = np.random.default_rng(0)
    order = generator.permutation(len(data.target))[:700]
    inputs = torch.tensor(data.data[order] / 16 - 0.3, dtype=torch.float32)
    labels = torch.tensor(data.target[order])
    noisy = labels[:500].clone()
    wrong = torch.tensor(generator.random(500) < labels_wrong)
    noisy[wrong] = torch.tensor(generator.integers(0, CLASSES, int(wrong.sum())))
    problem = TrainingProblem(
        {"name": "mlp", "hidden": [32], "number_of_features": FEATURES, "number_of_outputs": 10},
        EncodedExamples({"features": inputs[:500]}, noisy),
        Recipe(
            optimizer="sgd",
            learning_rate=0.05,
            batch_size=50,
            epochs=15,
            schedule="linear",
            weight_decay=0.0,
        ),
        "cross_entropy",
    )
    probe = EncodedExamples({"features": inputs[500:]}, labels[500:])
    behaviours = [
        Behaviour("mean_margin", probe.select((probe.targets == label).nonzero()[:, 0]))
        for label in range(4)
    ]
    return problem, behaviours


@pytest.fixture(scope="module")
def trained() -> tuple[TrainingProblem, list[Behaviour], list[TrainingRun]]:
    problem, behaviours = digits()
    runs = [train(problem, seed, trajectory=Trajectory()) for seed in range(2)]
    return problem, behaviours, runs


@pytest.fixture(scope="module")
def estimator(trained):
    _, behaviours, runs = trained
    return prepare(runs, behaviours, Replay().scores(runs, behaviours))


def linear_regression() -> tuple[TrainingRun, Behaviour, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    targets = inputs @ torch.randn(5, generator=generator, dtype=torch.float64)
    targets += 0.3 * torch.randn(40, generator=generator, dtype=torch.float64)
    problem = TrainingProblem(
        {"name": "linear_regression", "number_of_features": 5, "number_of_outputs": 1},
        EncodedExamples({"features": inputs}, targets),
        Recipe(
            optimizer="sgd",
            learning_rate=0.05,
            batch_size=40,
            epochs=30,
            weight_decay=0.0,
            precision="float64",
        ),
        "squared_error",
    )
    behaviour = Behaviour("mean_loss", EncodedExamples({"features": inputs[:7]}, targets[:7]))
    return train(problem, 0, trajectory=Trajectory()), behaviour, inputs


def test_on_linear_regression_the_optimum_is_the_closed_form_of_the_proximal_problem():
    run, behaviour, inputs = linear_regression()
    network = linearise(run, [behaviour])
    indices, weights = torch.arange(10), torch.zeros(10, dtype=torch.float64)
    _, optimum = network.responses(indices, weights)
    design = torch.cat([inputs, torch.ones(40, 1, dtype=torch.float64)], 1)
    names = run.layout.names
    theta = run.layout.unflatten(run.parameters)
    order = [next(n for n in names if "weight" in n), next(n for n in names if "bias" in n)]
    flat = torch.cat([theta[name].reshape(-1) for name in order])
    residual = design @ flat - run.problem.train.targets
    all_weights = torch.ones(40, dtype=torch.float64)
    all_weights[:10] = 0
    metric = float(step_metric(run)[0])
    matrix = 2 * (design * all_weights[:, None]).T @ design / 40 + torch.eye(6) / metric
    moved = 2 * design.T @ (residual * (all_weights - 1)) / 40
    delta = -torch.linalg.solve(matrix, moved)
    gradient = 2 * design[:7].T @ residual[:7] / 7
    assert float(optimum[0]) == pytest.approx(float(gradient @ delta), rel=1e-2)


def test_a_tiny_edit_is_answered_to_first_order(estimator):
    indices = np.arange(20)
    tiny = estimator.predict(indices, np.full(20, 1 - 1e-3))
    first_order = -1e-3 * estimator.scores[:, indices].sum(1)
    np.testing.assert_allclose(tiny, first_order, rtol=0.02, atol=1e-6)


def test_weights_that_change_nothing_predict_nothing_and_order_does_not_matter(estimator):
    generator = np.random.default_rng(1)
    indices, weights = generator.permutation(500)[:30], generator.choice([0.0, 3.0], 30)
    assert np.abs(estimator.predict(indices, np.ones(30))).max() < 1e-9
    shuffled = generator.permutation(30)
    np.testing.assert_allclose(
        estimator.predict(indices, weights),
        estimator.predict(indices[shuffled], weights[shuffled]),
        rtol=1e-3,
        atol=1e-5,
    )


def test_the_linearised_networks_own_scores_agree_with_replay(estimator):
    assert np.median(estimator.agreement) > 0.9


@pytest.mark.parametrize(("weight", "sign"), [(0.0, 1), (3.0, -1)])
def test_it_is_nearer_to_real_retrains_of_targeted_edits_than_first_order(
    trained, estimator, weight, sign
):
    problem, behaviours, _ = trained
    seeds = list(range(50, 56))
    network = problem.build_network(0)
    layout = ParameterLayout.of(network)

    def retrained(weights: torch.Tensor) -> np.ndarray:
        flat = train_many(problem, seeds, weights.expand(len(seeds), -1))
        values = [behaviour_values(behaviours, network, layout, row).numpy() for row in flat]
        return np.mean(values, axis=0)

    unedited = retrained(torch.ones(500))
    first_ratio, aware_ratio = [], []
    for column in range(len(behaviours)):
        scores = estimator.scores[:, :, column].mean(0)
        chosen = np.argsort(sign * scores)[:25].copy()
        edited = torch.ones(500)
        edited[chosen] = weight
        actual = (retrained(edited) - unedited)[column]
        first_ratio.append(actual / ((weight - 1) * scores[chosen].sum()))
        aware = estimator.predict(chosen, np.full(25, weight))[:, column].mean()
        aware_ratio.append(actual / aware)
    first, aware = np.median(first_ratio), np.median(aware_ratio)
    assert abs(np.log(aware)) < 0.5 * abs(np.log(first))
    assert 0.8 < aware < 1.25


def test_a_language_model_is_refused_with_the_reason():
    tokens = torch.randint(0, 20, (6, 8))
    problem = TrainingProblem(
        {
            "name": "causal_transformer",
            "width": 8,
            "heads": 2,
            "layers": 1,
            "maximum_length": 8,
            "vocabulary_size": 20,
            "tokenizer": "bytes",
        },
        EncodedExamples({"ids": tokens, "mask": torch.ones(6, 8, dtype=torch.bool)}, tokens),
        Recipe(batch_size=3, epochs=1),
        "next_token",
    )
    run = train(problem, 0, trajectory=Trajectory())
    behaviour = Behaviour("mean_loss", problem.train)
    with pytest.raises(NotEditAware, match="language models"):
        linearise(run, [behaviour])
