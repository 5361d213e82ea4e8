"""Filters and sort orders go through fixed names, and ids of another project lead nowhere."""

import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from curation.api import api as hunch_api
from curation.models import Edit, Job, Proposal
from tests.api.conftest import Api, api_of
from tests.api.test_access import ROUTES, filled
from tests.api.world import World, make_world
from tests.web.addresses import readable_pages

__all__ = ["api_of"]

# Names that reach other fields or tables where a filter is built from the request's own names.
REACHING = {
    "created_by__password__startswith": "a",
    "created_by__password": "argon2",
    "project__memberships__user__username": "owner",
    "sort": "created_by__password",
    "order": "-created_by__password",
    "order_by": "created_by__password",
    "o": "created_by__password",
    "filter": "password",
    "attribute_x'); SELECT 1; --": "1",
}
UUID_FORMAT = "uuid"


@pytest.fixture
def attacker(world: World) -> World:
    """Someone with a project of the same shape, who knows every id of the first one."""
    users = get_user_model()
    names = ("owner", "editor", "reviewer", "viewer")
    return make_world({name: users.objects.create(username=f"other {name}") for name in names})


@pytest.mark.parametrize("name", REACHING)
def test_a_parameter_of_a_page_reaches_no_other_field(
    world: World, owner: Client, name: str, django_assert_max_num_queries: Any
) -> None:
    for page in readable_pages(world):
        before = owner.get(page.address)
        joined = "&" if "?" in page.address else "?"
        after = owner.get(f"{page.address}{joined}", {name: REACHING[name]})
        assert after.status_code in (before.status_code, 404), page


def test_a_parameter_of_the_api_that_is_not_declared_is_refused(world: World, api_of: Any) -> None:
    client: Api = api_of(world.owner)
    asked = 0
    for path in [path for method, path, _ in ROUTES if method == "GET"]:
        address = "/api/v1" + filled(path, world.objects)
        for name, value in REACHING.items():
            answer = client.client.get(address, {name: value}, headers=client.headers)
            assert answer.status_code in (404, 409, 422), (path, name, answer.status_code)
            asked += 1
    assert asked > 300


def test_a_filter_of_the_review_site_cannot_reach_a_password(world: World) -> None:
    staff = Client()
    staff.force_login(get_user_model().objects.create_superuser("operator"))
    for model in admin.site._registry:
        here = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        for name in ("password__startswith", "created_by__password__startswith", "actor__password"):
            answer = staff.get(here, {name: "a"})
            assert answer.status_code in (302, 400), (here, name)


def uuid_fields(api_schema: dict[str, Any]) -> set[tuple[str, str]]:
    """(operation, field) of every id that a query or a body of the API may carry."""
    parts = api_schema["components"]["schemas"]

    def names(schema: Any, seen: tuple[str, ...] = ()) -> set[str]:
        if "$ref" in schema:
            name = schema["$ref"].rsplit("/", 1)[-1]
            return set() if name in seen else names(parts[name], (*seen, name))
        found = {"" for _ in [0] if schema.get("format") == UUID_FORMAT}
        for option in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
            found |= names(option, seen)
        for name, below in schema.get("properties", {}).items():
            found |= {name for _ in names(below, seen)}
        for below in (schema.get("items"), schema.get("additionalProperties")):
            if isinstance(below, dict):
                found |= names(below, seen)
        return found

    fields = set()
    for methods in api_schema["paths"].values():
        for operation in methods.values():
            schemas = [
                {"properties": {p["name"]: p["schema"]}}
                for p in operation.get("parameters", [])
                if p["in"] == "query"
            ]
            body = operation.get("requestBody", {}).get("content", {})
            for schema in (*schemas, *(content["schema"] for content in body.values())):
                fields |= {(operation["operationId"], name) for name in names(schema)}
    return fields


def calls_with_anothers_ids(a: dict[str, Any], v: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """(operation, field) → (path, body) in the attacker's own project `a`, with the victim's id."""
    versions = f"/datasets/{a['dataset_id']}/versions"
    models = f"/projects/{a['project_id']}/models/uploaded"
    proposal = f"/proposals/{a['proposal_id']}"
    baseline = {
        "name": "b",
        "dataset_version": a["version_id"],
        "model": a["model_id"],
        "recipe": a["recipe_id"],
    }
    behaviour = f"?primary_behaviour={v['behaviour_id']}"
    measured = f"?baseline={v['baseline_id']}"
    return {
        ("create_version", "upload"): (versions, {"upload": v["upload_id"]}),
        ("create_version", "parent"): (
            versions, {"upload": a["upload_id"], "parent": v["version_id"]}),
        ("upload_version", "parent"): (versions + "/file", {"parent": v["version_id"]}),
        ("create_uploaded_model", "files"): (
            models, {"name": "m", "files": {"config.json": v["upload_id"]}}),
        ("train_baseline", "dataset_version"): (
            f"/projects/{a['project_id']}/baselines",
            baseline | {"dataset_version": v["version_id"]}),
        ("train_baseline", "model"): (
            f"/projects/{a['project_id']}/baselines", baseline | {"model": v["model_id"]}),
        ("train_baseline", "recipe"): (
            f"/projects/{a['project_id']}/baselines", baseline | {"recipe": v["recipe_id"]}),
        ("suggest_edits", "guards"): (
            f"/behaviours/{a['behaviour_id']}/suggestions",
            {"guards": [{"behaviour": v["behaviour_id"]}]}),
        ("check_labels", "encoder"): (
            f"/baselines/{a['baseline_id']}/label-check", {"encoder": v["model_id"]}),
        ("register", "primary_behaviour"): (
            proposal + "/registrations", {"primary_behaviour": v["behaviour_id"]}),
        ("show_checklist", "primary_behaviour"): (proposal + "/checklist" + behaviour, None),
        ("export_issues", "influence"): (
            proposal + f"/export/issues?influence={v['influence_id']}", None),
        ("list_examples", "baseline"): (f"/versions/{a['version_id']}/examples{measured}", None),
        ("list_scored_examples", "baseline"): (
            f"/influences/{a['influence_id']}/examples{measured}", None),
        ("save_probe_set", "baseline"): (
            f"/versions/{a['version_id']}/probe-sets{measured}&loss_from=0", {"name": "p"}),
        ("list_jobs", "target"): (
            f"/projects/{a['project_id']}/jobs?target={v['baseline_id']}", None),
    }  # fmt: skip


def test_ids_of_another_project_in_a_valid_path_are_not_found(
    world: World, attacker: World, api_of: Any
) -> None:
    mine, theirs = (
        {name: str(value) for name, value in one.objects.items()} for one in (attacker, world)
    )
    calls = calls_with_anothers_ids(mine, theirs)
    assert set(calls) == uuid_fields(hunch_api.get_openapi_schema())
    client: Api = api_of(attacker.owner)
    missing = calls_with_anothers_ids(mine, {name: str(uuid.uuid4()) for name in theirs})
    for key, (path, body) in calls.items():
        if key[0] == "upload_version":
            form = body | {"file": SimpleUploadedFile("a.csv", b"text,label\na,b\n")}
            answer = client.client.post("/api/v1" + path, form, headers=client.headers)
        else:
            answer = client.send("GET" if body is None else "POST", path, body)
        if key == ("list_jobs", "target"):
            assert answer.data["items"] == []
            continue
        assert answer.status_code in (404, 422), (key, answer.content)
        if key[0] != "upload_version":
            unknown = client.send("GET" if body is None else "POST", *missing[key])
            assert unknown.status_code == answer.status_code, key
            assert str(unknown.data).count("-") == str(answer.data).count("-"), key


def test_ids_of_another_project_in_a_page_s_form_lead_nowhere(
    world: World, attacker: World
) -> None:
    browser = Client()
    browser.force_login(attacker.owner)
    mine, theirs = attacker.objects, world.objects
    before = Edit.objects.count(), Proposal.objects.count(), Job.objects.count()
    choice = "Select a valid choice"
    for path, values, expected in [
        (f"/versions/{mine['version_id']}/examples/edit/",
         {"proposal": theirs["proposal_id"], "example": "e1", "weight": "0"}, 404),
        (f"/proposals/{mine['proposal_id']}/most/",
         {"behaviour": theirs["behaviour_id"], "which": "harmful", "count": 2, "weight": 0},
         choice),
        (f"/projects/{mine['project_id']}/baselines/new/",
         {"name": "b", "dataset_version": theirs["version_id"], "model": theirs["model_id"],
          "recipe": theirs["recipe_id"]}, choice),
        (f"/proposals/{mine['proposal_id']}/register/",
         {"primary_behaviour": theirs["behaviour_id"], "number_of_seeds": 4}, choice),
        (f"/behaviours/{mine['behaviour_id']}/suggest/",
         {"guards": theirs["behaviour_id"], "number_of_edits": 2, "new_weight": 0}, choice),
    ]:  # fmt: skip
        answer = browser.post(path, values, follow=True)
        if expected == 404:
            assert answer.status_code == 404, path
        else:
            assert expected in answer.content.decode(), path
    assert (Edit.objects.count(), Proposal.objects.count(), Job.objects.count()) == before


def test_ids_of_another_project_in_a_page_s_address_show_nothing(
    world: World, attacker: World
) -> None:
    world.project.name = world.behaviour.name = world.baseline.name = "unmistakable"
    world.proposal.name = world.dataset.name = "unmistakable"
    for thing in (world.project, world.behaviour, world.baseline, world.proposal, world.dataset):
        thing.save()
    browser = Client()
    browser.force_login(attacker.owner)
    parameters = {
        "behaviour": world.behaviour.pk, "proposal": world.proposal.pk, "base": world.version.pk,
        "baseline": world.baseline.pk, "dataset_version": world.version.pk,
        "model": world.objects["model_id"], "recipe": world.objects["recipe_id"],
    }  # fmt: skip
    for page in readable_pages(attacker):
        for name, value in parameters.items():
            answer = browser.get(page.address, {name: value} | {"id": "e1"})
            assert "unmistakable" not in answer.getvalue().decode(errors="replace"), (page, name)
