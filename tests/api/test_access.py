"""Every route × every person × every scope, found by walking the routers."""

import re
import uuid

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction

from curation.api import api as hunch_api
from curation.models import Scope
from curation.queries.access import ROLES_WITH_RIGHT, Right
from curation.services import datasets, projects, rate_limits
from tests.api.conftest import Api

pytestmark = pytest.mark.django_db
SCOPES = [str(scope) for scope in Scope]


def routes():
    for bound in hunch_api._get_bound_routers():
        for path, view in bound.path_operations.items():
            for operation in view.operations:
                yield operation.methods[0], path, operation


ROUTES = [(method, path, operation) for method, path, operation in routes()]
WITH_OBJECT = [route for route in ROUTES if "{" in route[1] and "/tokens" not in route[1]]


def scope_of(operation):
    return operation.openapi_extra["x-scope"]


def right_of(method, path, operation):
    """What a role must give, by the kind of route: an independent statement of the rules."""
    nouns = "projects|datasets|versions|models|baselines|proposals"
    if method == "DELETE" and re.fullmatch(rf"/({nouns})/\{{\w+\}}", path):
        return Right.MANAGE
    if (
        "webhook" in path
        or "/deletions/" in path
        or (method != "GET" and re.search(r"members|^/projects/\{project_id\}$", path))
    ):
        return Right.MANAGE
    if scope_of(operation) == Scope.READ:
        return Right.READ
    return Right.REVIEW if scope_of(operation) == Scope.REVIEW else Right.WRITE


def filled(path, objects):
    return re.sub(r"\{(\w+)\}", lambda found: str(objects[found[1]]), path)


def send(client, method, path, operation, objects):
    """The call with a body that is valid where one is needed, so that access alone decides."""
    if operation.operation_id in FORMS:
        name, fields = FORMS[operation.operation_id]
        form = {name: SimpleUploadedFile("a.json", b"{}"), **fields}
        address = "/api/v1" + filled(path, objects)
        answer = client.client.post(address, form, headers=client.headers)
        answer.data = answer.json()
        return answer
    body = BODIES.get(operation.operation_id)
    return client.send(method, filled(path, objects), body(objects) if body else {})


FORMS = {"upload_version": ("file", {}), "upload_model": ("files", {"name": "new"})}
BODIES = {
    "create_project": lambda o: {"name": "new"},
    "change_project": lambda o: {"name": "renamed"},
    "set_member": lambda o: {"username": "stranger", "role": "viewer"},
    "begin_upload": lambda o: {"file_name": "a", "size": 1},
    "send_part": lambda o: b"0123456789",
    "create_dataset": lambda o: {"name": "new"},
    "create_version": lambda o: {"upload": str(o["upload_id"])},
    "import_version": lambda o: {"task": "text_classification"},
    "create_model": lambda o: {"name": "new", "architecture": {"name": "mlp"}},
    "create_uploaded_model": lambda o: {"name": "new", "files": {"a": str(o["upload_id"])}},
    "create_recipe": lambda o: {"name": "new"},
    "train_baseline": lambda o: {
        "name": "new",
        "dataset_version": str(o["version_id"]),
        "model": str(o["model_id"]),
        "recipe": str(o["recipe_id"]),
    },
    "add_behaviour": lambda o: {
        "name": "new",
        "kind": "mean_loss",
        "definition": {"selection": "all"},
    },
    "save_probe_set": lambda o: {"name": "new"},
    "create_proposal": lambda o: {"name": "new"},
    "set_edits": lambda o: {"edits": [{"example_id": "e1", "weight": 0}]},
    "set_matching_edits": lambda o: {"label": "up", "weight": 2},
    "copy_proposal": lambda o: {"name": "new"},
    "predict_what_if": lambda o: {"edits": [{"example_id": "e1", "weight": 0}]},
    "register": lambda o: {"primary_behaviour": str(o["behaviour_id"])},
    "abandon_registration": lambda o: {"reason": "no time"},
    "invalidate_registration": lambda o: {"reason": "wrong data"},
    "review_retrain": lambda o: {"accepted": False, "reason": "the machine failed"},
    "propose_suggestion": lambda o: {"name": "suggested"},
    "record_deviation": lambda o: {"description": "a seed was lost"},
    "create_webhook": lambda o: {"url": "https://example.com", "events": ["job.failed"]},
}


@pytest.fixture(autouse=True)
def no_limits(settings):
    settings.API_REQUESTS_PER_MINUTE = settings.API_STARTS_PER_MINUTE = 1_000_000


def outcomes(client, objects, routes=ROUTES):
    """(route, answer) of each call, each undone so that the next meets the same world."""
    for method, path, operation in routes:
        with transaction.atomic():
            answer = send(client, method, path, operation, objects)
            transaction.set_rollback(True)
        yield f"{method} {path}", operation, answer


def worked(answer):
    """Access was given; what happened then is another test's matter."""
    return answer.status_code not in (401, 403, 404, 405, 429) and answer.status_code < 500


@pytest.mark.parametrize("text", ["", "other", "hunch_0123456789ab_wrong"])
def test_without_a_valid_token_every_route_answers_401(text, world, monkeypatch):
    monkeypatch.setattr(rate_limits, "take", lambda **limit: None)
    answers = list(outcomes(Api(text), world.objects))
    assert len(answers) > 80
    assert {name: a.status_code for name, _, a in answers if a.status_code != 401} == {}
    assert {a["Content-Type"] for _, _, a in answers} == {"application/problem+json"}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_with_one_scope_reaches_its_routes_only(scope, world, api_of):
    wrong = []
    for name, operation, answer in outcomes(api_of(world.owner, scope), world.objects):
        is_right = worked(answer) if scope_of(operation) == scope else answer.status_code == 403
        if not is_right:
            wrong.append((name, answer.status_code, answer.data))
    assert wrong == []


def test_a_token_without_one_scope_misses_its_routes(world, api_of):
    for scope in SCOPES:
        others = [other for other in SCOPES if other != scope]
        routes = [route for route in ROUTES if scope_of(route[2]) == scope]
        for name, _, answer in outcomes(api_of(world.owner, *others), world.objects, routes):
            assert answer.status_code == 403, name
            assert f"“{scope}”" in answer.data["detail"]


def test_a_stranger_cannot_tell_what_is_there_from_what_is_not(world, api_of):
    stranger = api_of(world.people["stranger"])
    missing = {name: uuid.uuid4() for name in world.objects} | {"number": 1, "user_name": "viewer"}
    there = outcomes(stranger, world.objects, WITH_OBJECT)
    not_there = outcomes(stranger, missing, WITH_OBJECT)
    for (name, _, answer), (_, _, nothing) in zip(there, not_there, strict=True):
        assert answer.status_code == 404, (name, answer.data)
        assert answer.content == nothing.content, name


@pytest.mark.parametrize("role", ["owner", "editor", "reviewer", "viewer"])
def test_a_member_may_do_what_the_role_allows(role, world, api_of):
    wrong = []
    client = api_of(world.people[role])
    for name, operation, answer in outcomes(client, world.objects, WITH_OBJECT):
        may = role in ROLES_WITH_RIGHT[right_of(*name.split(" ", 1), operation)]
        if not (worked(answer) if may else answer.status_code == 403):
            wrong.append((name, answer.status_code, answer.data))
    assert wrong == []


def test_ids_of_another_project_in_a_valid_path_are_not_found(world, people, api_of):
    other = projects.create_project(name="Other", by=people["stranger"])
    client = api_of(people["stranger"])
    objects = {name: str(value) for name, value in world.objects.items()}
    for path, body in [
        (f"/projects/{other.pk}/baselines", BODIES["train_baseline"](objects)),
        (
            f"/projects/{other.pk}/models/uploaded",
            {"name": "m", "files": {"config.json": objects["upload_id"]}},
        ),
    ]:
        assert client.post(path, body).status_code == 404
    dataset = datasets.create_dataset(project=other, name="d", by=people["stranger"])
    answer = client.post(f"/datasets/{dataset.pk}/versions", {"upload": objects["upload_id"]})
    assert answer.status_code == 404


def test_every_scope_has_routes_and_every_route_has_a_scope():
    assert {scope_of(operation) for _, _, operation in ROUTES} == set(SCOPES)
