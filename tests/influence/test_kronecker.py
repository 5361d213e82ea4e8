"""The Kronecker-factored curvature equals its definition built densely, example by example with
hooks; it covers every layer that it names, and nothing that should not count moves it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.influence.test_curvature import explicit_gauss_newton
from tests.influence.test_language_models import lengthened
from tests.networks.conftest import TINY_BERT, TINY_GPT2, TINY_LLAMA, language_model, uploaded
from tests.training.problems import (
    ARCHITECTURES,
    BAG,
    CONVOLUTIONAL,
    LANGUAGE_MODEL,
    MLP,
    RIDGE,
    TRANSFORMER,
    examples_for,
    problem_of,
)
from workers.influence import kronecker_blocks, kronecker_passes
from workers.influence.coverage import Coverage, CoverageError, LeftOutParameter
from workers.influence.kronecker import Kronecker, fit_kronecker, plan_blocks
from workers.influence.kronecker_passes import ModelLabels
from workers.influence.linearised import Linearised, curvature_product, square_root_curvature
from workers.training.examples import EncodedExamples
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun, train

GPT2 = uploaded(TINY_GPT2, hidden=[4], pooling="mean")
BERT = uploaded(TINY_BERT, hidden=[], pooling="mean")
UPLOADED = {"GPT-2": GPT2, "BERT": BERT, "Llama": uploaded(TINY_LLAMA, pooling="last")}
WITHOUT_SHARING = {
    name: architecture
    for name, architecture in (ARCHITECTURES | {"GPT-2": GPT2}).items()
    if name not in ("bag", "language model")
}


def problem_with(architecture: dict, number: int = 8) -> TrainingProblem:
    """As `problem_of`, for uploaded models too."""
    if architecture["name"] not in ("transformers", "uploaded_language_model"):
        return problem_of(architecture, number)
    is_classifier = architecture["name"] == "transformers"
    kind, loss = (TRANSFORMER, "cross_entropy") if is_classifier else (LANGUAGE_MODEL, "next_token")
    recipe = Recipe(precision="float64", batch_size=4, epochs=1, learning_rate=0.02)
    return TrainingProblem(architecture, examples_for(kind, number), recipe, loss)


def trained(architecture: dict, number: int = 8, weights: Tensor | None = None) -> Linearised:
    return Linearised.of(train(problem_with(architecture, number), 3, weights))


def dense(matrix: Kronecker) -> Tensor:
    identity = torch.eye(matrix.size, dtype=torch.float64)
    return matrix.apply(identity, lambda values: values)


def matrices_of(network: nn.Module) -> dict[str, nn.Module]:
    """The modules that hold a matrix of the kinds that are covered, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if getattr(module, "weight", None) is not None
        and module.weight.ndim >= 2
        and name != "body.positions"
    }


def inputs_of(module: nn.Module, entered: Tensor) -> Tensor:
    """(T, I) what one example feeds to a matrix, with 1 for the bias."""
    if not entered.is_floating_point():
        return nn.functional.one_hot(entered.flatten().long(), len(module.weight)).double()
    if module.weight.ndim == 4:
        stride = module.stride
        vectors = nn.functional.unfold(entered, 3, padding=1, stride=stride)[0].T
    else:
        vectors = entered.flatten(0, -2)
    if getattr(module, "bias", None) is None:
        return vectors
    return torch.cat([vectors, torch.ones(len(vectors), 1, dtype=vectors.dtype)], 1)


def defined_by_hooks(run: TrainingRun) -> Tensor:
    """EK-FAC as its papers define it, from hooks on one example and one class at a time: the
    factors' eigenbasis, and in it the diagonal of the explicit Gauss–Newton matrix."""
    at = Linearised.of(run)
    at.network.load_state_dict(at.layout.unflatten(at.parameters), strict=False)
    modules = matrices_of(at.network)
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, module in modules.items():
        module.register_forward_hook(
            lambda _module, entered, left, name=name: seen.__setitem__(name, (entered[0], left))
        )
    inner: dict[str, Any] = dict.fromkeys(modules, 0.0)
    outer: dict[str, Any] = dict.fromkeys(modules, 0.0)
    for place in range(len(at.train)):
        outputs = at.network(**at.train.select(torch.tensor([place])).inputs)
        for name, module in modules.items():
            vectors, flows = inputs_of(module, seen[name][0]), torch.tensor(False)
            for root in square_root_curvature(at.problem.loss, outputs.detach())[0]:
                (gradient,) = torch.autograd.grad(
                    outputs, seen[name][1], root[None], retain_graph=True
                )
                is_map = gradient.ndim == 4 and module.weight.ndim == 4
                gradient = gradient[0].flatten(1).T if is_map else gradient.flatten(0, -2)
                flows = flows | (gradient != 0).any(1)
                outer[name] = outer[name] + at.weights[place] * gradient.T @ gradient
            inner[name] = inner[name] + at.weights[place] * vectors[flows].T @ vectors[flows]
    explicit = explicit_gauss_newton(run)
    result = torch.diag(explicit.diagonal())
    for name, module in modules.items():
        taken = at.layout.slices[f"{name}.weight"]
        places = torch.arange(taken.start, taken.stop).reshape(len(module.weight), -1)
        if type(module).__name__ in ("Conv1D", "Embedding"):
            places = places.T  # stored by input
        if getattr(module, "bias", None) is not None:
            taken = at.layout.slices[f"{name}.bias"]
            places = torch.cat([places, torch.arange(taken.start, taken.stop)[:, None]], 1)
        basis = torch.kron(torch.linalg.eigh(outer[name])[1], torch.linalg.eigh(inner[name])[1])
        flat = places.flatten()
        values = (basis.T @ explicit[flat][:, flat] @ basis).diagonal()
        result[flat[:, None], flat] = basis @ torch.diag(values) @ basis.T
    return result.detach()


@pytest.mark.parametrize("architecture", WITHOUT_SHARING.values(), ids=WITHOUT_SHARING)
def test_it_is_what_the_papers_define_layer_by_layer(architecture: dict) -> None:
    weights = torch.linspace(0.5, 2, 6, dtype=torch.float64)
    run = train(problem_with(architecture, 6), 3, weights)
    expected = defined_by_hooks(run)
    found = dense(fit_kronecker(Linearised.of(run)))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * float(expected.max()))


def test_it_is_exact_where_the_curvature_is_a_kronecker_product() -> None:
    regression = train(problem_of(RIDGE, 12), 3)
    single = train(problem_of(ARCHITECTURES["softmax"], 1, batch_size=1), 3)
    for run in (regression, single):
        found = dense(fit_kronecker(Linearised.of(run)))
        torch.testing.assert_close(found, explicit_gauss_newton(run), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["bag", "mlp", "convolutional", "transformer"])
def test_the_corrected_eigenvalues_keep_the_trace(name: str) -> None:
    run = train(problem_of(ARCHITECTURES[name], 8), 3)
    matrix = fit_kronecker(Linearised.of(run))
    assert matrix.trace == pytest.approx(float(explicit_gauss_newton(run).trace()))


@pytest.mark.parametrize("architecture", UPLOADED.values(), ids=UPLOADED)
def test_uploaded_models_are_covered_but_for_their_norms(architecture: dict) -> None:
    coverage = plan_blocks(trained(architecture))[1]
    assert coverage.share > 0.95
    assert {one.reason for one in coverage.left_out} == {"a vector"}
    assert all("norm" in one.name.lower() or ".ln_" in one.name for one in coverage.left_out)


@pytest.mark.parametrize("part", ["all", "lora"])
def test_an_uploaded_language_model_is_covered_with_its_tied_embedding_and_adapters(
    part: str,
) -> None:
    at = trained(language_model(TINY_GPT2, trained_part=part))
    coverage = plan_blocks(at)[1]
    assert {one.reason for one in coverage.left_out} <= {"a vector"}
    matrix = fit_kronecker(at)
    assert torch.isfinite(matrix.solve(torch.ones(1, matrix.size).double(), 0.1)).all()


@pytest.mark.parametrize("architecture", [BAG, LANGUAGE_MODEL, GPT2], ids=["bag", "tied", "GPT-2"])
def test_recorded_uses_add_up_to_each_examples_gradient(architecture: dict) -> None:
    at = trained(architecture)
    blocks, coverage, _ = plan_blocks(at)
    covered = {block.weight for block in blocks} | {block.bias for block in blocks}
    assert not covered & {one.name for one in coverage.left_out}
    assert "body.tokens.weight" in covered or architecture is not LANGUAGE_MODEL


@pytest.mark.parametrize("architecture", [TRANSFORMER, GPT2, UPLOADED["Llama"]],
                         ids=["transformer", "GPT-2", "Llama"])  # fmt: skip
def test_norms_keep_the_diagonal_of_their_recorded_uses(
    architecture: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = trained(architecture)
    vectors = plan_blocks(at)[2]
    assert any("norm" in name or "ln_" in name for name in vectors)
    diagonal = dense(fit_kronecker(at)).diagonal()
    monkeypatch.setattr("workers.influence.kronecker.vector_gradients", lambda recorded: {})
    assert plan_blocks(at)[2] == ()
    torch.testing.assert_close(diagonal, dense(fit_kronecker(at)).diagonal())


def test_a_matrix_that_is_also_used_otherwise_is_left_to_its_diagonal() -> None:
    at = trained(MLP)
    plain = at.network.forward

    def with_a_norm(features: Tensor) -> Tensor:
        return plain(features) + at.network.output.weight.square().sum()

    at.network.forward = with_a_norm  # type: ignore[method-assign]
    blocks, coverage, _ = plan_blocks(at)
    assert [block.weight for block in blocks] == ["hidden.0.weight"]
    assert [(one.name, one.reason) for one in coverage.left_out] == [
        ("output.weight", "also used otherwise than as a matrix"), ("output.bias", "a vector"),
    ]  # fmt: skip


def test_small_coverage_is_refused_in_words() -> None:
    left = tuple(LeftOutParameter(f"part {n}", 15, "a vector") for n in range(6))
    with pytest.raises(CoverageError, match=r"only 10% of the 100 .*part 0 \(a vector\).*1 more"):
        Coverage(100, left).require()
    Coverage(200, left).require()
    assert Coverage(100, left).to_json()["left_out"][0] == {
        "parameter": "part 0", "size": 15, "reason": "a vector", "kept": "diagonal",
    }  # fmt: skip


@pytest.mark.parametrize("architecture", [CONVOLUTIONAL, TRANSFORMER, LANGUAGE_MODEL],
                         ids=["convolutional", "transformer", "language model"])  # fmt: skip
def test_batches_and_memory_change_nothing(
    architecture: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = trained(architecture)
    expected = dense(fit_kronecker(at))
    monkeypatch.setattr(kronecker_passes, "LONGEST_BATCH", 1)
    monkeypatch.setattr(kronecker_passes, "KEPT_BYTES", 0)
    monkeypatch.setattr(kronecker_blocks, "CHUNK_BYTES", 1)
    torch.testing.assert_close(dense(fit_kronecker(at)), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("architecture", [TRANSFORMER, LANGUAGE_MODEL],
                         ids=["transformer", "language model"])  # fmt: skip
def test_padding_changes_nothing(architecture: dict) -> None:
    at = trained(architecture | {"maximum_length": 9})
    longer = padded(at.problem.train)
    moved = TrainingProblem(at.problem.architecture, longer, at.problem.recipe, at.problem.loss)
    other = Linearised(moved, 3, at.parameters)
    torch.testing.assert_close(
        dense(fit_kronecker(other)), dense(fit_kronecker(at)), rtol=1e-8, atol=1e-10
    )


def padded(examples: EncodedExamples) -> EncodedExamples:
    if examples.targets.ndim == 2:
        return lengthened(examples, 3)
    inputs = {name: nn.functional.pad(one, (0, 3)) for name, one in examples.inputs.items()}
    return EncodedExamples(inputs, examples.targets)


def test_a_weight_of_two_is_a_second_copy() -> None:
    problem = problem_of(MLP, 8)
    twice = TrainingProblem(
        MLP, problem.train.select(torch.tensor([*range(8), 0, 1, 2, 3])), problem.recipe,
        problem.loss,
    )  # fmt: skip
    parameters = train(problem, 3).parameters
    weights = torch.tensor([2.0] * 4 + [1.0] * 4)
    weighted = fit_kronecker(Linearised(problem, 3, parameters, weights))
    copied = fit_kronecker(Linearised(twice, 3, parameters))
    # The objective's denominators differ, 8 and 12.
    torch.testing.assert_close(dense(weighted) * 8, dense(copied) * 12)


@pytest.mark.parametrize("loss", ["cross_entropy", "next_token"])
def test_drawn_labels_have_the_second_moment_of_the_loss(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kronecker_passes, "MOST_EXACT_CLASSES", 0)
    at = trained(MLP if loss == "cross_entropy" else LANGUAGE_MODEL, 4)
    indices = torch.arange(4)
    batch = at.train.select(indices)
    outputs = at.outputs(batch.inputs).detach()
    flat = outputs.flatten(1)
    total = torch.zeros(4, flat.shape[1], flat.shape[1], dtype=torch.float64)
    draws = 4000
    for seed in range(draws):
        found = ModelLabels(at, seed).of(indices)(outputs)[0].flatten(1)
        total += found[:, :, None] * found[:, None, :] / draws
    identity = torch.eye(flat.shape[1], dtype=torch.float64)
    directions = identity.reshape(-1, 1, *outputs.shape[1:]).expand(-1, *outputs.shape)
    expected = curvature_product(loss, outputs, batch.targets, directions).flatten(2).movedim(1, 0)
    torch.testing.assert_close(total, expected, rtol=0, atol=0.04)


def test_solving_undoes_the_damped_matrix_in_any_metric() -> None:
    at = trained(CONVOLUTIONAL)
    metric = torch.linspace(0.1, 3, at.parameters.numel(), dtype=torch.float64)
    matrix = fit_kronecker(at, metric=metric)
    vectors = torch.randn(3, matrix.size, dtype=torch.float64)
    solved = matrix.solve(vectors, 0.3)
    back = matrix.apply(solved, lambda values: values) + 0.3 * solved
    torch.testing.assert_close(back, vectors)


def test_a_metric_that_is_a_product_only_changes_units() -> None:
    at = trained(MLP)
    matrix = fit_kronecker(at)
    scaled = fit_kronecker(at, metric=torch.full_like(at.parameters, 4.0))
    assert scaled.trace == pytest.approx(4 * matrix.trace)
    assert scaled.root_metric is not None
    torch.testing.assert_close(scaled.root_metric, torch.full_like(at.parameters, 2.0))
    torch.testing.assert_close(dense(scaled), 4 * dense(matrix))
