"""Replay is the derivative of real retraining, and nothing about how it is computed shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.problems import (
    ARCHITECTURES,
    BAG,
    CONVOLUTIONAL,
    MLP,
    TRANSFORMER,
    examples_for,
    problem_of,
)
from workers.influence import replay_walk
from workers.influence.behaviours import Behaviour
from workers.influence.interface import NoUsableSeed
from workers.influence.replay import NotReplayable, Replay
from workers.influence.replay_seeds import can_walk_together
from workers.training.examples import EncodedExamples
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

SGD = {"optimizer": "sgd", "learning_rate": 0.2, "momentum": 0.8}
ADAMW = {"optimizer": "adamw"}


def behaviours_for(problem: TrainingProblem) -> list[Behaviour]:
    probe = examples_for(problem.architecture, 6, seed=1)
    kinds = {
        "cross_entropy": ["mean_loss", "mean_margin", "label_probability"],
        "squared_error": ["mean_loss"],
        "next_token": ["mean_loss", "completion_log_probability"],
    }[problem.loss]
    return [Behaviour(kind, probe, 1 if kind == "label_probability" else None) for kind in kinds]


def recorded(
    problem: TrainingProblem, seed: int = 3, spacing: int | None = None, **options: object
) -> TrainingRun:
    return train(problem, seed, trajectory=Trajectory(spacing=spacing), **options)  # type: ignore[arg-type]


def behaviour_after(
    problem: TrainingProblem, seed: int, weights: torch.Tensor, behaviours: list[Behaviour]
) -> np.ndarray:
    run = train(problem, seed, weights)
    network = problem.build_network(seed)
    named = run.layout.unflatten(run.parameters)
    return np.array([float(one.values(network, named)) for one in behaviours])


def finite_differences(
    problem: TrainingProblem, seed: int, behaviours: list[Behaviour], size: float = 1e-5
) -> np.ndarray:
    """(N, K) central differences of real retraining, example by example."""
    columns = []
    for example in range(len(problem.train)):
        up = torch.ones(len(problem.train), dtype=torch.float64)
        down = up.clone()
        up[example] += size
        down[example] -= size
        difference = behaviour_after(problem, seed, up, behaviours) - behaviour_after(
            problem, seed, down, behaviours
        )
        columns.append(difference / (2 * size))
    return np.array(columns)


def assert_every_example_agrees(scores: np.ndarray, expected: np.ndarray) -> None:
    size = np.maximum(np.abs(expected), 1e-3 * np.abs(expected).max())
    relative = np.abs(scores - expected) / size
    assert relative.max() <= 1e-4


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_replay_equals_finite_differences_of_retraining(
    optimizer: dict, weight_decay: float, schedule: str
) -> None:
    problem = problem_of(weight_decay=weight_decay, schedule=schedule, warmup_steps=2, **optimizer)
    behaviours = behaviours_for(problem)
    scores = Replay().scores([recorded(problem)], behaviours).per_seed[0]
    assert_every_example_agrees(scores, finite_differences(problem, 3, behaviours))


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_replay_equals_finite_differences_for_every_architecture(
    architecture: dict, optimizer: dict
) -> None:
    settings = {**optimizer, "learning_rate": 0.02, "epochs": 2}
    problem = problem_of(architecture, number=6, weight_decay=0.01, **settings)
    behaviours = behaviours_for(problem)
    scores = Replay().scores([recorded(problem)], behaviours).per_seed[0]
    assert_every_example_agrees(scores, finite_differences(problem, 3, behaviours))


def test_replay_of_a_weighted_run_is_the_derivative_at_its_weights() -> None:
    problem = problem_of(**ADAMW)
    behaviours = behaviours_for(problem)
    weights = torch.linspace(0, 3, 10, dtype=torch.float64)
    scores = Replay().scores([recorded(problem, weights=weights)], behaviours).per_seed[0]
    step = 1e-4 * torch.sin(torch.arange(10, dtype=torch.float64))
    actual = behaviour_after(problem, 3, weights + step, behaviours) - behaviour_after(
        problem, 3, weights - step, behaviours
    )
    np.testing.assert_allclose(step.numpy() @ scores * 2, actual, rtol=1e-5)


@pytest.mark.parametrize("spacing", [2, 4, 100])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_checkpoint_spacing_changes_nothing(spacing: int, optimizer: dict) -> None:
    problem = problem_of(**optimizer)
    behaviours = behaviours_for(problem)
    dense = Replay().scores([recorded(problem, spacing=1)], behaviours).per_seed
    sparse = Replay().scores([recorded(problem, spacing=spacing)], behaviours).per_seed
    np.testing.assert_allclose(sparse, dense, rtol=1e-6)


def test_splitting_the_behaviours_changes_nothing() -> None:
    problem = problem_of()
    behaviours = behaviours_for(problem)
    run = recorded(problem)
    together = Replay().scores([run], behaviours).per_seed
    one_by_one = Replay(memory_budget=1).scores([run], behaviours).per_seed
    np.testing.assert_allclose(one_by_one, together, rtol=1e-6)


def test_permuting_the_examples_permutes_the_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of()
    behaviours = behaviours_for(problem)
    scores = Replay().scores([recorded(problem)], behaviours).per_seed[0]
    permutation = torch.randperm(10, generator=torch.Generator().manual_seed(5))
    permuted = replace(problem, train=problem.train.select(permutation))
    place_of = torch.cat([permutation.argsort(), torch.tensor([-1])])
    order = problem.batch_order(3)
    monkeypatch.setattr(TrainingProblem, "batch_order", lambda *_: place_of[order])
    of_permuted = Replay().scores([recorded(permuted)], behaviours).per_seed[0]
    np.testing.assert_allclose(of_permuted, scores[permutation.numpy()], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("architecture", [MLP, CONVOLUTIONAL], ids=["mlp", "convolutional"])
def test_float32_agrees_with_float64(architecture: dict) -> None:
    exact = problem_of(architecture, precision="float64", epsilon=1e-6)
    rough = problem_of(architecture, precision="float32", epsilon=1e-6)
    behaviours = behaviours_for(exact)
    expected = Replay().scores([recorded(exact)], behaviours).per_seed
    found = Replay().scores([recorded(rough)], behaviours).per_seed
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_a_killed_replay_goes_on_from_its_last_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_of()
    behaviours = behaviours_for(problem)
    run = recorded(problem)
    expected = Replay().scores([run], behaviours).per_seed
    monkeypatch.setattr(replay_walk, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(replay_walk, "PROGRESS_SECONDS", -1.0)

    def kill(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Replay(work_folder=tmp_path).scores([run], behaviours, kill)
    seen: list[int] = []
    resumed = Replay(work_folder=tmp_path).scores(
        [run], behaviours, lambda done, total: seen.append(done)
    )
    assert seen[0] == 6
    np.testing.assert_array_equal(resumed.per_seed, expected)


def test_a_saved_run_replays_in_another_process_the_same(tmp_path: Path) -> None:
    problem = problem_of(precision="float32")
    behaviours = behaviours_for(problem)
    run = recorded(problem)
    run.save(tmp_path / "run")
    loaded = TrainingRun.load(tmp_path / "run", problem)
    np.testing.assert_array_equal(
        Replay().scores([loaded], behaviours).per_seed, Replay().scores([run], behaviours).per_seed
    )


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("architecture", [MLP, CONVOLUTIONAL, BAG], ids=["mlp", "images", "bag"])
def test_walking_seeds_together_changes_nothing(architecture: dict, optimizer: dict) -> None:
    problem = problem_of(architecture, weight_decay=0.01, **optimizer)
    behaviours = behaviours_for(problem)
    weights = torch.linspace(0, 2, 10, dtype=torch.float64)
    runs = [recorded(problem, seed, weights=weights) for seed in (1, 2, 3)]
    assert can_walk_together(runs, len(behaviours))
    together = Replay().scores(runs, behaviours)
    for place, run in enumerate(runs):
        alone = Replay().scores([run], behaviours)
        np.testing.assert_allclose(
            together.per_seed[place], alone.per_seed[0], rtol=1e-4, atol=1e-7
        )
        np.testing.assert_allclose(
            together.diagnostics["cotangent_growth"][place],
            alone.diagnostics["cotangent_growth"][0],
        )


def test_large_networks_and_many_behaviours_are_walked_seed_by_seed() -> None:
    runs = [recorded(problem_of(MLP), seed) for seed in (1, 2)]
    assert not can_walk_together(runs, 20)
    assert not can_walk_together(runs[:1], 1)
    assert not can_walk_together([recorded(problem_of(TRANSFORMER), seed) for seed in (1, 2)], 1)
    assert not can_walk_together([recorded(problem_of(MLP), 1, spacing=3)] * 2, 1)


def test_seeds_are_scored_one_by_one() -> None:
    problem = problem_of()
    behaviours = behaviours_for(problem)
    runs = [recorded(problem, seed) for seed in (1, 2)]
    scores = Replay().scores(runs, behaviours)
    assert scores.seeds == (1, 2)
    assert scores.per_seed.dtype == np.float32
    for place, run in enumerate(runs):
        alone = Replay().scores([run], behaviours).per_seed[0]
        np.testing.assert_allclose(scores.per_seed[place], alone, rtol=1e-6)


def test_an_exploding_seed_is_left_out_with_the_reason() -> None:
    problem = problem_of(learning_rate=0.02)
    runs = [recorded(problem, 1), recorded(problem, 2)]
    assert runs[1].trajectory is not None
    runs[1].trajectory.rows(5).fill_(float("nan"))
    scores = Replay().scores(runs, behaviours_for(problem))
    assert scores.seeds == (1,)
    assert [one.seed for one in scores.left_out] == [2]
    assert "grew nan times" in scores.left_out[0].reason


def test_it_refuses_when_every_seed_explodes() -> None:
    problem = problem_of(optimizer="sgd", learning_rate=3.0, epochs=20)
    with pytest.raises(NoUsableSeed, match="seed 3: the derivative of behaviour"):
        Replay(growth_limit=10).scores([recorded(problem)], behaviours_for(problem))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"dropout": 0.1}, "dropout"), ({"precision": "mixed_bfloat16"}, "mixed precision")],
)
def test_a_recipe_that_cannot_be_replayed_is_refused(change: dict, reason: str) -> None:
    problem = problem_of(**change)
    with pytest.raises(NotReplayable, match=reason):
        Replay().scores([recorded(problem)], behaviours_for(problem))
    with pytest.raises(NotReplayable, match=reason):
        Replay().estimate_cost(problem, 1, behaviours_for(problem))


def test_a_run_without_a_trajectory_is_refused() -> None:
    problem = problem_of()
    with pytest.raises(NotReplayable, match="no complete trajectory"):
        Replay().scores([train(problem, 0)], behaviours_for(problem))


def test_progress_counts_every_step_of_every_seed_once() -> None:
    problem = problem_of()
    runs = [recorded(problem, seed) for seed in (1, 2)]
    seen: list[tuple[int, int]] = []
    Replay().scores(runs, behaviours_for(problem), lambda *counts: seen.append(counts))
    assert seen == sorted(seen)
    assert seen[-1] == (18, 18)


def test_the_cost_grows_with_seeds_and_is_positive() -> None:
    problem = problem_of()
    cost = Replay().estimate_cost(problem, 2, behaviours_for(problem))
    assert cost.seconds > 0
    assert cost.bytes > 0


def test_every_parameter_that_is_trained_is_laid_out_once() -> None:
    network = problem_of().build_network(0)
    layout = ParameterLayout.of(network)
    flat = layout.flatten(network)
    assert flat.numel() == sum(p.numel() for p in network.parameters())
    for name, tensor in layout.unflatten(flat).items():
        torch.testing.assert_close(tensor, dict(network.named_parameters())[name])


def test_probe_examples_that_do_not_fit_a_behaviour_are_refused() -> None:
    numbers = EncodedExamples({"features": torch.zeros(2, 5)}, torch.zeros(2))
    with pytest.raises(ValueError, match="mean_margin"):
        Behaviour("mean_margin", numbers)
