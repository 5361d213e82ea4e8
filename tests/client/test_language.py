"""A language model by the command line: facts are pushed, and behaviours are prompts."""

import json

import pytest

from tests.client.test_whole_job import run  # noqa: F401  a fixture
from tests.curation.test_language_job import TINY, fact_lines

pytestmark = pytest.mark.django_db(transaction=True)


def test_prompts_and_completions_are_behaviours(run, tmp_path):  # noqa: F811
    facts = tmp_path / "facts.jsonl"
    facts.write_bytes(fact_lines())
    version = run("dataset", "push", facts, "--json")
    assert (version["task"], version["train_count"]) == ("prompt_completion", 30)
    settings = [f"{name}={json.dumps(value)}" for name, value in TINY.items() if name != "name"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    run("model", "push", "tiny", "--built-in", TINY["name"], *chosen)
    run("recipe", "create", "short", "--set", "epochs=2", "--set", "learning_rate=0.01")
    options = ["--dataset", "facts", "--model", "tiny", "--recipe", "short", "--seeds", "2"]
    run("baseline", "train", "first", *options)

    def add(name, *words):
        return run("behaviour", "add", name, "--baseline", "first", *words, "--json")

    sky = ("--prompt", "The sky is", "--completion", " blue")
    told = add("sky", *sky)
    assert (told["kind"], told["number_of_examples"]) == ("completion_log_probability", 1)
    assert told["unit"] == "nats"
    preferred = add("blue before green", *sky, "--alternative", " green")
    assert preferred["kind"] == "completion_preference"
    words = add("a colour", "--prompt", "The sky is", "--word", " blue", "--word", " green")
    assert words["kind"] == "token_class_probability"
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "Grass is", "completion": " green"}\n' * 2)
    assert add("grass", "--pasted", file)["number_of_examples"] == 2
    run("behaviour", "add", "odd", "--baseline", "first", *sky, "--prompt", "Snow is", code=2)

    computed = run("influence", "--baseline", "first", "--json")
    assert len(computed) == 4
    effects = run("what-if", "--baseline", "first", "--remove", "0-0", "--json")
    assert {one["behaviour"] for one in effects} == {
        "sky",
        "blue before green",
        "a colour",
        "grass",
    }
