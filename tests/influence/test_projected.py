"""Projected gradients equal curvature at full dimension, estimate it without bias below, and come
out the same however the work is cut up, interrupted or shared out."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.influence.test_replay import behaviours_for
from tests.training.problems import ARCHITECTURES, LANGUAGE_MODEL, MLP, TRANSFORMER, problem_of
from workers.influence import projected, projected_gradients
from workers.influence.curvature import Curvature
from workers.influence.gradient_store import GradientStore, StoreError, prune
from workers.influence.linearised import Linearised
from workers.influence.projected import Projected
from workers.influence.projection import DenseProjection, projection_of, random_projection
from workers.influence.projection_structured import (
    SparseSketch,
    StructuredProjection,
    shared_out,
)
from workers.training.problem import TrainingProblem
from workers.training.trainer import TrainingRun, train

EXACT = {name: one for name, one in ARCHITECTURES.items() if name != "language model"}
KINDS = ("dense", "structured")


@pytest.fixture(scope="module")
def run() -> TrainingRun:
    return train(problem_of(MLP, 30), 3)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four examples to a block: eight blocks of the 30 examples of `run`."""
    monkeypatch.setattr(projected, "block_rows", lambda dimension: 4)


def scores_of(run: TrainingRun, **options: object) -> np.ndarray:
    settings = {"damping": 0.05, "storage": "float64", **options}
    method = Projected(**settings)  # type: ignore[arg-type]
    return method.scores([run], behaviours_for(run.problem)).per_seed[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", EXACT.values(), ids=EXACT)
def test_at_full_dimension_the_scores_are_those_of_curvature(architecture: dict, kind: str) -> None:
    weights = torch.linspace(0, 2, 8, dtype=torch.float64)
    run = train(problem_of(architecture, 8), 3, weights)
    behaviours = behaviours_for(run.problem)
    exact = Curvature(damping=0.05, tolerance=1e-10).scores([run], behaviours).per_seed[0]
    found = scores_of(run, projection=kind, dimension=5_000)
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-7 * np.abs(exact).max())


def test_any_orthonormal_projection_onto_all_dimensions_is_exact(
    run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotation(at: Linearised, kind: str, dimension: int, seed: int) -> DenseProjection:
        size = at.parameters.numel()
        generator = torch.Generator().manual_seed(seed)
        return DenseProjection(at, random_projection(size, size, generator, torch.float64))

    exact = scores_of(run)
    monkeypatch.setattr(projected, "projection_of", rotation)
    np.testing.assert_allclose(scores_of(run), exact, rtol=1e-5)


def test_sampled_targets_have_the_curvature_as_their_expectation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = train(problem_of(LANGUAGE_MODEL, 8), 3)
    exact = Curvature(damping=1.0, tolerance=1e-10).scores([run], behaviours_for(run.problem))
    errors = []
    for draws in (20, 2_000):
        monkeypatch.setattr(projected_gradients, "MOST_DRAWS", draws)
        found = scores_of(run, damping=1.0, dimension=10**6)
        errors.append(np.abs(found - exact.per_seed[0]).max() / np.abs(exact.per_seed).max())
    assert errors[1] < 0.04
    assert 4 < errors[0] / errors[1] < 25  # the error falls with the root of the draws: by 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_pulled_gradients_are_the_projections_of_formed_ones(architecture: dict, kind: str) -> None:
    at = Linearised.of(train(problem_of(architecture, 6), 3))
    size = at.parameters.numel()

    def cotangents(outputs: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(5)
        return torch.randn(3, *outputs.shape, generator=generator, dtype=outputs.dtype)

    formed = DenseProjection(at, None).pull(at.train, cotangents)
    for dimension in (size // 4, size // 2):
        projection = projection_of(at, kind, dimension, seed=1)
        torch.testing.assert_close(
            projection.pull(at.train, cotangents),
            projection.vectors(formed.flatten(0, 1)).reshape(3, 6, projection.dimension),
        )
        assert projection.dimension <= dimension + len(at.layout.names)


def test_a_matrix_that_is_used_in_two_ways_is_not_taken_for_one_product() -> None:
    """The token table of the language model is looked up and multiplied by."""
    at = Linearised.of(train(problem_of(LANGUAGE_MODEL, 6), 3))
    projection = StructuredProjection.of(at, 200, seed=1)
    assert "body.tokens.weight" in projection.others


@pytest.mark.parametrize("kind", KINDS)
def test_projected_products_are_unbiased(kind: str) -> None:
    """Johnson & Lindenstrauss: over 400 seeds the mean is within 4 standard errors of the true
    product, for pairs that are far from orthogonal and pairs that are nearly so."""
    at = Linearised.of(train(problem_of(TRANSFORMER, 6), 3))
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, at.parameters.numel(), dtype=torch.float64, generator=generator)
    vectors[1] += vectors[0]
    found = torch.stack(
        [
            (projected_vectors := projection_of(at, kind, 64, seed).vectors(vectors))
            @ projected_vectors.T
            for seed in range(400)
        ]
    )
    errors = found.mean(0) - vectors @ vectors.T
    standard = found.std(0) / len(found) ** 0.5
    assert (errors.abs() < 4 * standard).all()


def test_a_dense_projection_has_the_spread_of_theory() -> None:
    """Var |Rᵀv|² = 2 |v|⁴ / k for normal entries."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(1_000, dtype=torch.float64, generator=generator)
    vector /= vector.norm()
    lengths = torch.stack(
        [
            (vector @ random_projection(1_000, 50, torch.Generator().manual_seed(s), vector.dtype))
            .square()
            .sum()
            for s in range(600)
        ]
    )
    assert float(lengths.var()) == pytest.approx(2 / 50, rel=0.25)


def test_orthonormal_columns_keep_the_norm_of_all_directions_together() -> None:
    found = random_projection(40, 20, torch.Generator().manual_seed(0), torch.float64)
    torch.testing.assert_close(found.T @ found, 2 * torch.eye(20, dtype=torch.float64))


def test_a_sketch_puts_every_entry_into_one_column_with_a_sign() -> None:
    sketch = SparseSketch.of(50, 8, torch.Generator().manual_seed(0), torch.float64)
    matrix = sketch.apply(torch.eye(50, dtype=torch.float64))
    assert ((matrix != 0).sum(1) == 1).all()
    assert (matrix.abs().sum(1) == 1).all()
    assert set((matrix != 0).sum(0).tolist()) == {6, 7}


def test_more_dimensions_come_closer_to_curvature() -> None:
    run = train(problem_of(TRANSFORMER, 60), 3)
    exact = scores_of(run, dimension=5_000)
    for kind in KINDS:
        errors = [
            np.abs(scores_of(run, projection=kind, dimension=k) - exact).mean()
            for k in (30, 120, 480)
        ]
        assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_batches_changes_nothing(run: TrainingRun, kind: str) -> None:
    whole = scores_of(run, projection=kind, dimension=20)
    for length in (1, 7):
        alike = scores_of(run, projection=kind, dimension=20, examples_at_a_time=length)
        np.testing.assert_allclose(alike, whole, rtol=1e-5, atol=1e-9)


def test_the_size_of_batches_does_not_change_sampled_targets() -> None:
    run = train(problem_of(LANGUAGE_MODEL, 8), 3)
    whole = scores_of(run, dimension=100)
    np.testing.assert_allclose(
        scores_of(run, dimension=100, examples_at_a_time=3), whole, rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_examples_changes_nothing(run: TrainingRun, kind: str) -> None:
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    problem = run.problem
    moved = TrainingProblem(MLP, problem.train.select(order), problem.recipe, problem.loss)
    shuffled = TrainingRun(moved, run.seed, None, run.parameters, run.layout, ())
    options = {"damping": 0.05, "projection": kind, "dimension": 20, "storage": "float64"}
    behaviours = behaviours_for(problem)
    np.testing.assert_allclose(
        Projected(**options).scores([shuffled], behaviours).per_seed,
        Projected(**options).scores([run], behaviours).per_seed[:, order.numpy()],
        rtol=1e-5,
        atol=1e-9,
    )


def test_behaviours_are_scored_alike_alone_and_together(run: TrainingRun) -> None:
    behaviours = behaviours_for(run.problem)
    together = scores_of(run, dimension=20)
    for place, behaviour in enumerate(behaviours):
        method = Projected(damping=0.05, dimension=20, storage="float64")
        alone = method.scores([run], [behaviour]).per_seed[0, :, 0]
        np.testing.assert_allclose(alone, together[:, place], rtol=1e-5, atol=1e-9)


def test_several_dampings_cost_one_pass_and_agree_with_one_at_a_time(run: TrainingRun) -> None:
    behaviours = behaviours_for(run.problem)
    path, known = Projected(dimension=20, storage="float64").path(run, behaviours, [0.01, 0.1])
    for scores, damping in zip(path, (0.01, 0.1), strict=True):
        alone = scores_of(run, dimension=20, damping=damping)
        np.testing.assert_allclose(scores.T.numpy(), alone, rtol=1e-5, atol=1e-9)
    assert known[0]["effective_dimension"] > known[1]["effective_dimension"]


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = sorted(folder.rglob("*.safetensors"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


class Interruption(Exception):
    pass


@pytest.mark.usefixtures("small_blocks")
def test_work_goes_on_after_an_interruption_with_the_same_bytes(
    run: TrainingRun, tmp_path: Path
) -> None:
    behaviours = behaviours_for(run.problem)

    def interrupt(done: int, total: int) -> None:
        assert total == 8
        if done == 3:
            raise Interruption

    options = {"damping": 0.05, "dimension": 20}
    broken = Projected(folder=tmp_path / "broken", **options)
    with pytest.raises(Interruption):
        broken.scores([run], behaviours, progress=interrupt)
    assert len(broken.missing_units([run])) == 5
    resumed = broken.scores([run], behaviours)
    whole = Projected(folder=tmp_path / "whole", **options).scores([run], behaviours)
    assert bytes_of(tmp_path / "broken") == bytes_of(tmp_path / "whole")
    np.testing.assert_array_equal(resumed.per_seed, whole.per_seed)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("shards", [2, 5])
def test_shards_in_any_order_give_the_same_bytes(
    run: TrainingRun, tmp_path: Path, shards: int
) -> None:
    runs = [run, train(run.problem, 4)]
    behaviours = behaviours_for(run.problem)
    method = Projected(damping=0.05, dimension=20, folder=tmp_path / "shards")
    total = method.number_of_units(runs)
    assert total == 16
    borders = np.linspace(0, total, shards + 1).astype(int).tolist()
    for start, stop in reversed(list(itertools.pairwise(borders))):
        Projected(damping=0.05, dimension=20, folder=tmp_path / "shards").fill(
            runs, range(start, stop)
        )
    assert method.missing_units(runs) == []
    sharded = method.scores(runs, behaviours)
    whole = Projected(damping=0.05, dimension=20, folder=tmp_path / "whole")
    np.testing.assert_array_equal(sharded.per_seed, whole.scores(runs, behaviours).per_seed)
    assert bytes_of(tmp_path / "shards") == bytes_of(tmp_path / "whole")


def test_further_behaviours_read_the_kept_gradients(
    run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviours = behaviours_for(run.problem)
    method = Projected(damping=0.05, dimension=20, folder=tmp_path)
    method.scores([run], behaviours[:1])

    def never(*_: object) -> None:
        raise AssertionError("the gradients were computed again")

    monkeypatch.setattr(projected, "project_batch", never)
    assert method.scores([run], behaviours).per_seed.shape[2] == len(behaviours)
    other = TrainingRun(run.problem, 3, None, run.parameters + 1e-3, run.layout, ())
    with pytest.raises(AssertionError, match="again"):
        method.scores([other], behaviours)


def test_small_gradients_survive_half_precision(tmp_path: Path) -> None:
    rows = torch.randn(6, 16, dtype=torch.float64) * torch.logspace(-12, 3, 6)[:, None]
    store = GradientStore(tmp_path, 6, 16, 4, "float16")
    for block in (0, 1):
        covered = store.rows_of(block)
        store.write(block, rows[covered.start : covered.stop], torch.eye(16))
    found = torch.cat([store.read(0), store.read(1)]).double()
    assert ((found - rows).norm(dim=1) < 1e-3 * rows.norm(dim=1)).all()
    torch.testing.assert_close(store.curvature(), 2 * torch.eye(16, dtype=torch.float64))


def test_half_precision_changes_scores_by_a_thousandth(run: TrainingRun) -> None:
    exact = scores_of(run, dimension=20)
    half = scores_of(run, dimension=20, storage="float16")
    np.testing.assert_allclose(half, exact, atol=2e-3 * np.abs(exact).max())


def test_a_damaged_or_missing_block_is_an_error(tmp_path: Path) -> None:
    store = GradientStore(tmp_path, 4, 3, 4)
    with pytest.raises(StoreError, match="missing or damaged"):
        store.curvature()
    store.write(0, torch.ones(4, 3), torch.eye(3))
    store.gradients_file(0).write_bytes(b"no tensors")
    with pytest.raises(StoreError, match="missing or damaged"):
        store.read(0)
    with pytest.raises(StoreError, match="needs rows"):
        store.write(0, torch.ones(5, 3), torch.eye(3))


def test_the_stores_used_longest_ago_go_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old", "running")):
        store = GradientStore(tmp_path / name, 4, 3, 4)
        store.touch()
        store.write(0, torch.ones(4, 3), torch.eye(3))
        os.utime(tmp_path / name / "used", (1e9 - age, 1e9 - age))
    size = sum(file.stat().st_size for file in (tmp_path / "new").iterdir())
    assert prune(tmp_path, 3 * size, keep=["running"]) == ["old"]
    assert prune(tmp_path, 0, keep=["running"]) == ["middle", "new"]
    assert [folder.name for folder in tmp_path.iterdir()] == ["running"]


def test_shares_add_up_and_small_parts_leave_the_rest_to_others() -> None:
    assert shared_out(100, [10, 1_000, 2_000]) == [10, 45, 45]
    assert shared_out(50, [10, 20, 15]) == [10, 20, 15]
    assert shared_out(2, [5, 0, 5, 5]) == [1, 0, 1, 1]


def test_too_few_dimensions_are_reported(run: TrainingRun) -> None:
    options = {"damping": 1e-4, "storage": "float64"}
    behaviours = behaviours_for(run.problem)
    few = Projected(dimension=10, **options).scores([run], behaviours).diagnostics["seeds"][0]
    assert "effective dimension" in few["warning"]
    full = Projected(dimension=99, **options).scores([run], behaviours).diagnostics["seeds"][0]
    assert "warning" not in full


def test_the_default_dimension_fits_the_number_of_examples(run: TrainingRun) -> None:
    def dimension(number: int, storage: str = "float32") -> int:
        train = run.problem.train.select(torch.zeros(number, dtype=torch.int64))
        problem = TrainingProblem(MLP, train, run.problem.recipe, run.problem.loss)
        many = TrainingRun(problem, 3, None, run.parameters, run.layout, ())
        return Projected(storage=storage).dimension_for(many)

    assert [dimension(n) for n in (30, 300, 5_000, 1_500_000, 10**7)] == [
        256,
        1024,
        2048,
        1024,
        256,
    ]
    assert dimension(1_500_000, "float16") == 2048


def test_the_estimated_cost_grows_with_examples_and_seeds(run: TrainingRun) -> None:
    behaviours = behaviours_for(run.problem)
    method = Projected(dimension=20)
    few = method.estimate_cost(run.problem, 1, behaviours)
    train = run.problem.train.select(torch.zeros(30_000, dtype=torch.int64))
    many = TrainingProblem(MLP, train, run.problem.recipe, run.problem.loss)
    assert method.estimate_cost(many, 4, behaviours).seconds > 10 * few.seconds > 0
    assert few.bytes > 0


def test_settings_that_make_no_sense_are_refused(run: TrainingRun) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Projected(damping=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        Projected(dimension=0)
    with pytest.raises(ValueError, match="unknown storage"):
        scores_of(run, storage="int8")
    with pytest.raises(ValueError, match="unknown projection"):
        scores_of(run, projection="magic")
