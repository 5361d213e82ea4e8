"""What holds for every route, found by walking the routers: ETags, keys, problems, declarations."""

import json
import uuid

import jsonschema
import pytest
from django.db import transaction

from curation.api import api as hunch_api
from curation.api.documentation import SHARED_ERRORS
from curation.models import IdempotentRequest
from tests.api.test_access import ROUTES, filled, send

pytestmark = pytest.mark.django_db
READING = [(path, operation) for method, path, operation in ROUTES if method == "GET"]
SCHEMA = hunch_api.get_openapi_schema(path_prefix="/api/v1/")
OPERATIONS = {
    operation["operationId"]: (method, operation)
    for path in SCHEMA["paths"].values()
    for method, operation in path.items()
}
CREATING = {
    name
    for name, (_, operation) in OPERATIONS.items()
    if any(one["name"] == "Idempotency-Key" for one in operation.get("parameters", []))
}
# These need a state that the small world is not in: each has a test of its own.
NEEDS_A_TRAINED_RUN = {"/baselines/{baseline_id}/method-advice"}
NOT_NOW = {
    "complete_upload", "import_version", "create_version", "create_uploaded_model", "upload_model",
    "retry_job", "measure_ladder", "score_tokens", "sign_off_registration", "suggest_edits",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_limits(settings):
    settings.API_REQUESTS_PER_MINUTE = settings.API_STARTS_PER_MINUTE = 1_000_000


def test_an_unchanged_answer_costs_nothing(api, world):
    api.get("/me")  # notes the token's use, at most once a minute
    tagged = 0
    for path, operation in READING:
        first = send(api, "GET", path, operation, world.objects)
        if first.streaming and "ETag" not in first:
            continue  # an export of edits that may change
        if path in NEEDS_A_TRAINED_RUN:
            continue
        assert first.status_code == 200, (path, first.data)
        again = api.get(filled(path, world.objects), If_None_Match=first["ETag"])
        assert (again.status_code, again.content) == (304, b""), path
        assert again["ETag"] == first["ETag"]
        other = api.get(filled(path, world.objects), If_None_Match='"another"')
        assert other.status_code == 200
        tagged += 1
    assert tagged > 40


def test_every_creating_call_takes_a_key_and_answers_the_same_again(api, world):
    replayed = set()
    for method, path, operation in ROUTES:
        name = operation.operation_id
        if name not in CREATING:
            continue
        with transaction.atomic():
            keyed = Keyed(api, str(uuid.uuid4()))
            first = send(keyed, method, path, operation, world.objects)
            again = send(keyed, method, path, operation, world.objects)
            if first.status_code < 400:
                assert again["Idempotent-Replayed"] == "true", name
                assert (again.status_code, again.content) == (first.status_code, first.content)
                assert IdempotentRequest.objects.count() == 1
                replayed.add(name)
            transaction.set_rollback(True)
    assert CREATING - replayed <= NOT_NOW


class Keyed:
    """The same caller with an idempotency key on each call."""

    def __init__(self, api, key):
        self.api = api
        self.client = api.client
        self.headers = {**api.headers, "Idempotency-Key": key}

    def send(self, method, path, body=None):
        return self.api.send(method, path, body, Idempotency_Key=self.headers["Idempotency-Key"])


def test_every_post_takes_a_key_unless_it_only_asks():
    posts = {name for name, (method, _) in OPERATIONS.items() if method == "post"}
    asks = {n for n in posts if OPERATIONS[n][1]["x-scope"] == "read"}
    assert posts - asks == CREATING
    assert asks == {"predict_what_if", "estimate_bank"}


def test_errors_are_problem_details_on_every_route(api, world):
    for method, path, operation in ROUTES:
        address = filled(path, world.objects)
        wrong = [(api.send(method, address + "?no-such=1"), 422)]
        if (
            OPERATIONS[operation.operation_id][1]
            .get("requestBody", {})
            .get("content", {})
            .get("application/json")
        ):
            wrong.append((api.send(method, address, {"no-such": 1}), 422))
            bad = api.client.generic(
                method, f"/api/v1{address}", b"{", content_type="application/json",
                headers=api.headers,
            )  # fmt: skip
            wrong.append((bad, 400))
        wrong.append((api.send("TRACE", address), 405))
        for answer, status in wrong:
            assert answer.status_code == status, (method, path, answer.content)
            assert answer["Content-Type"] == "application/problem+json"
            problem = json.loads(answer.content)
            assert problem["status"] == status
            assert problem["title"]
            assert problem["detail"], (path, problem)


def test_every_status_is_declared():
    for name, (method, operation) in OPERATIONS.items():
        declared = set(operation["responses"])
        assert {str(status) for status in SHARED_ERRORS} <= declared, name
        for status in SHARED_ERRORS:
            content = operation["responses"][str(status)]["content"]
            assert list(content) == ["application/problem+json"], (name, status)
        assert any(status.startswith("2") for status in declared), name
        if method == "get":
            assert "304" in declared
            assert "ETag" in operation["responses"]["200"]["headers"]
        assert operation["summary"], name


def test_every_body_has_an_example_that_its_schema_accepts():
    shown = 0
    for _, operation in OPERATIONS.values():
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        root = json.loads(json.dumps({**body["schema"], "components": SCHEMA["components"]}))
        jsonschema.validate(body["example"], root)
        shown += 1
    assert shown > 25
