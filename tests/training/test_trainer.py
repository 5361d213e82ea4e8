"""Training is a function of problem, seed and weights, however it is interrupted or batched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.problems import ARCHITECTURES, MLP, SOFTMAX, problem_of
from workers.training.batched import train_many
from workers.training.data_order import batch_order
from workers.training.losses import next_token
from workers.training.optimizers import learning_rates
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe, RecipeError
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory, TrajectoryError

OPTIMIZERS = [{"optimizer": "sgd"}, {"optimizer": "adamw"}]


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_one_seed_gives_bitwise_the_same_parameters(precision: str) -> None:
    problem = problem_of(precision=precision, dropout=0.1)
    torch.manual_seed(1)
    first = train(problem, 5).parameters
    torch.manual_seed(2)
    assert torch.equal(first, train(problem, 5).parameters)
    assert not torch.equal(first, train(problem, 6).parameters)


def test_training_leaves_the_process_settings_alone() -> None:
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    train(problem_of(dropout=0.2), 0)
    assert torch.equal(torch.get_rng_state(), expected)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_weight_zero_equals_absence_from_every_batch(
    architecture: dict, optimizer: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_of(architecture, weight_decay=0.1, **optimizer)
    removed = torch.tensor([2, 7])
    weights = torch.ones(10, dtype=torch.float64)
    weights[removed] = 0
    with_weights = train(problem, 1, weights).parameters
    order = problem.batch_order(1)
    absent = torch.where(torch.isin(order, removed), -1, order)
    absent = absent.gather(1, (absent == -1).to(torch.int64).argsort(dim=1, stable=True))
    monkeypatch.setattr(TrainingProblem, "batch_order", lambda *_: absent)
    torch.testing.assert_close(train(problem, 1).parameters, with_weights)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_integer_weight_equals_repeating_the_example_in_its_batch(
    optimizer: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_of(**optimizer, batch_size=10)
    weights = torch.ones(10, dtype=torch.float64)
    weights[4] = 3
    weighted = train(problem, 1, weights).parameters
    order = problem.batch_order(1)
    repeated = torch.cat([order, torch.full((len(order), 2), 4)], 1)
    monkeypatch.setattr(TrainingProblem, "batch_order", lambda *_: repeated)
    torch.testing.assert_close(train(problem, 1).parameters, weighted)


def reference_run(
    problem: TrainingProblem, seed: int, optimizer: torch.optim.Optimizer, network: nn.Module
) -> torch.Tensor:
    for indices in problem.batch_order(seed):
        batch = problem.examples.select(indices[indices >= 0])
        loss = (
            nn.functional.cross_entropy(network(**batch.inputs), batch.targets, reduction="sum")
            / problem.recipe.batch_size
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ParameterLayout.of(network).flatten(network)


def test_sgd_agrees_with_torch() -> None:
    problem = problem_of(optimizer="sgd", weight_decay=0.1, momentum=0.7)
    network = problem.build_network(4)
    reference = torch.optim.SGD(network.parameters(), 0.02, momentum=0.7, weight_decay=0.1)
    expected = reference_run(problem, 4, reference, network)
    torch.testing.assert_close(train(problem, 4).parameters, expected)


def test_adamw_agrees_with_torch_where_epsilon_plays_no_part() -> None:
    problem = problem_of(optimizer="adamw", weight_decay=0.1, epsilon=1e-30)
    network = problem.build_network(4)
    reference = torch.optim.AdamW(network.parameters(), 0.02, weight_decay=0.1, eps=1e-30)
    expected = reference_run(problem, 4, reference, network)
    torch.testing.assert_close(train(problem, 4).parameters, expected)


@pytest.mark.parametrize("seeds", [[1, 1, 1], [1, 2, 1], [3, 1, 2]])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_batched_runs_equal_single_ones(
    architecture: dict, optimizer: dict, seeds: list[int]
) -> None:
    problem = problem_of(architecture, weight_decay=0.1, **optimizer)
    weights = torch.rand(3, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack(
        [train(problem, seed, row).parameters for seed, row in zip(seeds, weights, strict=True)]
    )
    for at_once in (1, 2, 3):
        found = train_many(problem, seeds, weights, runs_at_once=at_once)
        torch.testing.assert_close(found, expected)


def test_batched_runs_report_every_step_and_can_be_cancelled() -> None:
    problem = problem_of(SOFTMAX)
    seen: list[tuple[int, int]] = []
    train_many(
        problem, [0, 1, 2], torch.ones(3, 10), progress=lambda *c: seen.append(c), runs_at_once=2
    )
    assert seen == sorted(seen)
    assert seen[-1] == (27, 27)

    def cancel(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train_many(problem, [0, 1], torch.ones(2, 10), progress=cancel)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_killed_run_goes_on_from_its_files_bitwise(tmp_path: Path, optimizer: dict) -> None:
    problem = problem_of(precision="float32", dropout=0.1, **optimizer)
    expected = train(problem, 1)
    calls = 0

    def kill(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if done == 9 or calls > 1:
            raise KeyboardInterrupt

    trajectory = Trajectory(spacing=2, folder=tmp_path, memory_budget=1)
    with pytest.raises(KeyboardInterrupt):
        train(problem, 1, trajectory=_killing(trajectory, 7))
    reopened = Trajectory.open(tmp_path)
    state = reopened.last_state()
    assert state is not None
    assert 0 < state.step < 9
    resumed = train(problem, 1, trajectory=reopened)
    assert torch.equal(resumed.parameters, expected.parameters)
    assert resumed.learning_curve == expected.learning_curve
    assert reopened.steps == [0, 2, 4, 6, 8, 9]


def _killing(trajectory: Trajectory, at_step: int) -> Trajectory:
    record = trajectory.record

    def record_or_die(step: int, *rest: torch.Tensor) -> None:
        if step == at_step:
            raise KeyboardInterrupt
        record(step, *rest)

    trajectory.record = record_or_die  # type: ignore[method-assign, assignment]
    return trajectory


def test_a_trajectory_spills_to_files_when_memory_is_short() -> None:
    problem = problem_of()
    in_memory, on_disk = Trajectory(spacing=1), Trajectory(spacing=1, memory_budget=1)
    train(problem, 0, trajectory=in_memory)
    train(problem, 0, trajectory=on_disk)
    folder = on_disk.folder
    assert in_memory.folder is None
    assert folder is not None
    assert any(folder.iterdir())
    for step in range(10):
        assert torch.equal(in_memory.rows(step), on_disk.rows(step))
    del on_disk
    assert not folder.exists()


def test_every_state_is_kept_when_they_fit_and_every_square_root_of_them_otherwise() -> None:
    problem = problem_of(epochs=12)
    roomy, tight = Trajectory(), Trajectory(memory_budget=10_000)
    train(problem, 0, trajectory=roomy)
    train(problem, 0, trajectory=tight)
    assert roomy.steps == list(range(37))
    assert tight.steps == list(range(0, 37, 6))


def test_a_saved_run_is_loaded_whole_and_for_its_own_problem_only(tmp_path: Path) -> None:
    problem = problem_of()
    weights = torch.linspace(0, 2, 10, dtype=torch.float64)
    run = train(problem, 2, weights, trajectory=Trajectory())
    run.save(tmp_path / "run")
    loaded = TrainingRun.load(tmp_path / "run", problem)
    assert torch.equal(loaded.parameters, run.parameters)
    assert torch.equal(loaded.example_weights, weights)
    assert (loaded.seed, loaded.learning_curve, loaded.layout) == (
        run.seed,
        run.learning_curve,
        run.layout,
    )
    assert loaded.trajectory is not None
    assert loaded.trajectory.segments() == run.trajectory.segments()  # type: ignore[union-attr]
    with pytest.raises(TrajectoryError, match="another problem"):
        TrainingRun.load(tmp_path / "run", problem_of(learning_rate=0.5))
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(TrajectoryError, match="no finished run"):
        TrainingRun.load(tmp_path / "run", problem)


def test_the_learning_curve_falls_and_has_one_value_an_epoch() -> None:
    curve = train(problem_of(MLP, epochs=20, learning_rate=0.05), 0).learning_curve
    assert len(curve) == 20
    assert curve[-1] < 0.5 * curve[0]


def test_starting_weights_replace_the_seeds_by_name() -> None:
    problem = problem_of(MLP)
    bias = torch.full((3,), 0.25, dtype=torch.float64)
    network = replace(problem, starting_weights={"output.bias": bias}).build_network(0)
    named = dict(network.named_parameters())
    torch.testing.assert_close(named["output.bias"].detach(), bias)
    torch.testing.assert_close(
        named["output.weight"], dict(problem.build_network(0).named_parameters())["output.weight"]
    )
    with pytest.raises(ValueError, match="“nothing” is unknown"):
        replace(problem, starting_weights={"nothing": bias}).build_network(0)


def test_every_epoch_visits_every_example_once_in_an_order_of_its_own() -> None:
    order = batch_order(7, 10, 4, 3)
    assert order.shape == (9, 4)
    assert order.dtype == torch.int64
    epochs = order.reshape(3, 12)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == [-1, -1, *range(10)]
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(batch_order(7, 10, 4, 5)[:9], order)
    assert not torch.equal(batch_order(8, 10, 4, 3), order)


def test_schedules_warm_up_and_fall() -> None:
    warm = learning_rates(Recipe(learning_rate=1.0, warmup_steps=4), 8)
    assert warm == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    linear = learning_rates(Recipe(learning_rate=1.0, schedule="linear", warmup_steps=0), 4)
    assert linear == [1.0, 0.75, 0.5, 0.25]
    cosine = learning_rates(Recipe(learning_rate=1.0, schedule="cosine", warmup_steps=0), 4)
    assert cosine == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_the_loss_of_tokens_ignores_padding_and_neighbours() -> None:
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1, 2, -100, -100], [-100, 0, 3, 4]])
    losses = next_token(logits, targets)
    alone = next_token(logits[:1, :2], targets[:1, :2])
    torch.testing.assert_close(losses[:1], alone)
    expected = -logits.log_softmax(2)[1, [1, 2, 3], [0, 3, 4]].mean()
    torch.testing.assert_close(losses[1], expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer", "adagrad"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("batch_size", 0),
        ("epochs", 2.5),
        ("dropout", 1.0),
        ("momentum", -0.1),
        ("schedule", None),
        ("colour", "red"),
        ("epochs", True),
    ],
)
def test_a_wrong_recipe_names_the_field(field: str, value: object) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_json({field: value})
    assert caught.value.field == field


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(optimizer="sgd", epochs=3)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json({"learning_rate": 1}).learning_rate == 1.0


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="10 weights are needed"):
        train(problem_of(), 0, torch.ones(9))
    with pytest.raises(ValueError, match="not finite"):
        train(problem_of(), 0, torch.full((10,), torch.nan))
    with pytest.raises(ValueError, match="weights of shape"):
        train_many(problem_of(), [0], torch.ones(2, 10))
