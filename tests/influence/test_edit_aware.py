"""Edit-aware prediction: exact where the network is linear, first order for tiny edits, and nearer
to real retrains than first order for the edits that people make."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from workers.influence.behaviours import Behaviour, behaviour_values
from workers.influence.deviation import Edit, follow
from workers.influence.edit_aware import NotEditAware, prepare
from workers.influence.interface import InfluenceScores
from workers.influence.replay import Replay
from workers.training.batched import train_many
from workers.training.examples import EncodedExamples
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

CLASSES, FEATURES = 10, 64


def digits(optimizer: str) -> tuple[TrainingProblem, list[Behaviour]]:
    data = load_digits()
    generator = np.random.default_rng(0)
    order = generator.permutation(len(data.target))[:700]
    inputs = torch.tensor(data.data[order] / 16 - 0.3, dtype=torch.float32)
    labels = torch.tensor(data.target[order])
    noisy = labels[:500].clone()
    wrong = torch.tensor(generator.random(500) < 0.1)
    noisy[wrong] = torch.tensor(generator.integers(0, CLASSES, int(wrong.sum())))
    problem = TrainingProblem(
        {"name": "mlp", "hidden": [32], "number_of_features": FEATURES, "number_of_outputs": 10},
        EncodedExamples({"features": inputs[:500]}, noisy),
        Recipe(
            optimizer=optimizer,
            learning_rate=0.05 if optimizer == "sgd" else 3e-3,
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


@pytest.fixture(scope="module", params=["sgd", "adamw"])
def trained(request) -> tuple[TrainingProblem, list[Behaviour], list[TrainingRun]]:
    problem, behaviours = digits(request.param)
    runs = [train(problem, seed, trajectory=Trajectory()) for seed in range(2)]
    return problem, behaviours, runs


@pytest.fixture(scope="module")
def estimator(trained):
    _, behaviours, runs = trained
    return prepare(runs, behaviours, Replay().scores(runs, behaviours))


def linear_regression() -> tuple[TrainingRun, Behaviour]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    targets = inputs @ torch.randn(5, generator=generator, dtype=torch.float64)
    targets += 0.3 * torch.randn(40, generator=generator, dtype=torch.float64)
    problem = TrainingProblem(
        {"name": "linear_regression", "number_of_features": 5, "number_of_outputs": 1},
        EncodedExamples({"features": inputs}, targets),
        Recipe(
            optimizer="sgd",
            learning_rate=0.02,
            warmup_steps=0,
            batch_size=40,
            epochs=200,
            momentum=0.0,
            weight_decay=0.0,
            precision="float64",
        ),
        "squared_error",
    )
    behaviour = Behaviour("mean_loss", EncodedExamples({"features": inputs[:7]}, targets[:7]))
    return train(problem, 0, trajectory=Trajectory()), behaviour


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_on_linear_regression_the_deviation_is_that_of_the_retrain(weight):
    run, behaviour = linear_regression()
    indices, weights = torch.arange(4), torch.full((4,), weight, dtype=torch.float64)
    all_weights = torch.ones(40, dtype=torch.float64)
    all_weights[:4] = weights
    retrained = train(run.problem, 0, all_weights)
    network = run.problem.build_network(0)
    before, after = (
        behaviour_values([behaviour], network, run.layout, one.parameters)
        for one in (run, retrained)
    )
    predicted = follow(run, [behaviour]).responses([Edit(indices, weights)])
    assert float(predicted[0, 0]) == pytest.approx(float(after - before), rel=0.05)


def test_the_linear_response_is_the_derivative_of_the_response():
    problem, behaviours = digits("adamw")
    problem = TrainingProblem(
        problem.architecture,
        problem.train.select(torch.arange(100)),
        replace(problem.recipe, precision="float64", epochs=4),
        problem.loss,
    )
    deviation = follow(train(problem, 0, trajectory=Trajectory()), behaviours)
    indices = torch.arange(10, 30)
    change = torch.linspace(-1, 1, 20, dtype=torch.float64)
    step = 1e-5
    both = deviation.responses([Edit(indices, 1 + sign * step * change) for sign in (1, -1)])
    numeric = (both[0] - both[1]) / (2 * step)
    changes = torch.zeros(100, 1, dtype=torch.float64)
    changes[indices, 0] = change
    torch.testing.assert_close(deviation.first_order(changes)[0], numeric, rtol=0.05, atol=1e-4)


def test_a_tiny_edit_is_answered_to_first_order(estimator):
    indices = np.arange(20)
    tiny = estimator.predict([(indices, np.full(20, 1 - 1e-3))])[0]
    first_order = -1e-3 * estimator.scores[:, indices].sum(1)
    np.testing.assert_allclose(tiny, first_order, rtol=0.05, atol=2e-5)


def test_unchanged_weights_predict_nothing_and_neither_order_nor_company_matters(estimator):
    generator = np.random.default_rng(1)
    indices, weights = generator.permutation(500)[:30], generator.choice([0.0, 3.0], 30)
    shuffled = generator.permutation(30)
    nothing, one, other = estimator.predict(
        [(indices, np.ones(30)), (indices, weights), (indices[shuffled], weights[shuffled])]
    )
    assert np.abs(nothing).max() < 1e-5
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        one, estimator.predict([(indices, weights)])[0], rtol=1e-3, atol=1e-5
    )


def test_its_linear_response_agrees_with_replay(estimator):
    assert np.median(estimator.agreement) > 0.8


@pytest.mark.parametrize(("weight", "sign"), [(0.0, 1), (3.0, -1)])
def test_it_foretells_the_size_of_targeted_edits(trained, estimator, weight, sign):
    problem, behaviours, runs = trained
    layout, network = runs[0].layout, problem.build_network(0)

    def values(flat: torch.Tensor) -> np.ndarray:
        rows = [behaviour_values(behaviours, network, layout, row).numpy() for row in flat]
        return np.mean(rows, axis=0)

    unedited = values(torch.stack([run.parameters for run in runs]))
    first_ratio, aware_ratio = [], []
    for column in range(len(behaviours)):
        scores = estimator.scores[:, :, column].mean(0)
        chosen = np.argsort(sign * scores)[:25].copy()
        edited = torch.ones(500)
        edited[chosen] = weight
        retrained = train_many(problem, [run.seed for run in runs], edited.expand(2, -1))
        actual = (values(retrained) - unedited)[column]
        first_ratio.append(actual / ((weight - 1) * scores[chosen].sum()))
        aware = estimator.predict([(chosen, np.full(25, weight))])[0, :, column].mean()
        aware_ratio.append(actual / aware)
    first, aware = np.median(first_ratio), np.median(aware_ratio)
    assert 0.8 < aware < 1.2
    assert abs(np.log(aware)) < abs(np.log(first)) + 0.05


def test_it_ranks_random_removals_no_worse_than_first_order_scores(trained, estimator):
    problem, behaviours, runs = trained
    generator = np.random.default_rng(2)
    removed = [generator.permutation(500)[:100] for _ in range(24)]
    weights = torch.ones(25, 500)
    for row, chosen in zip(weights[1:], removed, strict=True):
        row[torch.from_numpy(chosen)] = 0
    network = problem.build_network(0)
    finals = train_many(problem, [runs[0].seed] * 25, weights)
    values = np.stack(
        [behaviour_values(behaviours, network, runs[0].layout, row).numpy() for row in finals]
    )
    actual = values[1:] - values[0]
    first_order = -np.stack([estimator.scores[0, chosen].sum(0) for chosen in removed])
    aware = estimator.predict([(chosen, np.zeros(100)) for chosen in removed])[:, 0]

    def rank_correlation(predicted: np.ndarray) -> float:
        columns = range(len(behaviours))
        return np.mean([spearmanr(predicted[:, k], actual[:, k]).statistic for k in columns])

    assert rank_correlation(aware) > rank_correlation(first_order) - 0.01


def test_one_large_prediction_counts_like_the_others_while_its_seeds_scores_are_ordinary(estimator):
    by_seed = np.zeros((1, 2, 4))
    by_seed[0, 0] = 10
    np.testing.assert_allclose(estimator.over_seeds(by_seed), np.full((1, 4), 5.0))


def test_fresh_seeds_answer_as_held_out_seeds_do_and_bend_in_the_same_share(estimator):
    edits = [(np.arange(20), np.zeros(20)), (np.arange(30, 40), np.full(10, 3.0))]
    found = estimator.over_seeds(estimator.predict_fresh(edits))
    same = estimator.over_seeds(estimator.predict(edits))
    here = np.stack(
        [
            (weights[0] - 1) * estimator.over_seeds(estimator.scores[:, indices].sum(1)[None])[0]
            for indices, weights in edits
        ]
    )
    share = estimator.reliability.of_edits(edits)
    expected = estimator.reliability.first_order(edits) + share * (same - here)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert (estimator.reliability.overall < 1).all()


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
        prepare([run], [behaviour], InfluenceScores(np.zeros((1, 6, 1), np.float32), (0,)))
