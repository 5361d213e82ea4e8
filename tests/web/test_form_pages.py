"""The forms of datasets, models, recipes and behaviours: what they send on and what they refuse."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from curation.api.training import RecipeSettings
from curation.models import Behaviour, DatasetVersion, Job, Model, Project, Recipe, VersionState
from curation.web.forms.models import RecipeForm
from tests.api.world import World
from workers.training.recipe import Recipe as TrainerRecipe

COLUMNS = [
    {"name": "body", "type": "text", "distinct": 9, "missing": 0, "examples": []},
    {"name": "mood", "type": "category", "distinct": 2, "missing": 1, "examples": []},
    {"name": "age", "type": "integer", "distinct": 9, "missing": 0, "examples": []},
]


@pytest.fixture
def inspected(world: World) -> DatasetVersion:
    return DatasetVersion.objects.create(
        dataset=world.dataset,
        number=2,
        state=VersionState.INSPECTED,
        file_name="moods.csv",
        inspection={
            "columns": COLUMNS,
            "preview": [["<b>fine</b>", None, "3"]],
            "suggested_mapping": {"task": "text_classification", "text": "body", "label": "mood"},
        },
        created_by=world.owner,
    )


def test_the_form_and_the_api_offer_the_trainer_s_own_defaults() -> None:
    defaults = TrainerRecipe().to_json()
    assert RecipeSettings().model_dump() == defaults
    for name, field in RecipeForm.base_fields.items():
        if name in defaults and field.initial is not None:
            assert field.initial == defaults[name], name


class TestColumns:
    def test_the_guess_is_chosen_and_the_first_rows_are_shown_escaped(
        self, inspected: DatasetVersion, owner: Client
    ) -> None:
        text = owner.get(f"/versions/{inspected.pk}/columns/").content.decode()
        assert '<option value="body" selected>' in text
        assert "&lt;b&gt;fine&lt;/b&gt;" in text

    def test_only_the_parts_of_the_task_are_sent_on(
        self, inspected: DatasetVersion, owner: Client
    ) -> None:
        values = {"task": "text", "text": "body", "label": "mood", "probe_fraction": "0.25"}
        owner.post(f"/versions/{inspected.pk}/columns/", values)
        inspected.refresh_from_db()
        assert inspected.state == VersionState.IMPORTING
        assert inspected.column_mapping == {
            "task": "text", "text": "body", "probe_fraction": 0.25,
        }  # fmt: skip
        assert Job.objects.filter(target_id=inspected.pk, kind="import_dataset").count() == 1

    def test_tabular_data_maps_several_numeric_columns(
        self, inspected: DatasetVersion, owner: Client
    ) -> None:
        values = {"task": "tabular_classification", "features": ["age"], "label": "mood"}
        owner.post(f"/versions/{inspected.pk}/columns/", values | {"probe_fraction": "0.2"})
        inspected.refresh_from_db()
        assert inspected.column_mapping["features"] == ["age"]

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"task": "text_classification", "text": "body"}, "Choose this for text"),
            ({"task": "text", "text": "other"}, "Select a valid choice"),
            ({"task": "prompt_completion"}, "a prompt and a completion, or a conversation"),
            ({"task": "image_classification", "image_shape": "1, 2"}, "three whole numbers"),
            ({"task": "text", "text": "body", "probe_fraction": "2"}, "less than or equal to 0.9"),
        ],
    )
    def test_what_is_missing_stands_at_its_field(
        self, inspected: DatasetVersion, owner: Client, values: dict[str, str], says: str
    ) -> None:
        sent = {"probe_fraction": "0.2"} | values
        answer = owner.post(f"/versions/{inspected.pk}/columns/", sent)
        assert answer.status_code == 422
        assert says in answer.content.decode()
        assert 'aria-invalid="true"' in answer.content.decode()


def test_a_file_above_the_limit_is_refused_before_anything_is_kept(
    world: World, owner: Client, settings: Any
) -> None:
    settings.UPLOAD_MAX_BYTES = 10
    file = SimpleUploadedFile("big.csv", b"a" * 11)
    here = f"/projects/{world.project.pk}/datasets/new/"
    answer = owner.post(here, {"name": "Big", "file": file})
    assert answer.status_code == 422
    assert "at most 10\u00a0bytes" in answer.content.decode()
    assert Project.objects.get().datasets.count() == 1


def test_an_empty_file_and_a_taken_name_are_refused(world: World, owner: Client) -> None:
    here = f"/projects/{world.project.pk}/datasets/new/"
    empty = owner.post(here, {"name": "Empty", "file": SimpleUploadedFile("e.csv", b"")})
    assert "empty" in empty.content.decode()
    taken = {"name": world.dataset.name, "file": SimpleUploadedFile("a.csv", b"a,b\n1,2\n")}
    assert owner.post(here, taken).status_code == 422
    assert Project.objects.get().datasets.count() == 1


class TestModels:
    def test_a_network_keeps_its_own_settings_alone(self, world: World, owner: Client) -> None:
        here = f"/projects/{world.project.pk}/models/new/"
        values = {"name": "Small", "network": "mlp", "mlp_hidden": "32, 16"}
        owner.post(here, values | {"transformer_width": "not a number"})
        made = Model.objects.get(name="Small")
        assert made.architecture == {"name": "mlp", "hidden": [32, 16], "activation": "gelu"}

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"network": "mlp", "mlp_hidden": "0"}, "whole numbers between 1 and 4096"),
            ({"network": "bag_of_embeddings", "bag_of_embeddings_buckets": "100"}, "power of two"),
            ({"network": "transformer", "transformer_heads": "3"}, "multiple of the heads"),
            ({"network": "none"}, "Select a valid choice"),
        ],
    )
    def test_settings_out_of_bounds_are_refused_at_their_field(
        self, world: World, owner: Client, values: dict[str, str], says: str
    ) -> None:
        here = f"/projects/{world.project.pk}/models/new/"
        answer = owner.post(here, {"name": "Odd"} | values)
        assert answer.status_code == 422
        assert says in answer.content.decode()

    def test_an_upload_keeps_every_file_under_its_name_and_is_checked(
        self, world: World, owner: Client
    ) -> None:
        here = f"/projects/{world.project.pk}/models/upload/"
        files = [
            SimpleUploadedFile("config.json", b"{}"),
            SimpleUploadedFile("model.safetensors", b"00000000"),
        ]
        values = {"name": "Mine", "model_files": files, "trained_part": "head"}
        answer = owner.post(here, values, follow=True)
        made = Model.objects.get(name="Mine")
        assert set(made.files) == {"config.json", "model.safetensors"}
        assert Job.objects.filter(target_id=made.pk, kind="check_model").exists()
        assert "Being checked" in answer.content.decode()

    def test_two_files_of_one_name_and_none_at_all_are_refused(
        self, world: World, owner: Client
    ) -> None:
        here = f"/projects/{world.project.pk}/models/upload/"
        twice = [SimpleUploadedFile("a.json", b"{}"), SimpleUploadedFile("a.json", b"[]")]
        values = {"name": "Twice", "trained_part": "head"}
        answer = owner.post(here, values | {"model_files": twice})
        assert "same name" in answer.content.decode()
        assert owner.post(here, values).status_code == 422
        assert not Model.objects.filter(name="Twice").exists()


def test_a_recipe_holds_the_fields_of_its_optimizer(world: World, owner: Client) -> None:
    values = {
        "name": "Momentum", "optimizer": "sgd", "learning_rate": "0.1", "schedule": "cosine",
        "warmup_steps": "5", "batch_size": "8", "epochs": "3", "weight_decay": "0",
        "momentum": "0.5", "beta1": "0.9", "dropout": "0",
    }  # fmt: skip
    owner.post(f"/projects/{world.project.pk}/recipes/new/", values)
    settings = Recipe.objects.get(name="Momentum").settings
    assert settings["momentum"] == 0.5
    assert "beta1" not in settings


class TestBehaviours:
    def test_pasted_lines_may_hold_commas_and_quotes(self, world: World, owner: Client) -> None:
        pasted = 'up, well, that is fine\ndown,"bad, very"\n\n'
        values = {"name": "Mine", "selection": "pasted", "pasted": pasted, "kind": "mean_loss"}
        owner.post(f"/baselines/{world.baseline.pk}/behaviours/new/", values)
        assert Behaviour.objects.get(name="Mine").pasted_examples == [
            {"label": "up", "text": "well, that is fine"},
            {"label": "down", "text": "bad, very"},
        ]

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"selection": "pasted", "pasted": "no comma"}, "Line 1: write the label"),
            ({"selection": "pasted", "pasted": "sideways, x"}, "not one of down, up"),
            ({"selection": "slice", "attribute": "attribute_source", "value": "?"}, "No probe"),
            ({"selection": "all", "name": "margin"}, "already exists"),
        ],
    )
    def test_a_refusal_stands_on_the_page(
        self, world: World, owner: Client, values: dict[str, str], says: str
    ) -> None:
        sent = {"name": "Odd", "kind": "mean_margin"} | values
        answer = owner.post(f"/baselines/{world.baseline.pk}/behaviours/new/", sent)
        assert answer.status_code == 422
        assert says in answer.content.decode()

    def test_one_click_adds_one_for_each_class_once(self, world: World, owner: Client) -> None:
        here = f"/baselines/{world.baseline.pk}/behaviours/classes/"
        owner.post(here)
        owner.post(here)
        names = set(Behaviour.objects.values_list("name", flat=True))
        assert names == {"margin", "All probe examples: margin", "down: margin", "up: margin"}
