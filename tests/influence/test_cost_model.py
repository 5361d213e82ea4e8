"""The modelled costs follow their formulas, and the documentation prints what the code computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from workers.influence.cost_model import (
    LLAMA_7B,
    Accelerator,
    MethodCost,
    Size,
    markdown_table,
    method_costs,
    projected_operations,
)
from workers.influence.registry import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "operations-cost.md"


def costs(size: Size) -> dict[str, MethodCost]:
    return {one.method: one for one in method_costs(size)}


def test_one_training_run_is_six_operations_for_each_parameter_and_token() -> None:
    size = Size(parameters=10, examples=7, tokens=3)
    assert size.training_run == 6 * 10 * 7 * 3
    assert Accelerator(peak=100, utilisation=0.5).hours(50 * 3600) == 1


def test_the_matrices_are_those_of_a_model_of_seven_billion() -> None:
    assert len(LLAMA_7B) == 224
    assert sum(out * inner for out, inner in LLAMA_7B) == pytest.approx(6.5e9, rel=0.01)


def test_projected_gradients_of_one_small_matrix_by_hand() -> None:
    size = Size(parameters=12, examples=5, tokens=2, matrices=[(4, 3)], dimension=1)
    # 8 = 8 · 1 entries before the sketch: two sides of ⌊√8⌋ = 2.
    assert projected_operations(size) == 3 * 2 * 12 * 10 + 2 * 2 * 2 * (4 + 3 + 2) * 10 + 2 * 5
    assert costs(size)["projected"].kept_bytes == 2 * 5 + 8


def test_further_behaviours_are_cheap_only_where_gradients_are_kept() -> None:
    found = costs(Size())
    assert found["projected"].further_operations < found["projected"].operations / 1_000
    for name in ("gradient_dot", "ekfac", "curvature", "replay"):
        assert found[name].further_operations > found[name].operations / 3


@pytest.mark.parametrize("name", ["projected", "gradient_dot", "checkpoints", "replay"])
def test_twice_the_examples_cost_about_twice(name: str) -> None:
    once, twice = costs(Size()), costs(replace(Size(), examples=2e8))
    assert twice[name].operations == pytest.approx(2 * once[name].operations, rel=0.01)


def test_every_method_of_the_model_is_one_of_hunch() -> None:
    assert set(costs(Size())) - {"frozen features, head", "ekfac"} <= set(METHODS)


def test_the_page_prints_the_table_that_the_code_computes() -> None:
    assert markdown_table(Size(), Accelerator()) in PAGE.read_text(encoding="utf-8")
