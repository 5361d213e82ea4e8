"""Every network family: weights from the seed alone, examples that do not touch each other, and the
derivatives that replay and batched retrains take."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from workers.training.networks.registry import (
    ARCHITECTURES,
    UPLOADED,
    ArchitectureError,
    architectures_for,
    build_network,
    default_architecture,
    validate_architecture,
)

TOLERANCE = {"rtol": 1e-9, "atol": 1e-11}


def trained(network: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def double(case, seed=0):
    return build_network(case.architecture, seed, torch.float64)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(case):
    first, again, other = (
        build_network(case.architecture, seed).state_dict() for seed in (5, 5, 6)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_neither_reads_nor_moves_the_random_state_of_the_process(case):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_network(case.architecture, 5).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = build_network(case.architecture, 5).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_one_seed_means_one_network_in_both_precisions(case):
    single = build_network(case.architecture, 5).state_dict()
    wide = build_network(case.architecture, 5, torch.float64).state_dict()
    for name, value in single.items():
        if value.is_floating_point() and "inv_freq" not in name:
            assert wide[name].dtype == torch.float64
            assert torch.equal(value.double(), wide[name])


def test_an_example_does_not_feel_the_rest_of_its_batch(case):
    network = double(case)
    together = network(**case.inputs)
    for row in range(len(case.targets)):
        alone = network(**{name: value[row : row + 1] for name, value in case.inputs.items()})
        torch.testing.assert_close(alone[0], together[row], **TOLERANCE)


def test_padding_changes_no_output(text_case):
    network = double(text_case)
    inputs = text_case.inputs
    longer = {name: nn.functional.pad(value, (0, 3)) for name, value in inputs.items()}
    # Whatever stands in the padding must not matter either, save for the id that uploaded models
    # reserve for it.
    if text_case.architecture["name"] not in UPLOADED:
        longer["ids"] = torch.where(longer["ids"] == 0, 9, longer["ids"])
    plain, padded = network(**inputs), network(**longer)
    if plain.ndim == 3:
        kept = inputs["mask"]
        plain, padded = plain[kept], padded[:, : plain.shape[1]][kept]
    torch.testing.assert_close(padded, plain, **TOLERANCE)


def test_every_trained_parameter_has_a_gradient(case):
    network = double(case)
    loss = case.losses(network(**case.inputs)).sum()
    gradients = torch.autograd.grad(loss, list(trained(network).values()))
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def test_batched_second_derivatives_equal_those_one_by_one(case):
    """The pullback of a training step, as replay takes it for several behaviours at once."""
    network = double(case)
    parameters = list(trained(network).values())
    weights = torch.linspace(0.5, 2, len(case.targets), dtype=torch.float64, requires_grad=True)
    targets = case.targets.double() if case.loss == "squared_error" else case.targets
    losses = type(case)(case.architecture, case.inputs, targets, case.loss).losses(
        network(**case.inputs)
    )
    gradients = torch.autograd.grad(weights @ losses, parameters, create_graph=True)
    generator = torch.Generator().manual_seed(3)
    cotangents = [
        torch.randn(4, *gradient.shape, dtype=torch.float64, generator=generator)
        for gradient in gradients
    ]
    wanted = [*parameters, weights]
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    batched = torch.autograd.grad(gradients, wanted, cotangents, is_grads_batched=True, **options)
    for place in range(4):
        single = torch.autograd.grad(
            gradients, wanted, [cotangent[place] for cotangent in cotangents], **options
        )
        for many, one in zip(batched, single, strict=True):
            torch.testing.assert_close(many[place], one, **TOLERANCE)


def test_the_second_derivative_equals_finite_differences_of_the_gradient(case):
    network = double(case)
    names, parameters = zip(*trained(network).items(), strict=True)
    generator = torch.Generator().manual_seed(4)
    direction = [torch.randn(p.shape, dtype=torch.float64, generator=generator) for p in parameters]

    def gradient(step: float) -> list[Tensor]:
        moved = {
            name: (p + step * d).detach().requires_grad_()
            for name, p, d in zip(names, parameters, direction, strict=True)
        }
        outputs = functional_call(network, moved, (), case.inputs)
        return list(
            torch.autograd.grad(case.losses(outputs).sum(), list(moved.values()), create_graph=True)
        )

    step = 1e-6
    difference = [
        (up - down) / (2 * step) for up, down in zip(gradient(step), gradient(-step), strict=True)
    ]
    outputs = functional_call(network, dict(zip(names, parameters, strict=True)), (), case.inputs)
    first = torch.autograd.grad(case.losses(outputs).sum(), parameters, create_graph=True)
    exact = torch.autograd.grad(
        first, parameters, direction, allow_unused=True, materialize_grads=True
    )
    scale = max(float(value.detach().abs().max()) for value in exact)
    for close, true in zip(difference, exact, strict=True):
        assert float((close - true).detach().abs().max()) <= 1e-5 * max(scale, 1.0)


def test_gradients_of_several_weight_sets_in_one_program_equal_those_one_by_one(case):
    networks = [double(case, seed) for seed in (1, 2)]
    stacked = {
        name: torch.stack([trained(network)[name].detach() for network in networks])
        for name in trained(networks[0])
    }
    frozen_differ = case.architecture.get("trained_part") in ("last_layers", "lora")

    def loss(parameters: dict[str, Tensor], inputs: dict[str, Tensor]) -> Tensor:
        return case.losses(functional_call(networks[0], parameters, (), inputs)).sum()

    many = vmap(grad(loss), in_dims=(0, None))(stacked, case.inputs)
    for place, network in enumerate(networks):
        if frozen_differ and place:
            continue
        one = grad(loss)({name: p.detach() for name, p in trained(network).items()}, case.inputs)
        for name in one:
            torch.testing.assert_close(many[name][place], one[name], **TOLERANCE)


def test_a_causal_model_never_looks_ahead():
    from tests.networks.conftest import CASES

    for name in ("causal_transformer", "language model gpt2", "uploaded gpt2", "uploaded llama"):
        case = CASES[name]
        network = double(case)
        changed = case.inputs["ids"].clone()
        changed[0, 5:] = 7
        if case.loss == "next_token":
            before, after = (
                network(ids=ids, mask=case.inputs["mask"])[0]
                for ids in (case.inputs["ids"], changed)
            )
        else:
            from workers.training.networks.uploaded import hidden_states

            before, after = (
                hidden_states(network.backbone, ids, case.inputs["mask"])[0]
                for ids in (case.inputs["ids"], changed)
            )
        torch.testing.assert_close(after[:5], before[:5], **TOLERANCE)
        assert not torch.allclose(after[5:], before[5:])


def test_softmax_regression_is_a_linear_map():
    network = build_network(
        {"name": "softmax_regression", "number_of_features": 3, "number_of_outputs": 2}, 0
    )
    features = torch.randn(4, 3)
    expected = features @ network.output.weight.T + network.output.bias
    torch.testing.assert_close(network(features), expected)


def test_our_attention_equals_torchs_own():
    from workers.training.networks.transformer import SelfAttention

    generator = torch.Generator().manual_seed(0)
    ours = SelfAttention(8, 2, 1, generator).double()
    peer = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        peer.in_proj_weight.copy_(ours.query_key_value.weight)
        peer.in_proj_bias.copy_(ours.query_key_value.bias)
        peer.out_proj.weight.copy_(ours.output.weight)
        peer.out_proj.bias.copy_(ours.output.bias)
    values = torch.randn(3, 5, 8, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([[5], [3], [1]])
    blocked = (~mask[:, None, None, :]).double() * -1e9
    expected, _ = peer(values, values, values, key_padding_mask=~mask)
    torch.testing.assert_close(ours(values, blocked), expected, **TOLERANCE)


def test_only_the_last_layers_and_the_head_are_trained():
    from tests.networks.conftest import CASES

    names = set(trained(double(CASES["uploaded last layers"])))
    assert {name.split(".")[0] for name in names} == {"backbone", "head"}
    assert {name.split(".")[3] for name in names if name.startswith("backbone")} == {"1"}


def test_more_last_layers_than_the_model_has_are_refused():
    from tests.networks.conftest import CASES

    architecture = CASES["uploaded last layers"].architecture | {"last_layers": 3}
    with pytest.raises(ArchitectureError, match=r"last_layers.*has 2 layers"):
        build_network(architecture, 0)


# The registry


def test_each_task_has_a_suggested_network_that_fits_it():
    for task in (
        "text_classification",
        "tabular_classification",
        "tabular_regression",
        "image_classification",
        "text",
        "prompt_completion",
    ):
        entries = architectures_for(task)
        assert entries and all(task in entry.tasks for entry in entries)
    assert architectures_for("text_classification")[0].name == "bag_of_embeddings"


def test_every_network_explains_itself_in_one_sentence():
    for name, entry in ARCHITECTURES.items():
        assert entry.name == name and entry.title and entry.explanation.endswith(".")
        assert len({setting.name for setting in entry.settings}) == len(entry.settings)


def test_defaults_hold_every_setting_and_the_sizes_that_the_metadata_tells():
    metadata = {"task": "tabular_classification", "classes": ["a", "b"], "feature_names": ["x"]}
    architecture = default_architecture("mlp", metadata)
    assert architecture["number_of_outputs"] == 2 and architecture["number_of_features"] == 1
    validate_architecture(architecture, complete=True)
    build_network(architecture, 0)


@pytest.mark.parametrize(
    ("architecture", "field"),
    [
        ({}, "name"),
        ({"name": "resnet"}, "name"),
        ({"name": ["mlp"]}, "name"),
        ({"name": "mlp", "depth": 3}, "depth"),
        ({"name": "mlp", "hidden": 64}, "hidden"),
        ({"name": "mlp", "hidden": [0]}, "hidden"),
        ({"name": "mlp", "hidden": [64.0]}, "hidden"),
        ({"name": "mlp", "hidden": [True]}, "hidden"),
        ({"name": "mlp", "hidden": [8] * 9}, "hidden"),
        ({"name": "mlp", "activation": "relu"}, "activation"),
        ({"name": "mlp", "activation": []}, "activation"),
        ({"name": "mlp", "standardise": 1}, "standardise"),
        ({"name": "mlp", "number_of_features": 10**9}, "number_of_features"),
        ({"name": "transformer", "width": 10, "heads": 4}, "heads"),
        ({"name": "bag_of_embeddings", "buckets": 1000}, "buckets"),
        ({"name": "convolutional", "image_shape": [3, 8]}, "image_shape"),
        ({"name": "transformers", "trained_part": "some"}, "trained_part"),
        ({"name": "transformers", "model_configuration": "bert"}, "model_configuration"),
    ],
)
def test_a_wrong_setting_is_named(architecture, field):
    with pytest.raises(ArchitectureError) as caught:
        validate_architecture(architecture)
    assert caught.value.field == field


def test_a_network_without_its_sizes_is_refused_by_name():
    with pytest.raises(ArchitectureError) as caught:
        build_network({"name": "mlp", "number_of_outputs": 2}, 0)
    assert caught.value.field == "number_of_features"


def test_a_network_for_another_task_is_refused():
    with pytest.raises(ArchitectureError, match="does not fit"):
        default_architecture("convolutional", {"task": "text_classification", "classes": ["a"]})
