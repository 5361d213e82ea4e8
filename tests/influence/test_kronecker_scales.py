"""Solutions over several scales of the blocks are the best of their span under the whole curvature,
however they are computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.influence.test_curvature import explicit_gauss_newton
from tests.influence.test_kronecker import BAG, GPT2, LANGUAGE_MODEL, dense, trained
from tests.training.problems import CONVOLUTIONAL, MLP, RIDGE, TRANSFORMER, problem_of
from workers.influence import kronecker_blocks, kronecker_passes, kronecker_scales
from workers.influence.kronecker import fit_kronecker, plan_blocks
from workers.influence.kronecker_passes import ModelLabels, Passes
from workers.influence.kronecker_scales import SCALES, solve_over_scales
from workers.influence.linearised import Linearised
from workers.training.trainer import train

DAMPING = 0.03


def some_vectors(size: int, number: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(number, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("architecture", [MLP, CONVOLUTIONAL], ids=["mlp", "convolutional"])
def test_no_combination_of_solutions_has_a_lesser_quadratic(architecture: dict) -> None:
    run = train(problem_of(architecture, 12), 3)
    at = Linearised.of(run)
    metric = torch.linspace(0.5, 2, len(at.parameters), dtype=torch.float64)
    matrix = fit_kronecker(at, metric=metric)
    root = matrix.root_metric
    assert root is not None
    vectors = some_vectors(len(root))
    whole = explicit_gauss_newton(run) * torch.outer(root, root)
    whole += DAMPING * torch.eye(len(root), dtype=torch.float64)
    found = solve_over_scales(matrix, vectors, [DAMPING])[0]
    for vector, solution in zip(vectors * root, found / root, strict=True):
        blocks = [
            scale * dense(matrix) + DAMPING * torch.eye(len(root), dtype=torch.float64)
            for scale in SCALES
        ]
        span = torch.stack([torch.linalg.solve(block, vector) for block in blocks])
        best = torch.linalg.lstsq(
            span @ whole @ span.T, (span @ vector)[:, None], driver="gelsd"
        ).solution[:, 0]
        least = span.T @ best
        torch.testing.assert_close(solution, least, rtol=1e-5, atol=1e-8)
        assert solution @ whole @ solution == pytest.approx(float(solution @ vector))


def test_where_the_blocks_are_the_whole_curvature_the_plain_solution_stays() -> None:
    at = Linearised.of(train(problem_of(RIDGE, 12, optimizer="sgd", weight_decay=0.1), 3))
    matrix = fit_kronecker(at)
    vectors = some_vectors(matrix.size)
    found = solve_over_scales(matrix, vectors, [DAMPING, 1.0])
    for one, damping in zip(found, [DAMPING, 1.0], strict=True):
        torch.testing.assert_close(one, matrix.solve(vectors, damping), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "architecture",
    [MLP, CONVOLUTIONAL, TRANSFORMER, BAG, LANGUAGE_MODEL, GPT2],
    ids=["mlp", "convolutional", "transformer", "bag", "tied", "GPT-2"],
)
def test_products_with_gradients_are_those_with_formed_ones(architecture: dict) -> None:
    at = trained(architecture)
    matrix = fit_kronecker(at)
    passes = Passes(at, ModelLabels(at, 0), plan_blocks(at)[0])
    for _, uses in passes:
        for block in matrix.blocks:
            own = uses[block.weight]
            vectors = some_vectors(block.rows * block.columns, 3)
            formed = block.into_basis(block.gradients(own).flatten(0, 1)).flatten(1)
            found = block.products(own, vectors.unflatten(1, (block.rows, block.columns)))
            torch.testing.assert_close(found.flatten(1), vectors @ formed.T)


@pytest.mark.parametrize("architecture", [CONVOLUTIONAL, LANGUAGE_MODEL],
                         ids=["convolutional", "language model"])  # fmt: skip
def test_batches_memory_and_company_change_nothing(
    architecture: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = trained(architecture)
    vectors = some_vectors(len(at.parameters))
    expected = solve_over_scales(fit_kronecker(at), vectors, [DAMPING])[0]
    monkeypatch.setattr(kronecker_passes, "LONGEST_BATCH", 1)
    monkeypatch.setattr(kronecker_passes, "KEPT_BYTES", 0)
    monkeypatch.setattr(kronecker_blocks, "CHUNK_BYTES", 1)
    monkeypatch.setattr(kronecker_scales, "BYTES", 1)
    matrix = fit_kronecker(at)
    for vector, solution in zip(vectors, expected, strict=True):
        found = solve_over_scales(matrix, vector[None], [1.0, DAMPING])[1, 0]
        torch.testing.assert_close(found, solution, rtol=1e-6, atol=1e-9)
