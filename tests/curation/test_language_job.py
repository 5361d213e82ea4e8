"""A language model goes the whole way: prompts and completions, a network of its own or an uploaded
one with adapters, behaviours over pasted prompts, influence and a prediction."""

import json

import pytest
from django.core.exceptions import ValidationError

from curation.models import Baseline, BaselineState, Behaviour, Influence, ModelState
from curation.services import (
    behaviours,
    datasets,
    files,
    predictions,
    projects,
    proposals,
    training_setup,
)
from tests.formats.models_fixtures import write_language_model
from tests.running import run_jobs

FACTS = [("The sky is", " blue"), ("Grass is", " green"), ("Snow is", " white")]
COPIES = 10
TINY = {
    "name": "causal_transformer", "tokenizer": "bytes", "width": 16, "heads": 2, "layers": 1,
    "maximum_length": 32,
}  # fmt: skip
WORDS = {"examples": [{"prompt": "The sky is"}], "words": [" blue", " green", " bluer"]}
PASTED = {
    "completion_log_probability": {
        "examples": [
            {"prompt": "The sky is", "completion": " blue"},
            {"prompt": "the sky is", "completion": " blue"},
        ]
    },
    "completion_preference": {
        "examples": [{"prompt": "The sky is", "completion": " blue", "alternative": " green"}]
    },
    "perplexity": {"examples": [{"completion": "Grass is green"}]},
    "token_class_probability": WORDS,
}


def fact_lines() -> bytes:
    """Ten copies of each fact for training, and each once to be held out."""
    rows = [
        {"id": f"{copy}-{place}", "prompt": prompt, "completion": completion,
         "split": "train" if copy < COPIES else "test"}
        for copy in range(COPIES + 1)
        for place, (prompt, completion) in enumerate(FACTS)
    ]  # fmt: skip
    return "\n".join(map(json.dumps, rows)).encode()


def trained_baseline(owner, project, model, **recipe) -> Baseline:
    dataset = datasets.create_dataset(project=project, name="Facts", by=owner)
    source = files.store_bytes(content=fact_lines())
    version, _ = datasets.add_version(
        dataset=dataset, source_file=source, file_name="facts.jsonl", by=owner
    )
    run_jobs(project)
    mapping = {
        "task": "prompt_completion", "prompt": "prompt", "completion": "completion",
        "example_id": "id", "split": "split", "probe_fraction": 0.2, "seed": 0,
    }  # fmt: skip
    datasets.import_version(version=version, column_mapping=mapping, by=owner)
    run_jobs(project)
    version.refresh_from_db()
    settings = {
        "epochs": 4, "batch_size": 6, "learning_rate": 0.01, "epsilon": 1e-6, "warmup_steps": 5,
    }  # fmt: skip
    baseline, _ = training_setup.create_baseline(
        project=project,
        name="Facts",
        dataset_version=version,
        model=model,
        recipe=training_setup.create_recipe(
            project=project, name="Short", settings=settings | recipe, by=owner
        ),
        number_of_seeds=2,
        by=owner,
    )
    run_jobs(project)
    baseline = Baseline.objects.get(pk=baseline.pk)
    assert (baseline.state, baseline.error) == (BaselineState.READY, "")
    return baseline


@pytest.fixture
def project(owner):
    return projects.create_project(name="Language", by=owner)


def built_in_model(project, owner, tmp_path):
    return training_setup.create_model(
        project=project, name="Tiny", architecture=TINY | {"loss_on": "all"}, by=owner
    )


def uploaded_model(project, owner, tmp_path):
    folder = write_language_model(tmp_path / "model")
    stored = {
        path.name: files.store_bytes(content=path.read_bytes()).sha256 for path in folder.iterdir()
    }
    model, _ = training_setup.upload_model(
        project=project, name="GPT-2", files=stored, by=owner, use="language_model",
        trained_part="lora", settings={"lora_rank": 2},
    )  # fmt: skip
    run_jobs(project)
    model.refresh_from_db()
    assert (model.state, model.error) == (ModelState.READY, "")
    return model


@pytest.mark.parametrize("make", [built_in_model, uploaded_model])
def test_removing_a_fact_is_predicted_to_make_its_completion_less_likely(
    project, owner, tmp_path, make
):
    baseline = trained_baseline(owner, project, make(project, owner, tmp_path))
    for kind, definition in PASTED.items():
        behaviours.add_behaviour(
            baseline=baseline, name=kind, kind=kind, by=owner,
            definition={"selection": "pasted", **definition},
        )  # fmt: skip
    behaviours.add_behaviour(
        baseline=baseline, name="held out", kind="completion_log_probability", by=owner,
        definition={"selection": "all"},
    )  # fmt: skip
    behaviours.attribute(baseline=baseline, by=owner)
    assert [job.error for job in run_jobs(project) if job.error] == []
    assert Influence.objects.filter(baseline=baseline).count() == len(PASTED) + 1

    paraphrased = Behaviour.objects.get(name="completion_log_probability")
    assert paraphrased.unit == "nats" and paraphrased.better == "higher"
    for seed, value in paraphrased.values.items():
        rows = paraphrased.prompt_values[seed]
        assert len(rows) == 2 and value == pytest.approx(sum(rows) / 2, rel=1e-5)
    chance = Behaviour.objects.get(name="token_class_probability").values.values()
    assert all(0 < value < 1 for value in chance)

    proposal = proposals.create_proposal(baseline=baseline, name="No sky", by=owner)
    sky = [(3 * copy, f"{copy}-0") for copy in range(COPIES)]
    proposals.set_weights(proposal=proposal, examples=sky, weight=0, by=owner)
    predicted = {
        one.behaviour.name: one.value for one in predictions.predict(proposal=proposal, by=owner)
    }
    assert predicted["completion_log_probability"] < 0
    assert predicted["completion_preference"] < 0
    run_jobs(project)


REFUSALS = [
    ("mean_margin", {"selection": "all"}, "Prompt and completion shows one of"),
    ("completion_preference", {"selection": "all"}, "Paste the prompts"),
    (
        "completion_preference",
        {"selection": "pasted", "examples": [{"prompt": "a", "completion": "b"}]},
        "Example 1: the alternative is empty",
    ),
    (
        "completion_log_probability",
        {"selection": "pasted", "examples": [{"completion": "b"}, {"prompt": "a"}]},
        "Example 2: the completion is empty",
    ),
    (
        "token_class_probability",
        {"selection": "pasted", "examples": [{"prompt": "a"}]},
        "Name between 1 and 100 words",
    ),
]
FORM = {"name": "Mine", "selection": "pasted", "kind": "completion_log_probability"}


def test_what_is_pasted_is_read_line_by_line_and_refused_by_line_and_rule(
    project, owner, tmp_path, client, settings
):
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    model = built_in_model(project, owner, tmp_path)
    baseline = trained_baseline(owner, project, model, epochs=1)
    for kind, definition, says in REFUSALS:
        with pytest.raises(ValidationError) as caught:
            behaviours.add_behaviour(
                baseline=baseline, name="Odd", kind=kind, definition=definition, by=owner
            )
        assert says in str(caught.value)

    client.force_login(owner)
    address = f"/baselines/{baseline.pk}/behaviours/new/"
    assert "Examples that I paste" in client.get(address).content.decode()
    lines = "The sky is => blue\n\nSea? =>green"
    assert client.post(address, FORM | {"pasted": lines}).status_code == 302
    assert Behaviour.objects.get(name="Mine").pasted_examples == [
        {"prompt": "The sky is", "completion": " blue"},
        {"prompt": "Sea? ", "completion": "green"},
    ]
    words = {"kind": "token_class_probability", "pasted": "Sky?", "words": " blue\n green\n"}
    assert client.post(address, FORM | {"name": "Words"} | words).status_code == 302
    assert Behaviour.objects.get(name="Words").definition["words"] == [" blue", " green"]
    preference = {"kind": "completion_preference", "pasted": "\nSky? => blue"}
    for sent, says in (
        (preference, "Line 2: the alternative is empty"),
        ({"pasted": "a => b => c => d"}, "Line 1: there are more than two arrows"),
        (words | {"words": ""}, "Name between 1 and 100 words"),
    ):
        answer = client.post(address, FORM | {"name": "Odd"} | sent)
        assert answer.status_code == 422 and says in answer.content.decode()

    page = client.get(f"/baselines/{baseline.pk}/").content.decode()
    assert "Advised method: Replay" in page and "differentiates the training itself" in page
    behaviours.attribute(baseline=baseline, by=owner)
    run_jobs(project)
    text = client.get(f"/behaviours/{Behaviour.objects.get(name='Mine').pk}/").content.decode()
    assert "Example by example" in text and "The sky is" in text
