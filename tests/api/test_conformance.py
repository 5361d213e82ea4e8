"""The live API against its own OpenAPI description, by generated requests, valid and invalid."""

import pytest
import schemathesis
from django.core import signals
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from curation.api import api
from curation.services import rate_limits, tokens
from curation.wsgi import application

SCOPES = ["read", "write", "run", "review"]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
]


schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)


OPERATIONS = [found.ok() for found in schema.get_all_operations()]
TAGS = sorted({tag for operation in OPERATIONS for tag in operation.tags})


@pytest.fixture(autouse=True)
def one_connection(monkeypatch):
    """No limits; the connection that holds the test's transaction stays open between requests."""
    monkeypatch.setattr(rate_limits, "take", lambda **limit: None)
    ends = (signals.request_started, signals.request_finished)
    for end in ends:
        end.disconnect(close_old_connections)
    yield
    for end in ends:
        end.connect(close_old_connections)


@pytest.mark.django_db
@pytest.mark.parametrize("mode", list(GenerationMode), ids=str)
@pytest.mark.parametrize("tag", TAGS)
def test_generated_requests_are_answered_as_described(tag, mode, world):
    _, text = tokens.create_token(user=world.owner, name="generated", scopes=SCOPES)
    failures = []
    for operation in OPERATIONS:
        if tag in operation.tags:
            try:
                check(operation, mode, world.objects, {"Authorization": f"Bearer {text}"})
            except (FailureGroup, AssertionError) as failure:
                failures.append(f"{operation.label}\n{failure}")
    assert not failures, "\n\n".join(failures)


def check(operation, mode, objects, headers):
    """Some calls name objects that exist, some what was generated; each is undone."""

    @given(
        case=operation.as_strategy(generation_mode=mode),
        existing=strategies.sampled_from([True, True, False]),
        signed_in=strategies.sampled_from([True] * 5 + [False]),
    )
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def call(case, existing, signed_in):
        if existing and case.path_parameters:
            known = {name: str(objects[name]) for name in case.path_parameters if name in objects}
            case.path_parameters.update(known)
        # Where the path was replaced by a good one, only a bad body or query has to be refused.
        bad = {place.value for place, part in case.meta.components.items() if part.mode.is_negative}
        must_refuse = [negative_data_rejection] if bad and bad <= {"body", "query"} else []
        with transaction.atomic():
            case.call_and_validate(
                headers=headers if signed_in else None, checks=CHECKS + must_refuse
            )
            transaction.set_rollback(True)

    call()


def test_the_description_covers_every_route():
    routes = [
        operation
        for bound in api._get_bound_routers()
        for view in bound.path_operations.values()
        for operation in view.operations
    ]
    assert len(OPERATIONS) == len(routes) > 80
