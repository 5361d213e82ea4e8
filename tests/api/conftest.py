"""People, a small world and a client that speaks JSON with a token."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from curation.models import Scope
from curation.services import rate_limits, tokens
from tests.api.world import World, make_world

PEOPLE = ("owner", "editor", "reviewer", "viewer", "stranger")


class Api:
    """Calls as one user with one token. Every answer has `.data`, its JSON."""

    def __init__(self, text: str) -> None:
        self.client = Client()
        self.headers = {"Authorization": f"Bearer {text}"} if text else {}

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        content = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        answer: Any = self.client.generic(
            method,
            "/api/v1" + path,
            content,
            content_type=kind,
            headers={
                **self.headers,
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        is_json = "json" in answer.get("Content-Type", "") and not answer.streaming
        answer.data = json.loads(answer.content) if is_json and answer.content else None
        return answer

    def get(self, path: str, **headers: str) -> Any:
        return self.send("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.send("POST", path, {} if body is None else body, **headers)


@pytest.fixture(autouse=True)
def fresh_limits() -> None:
    """Rate limits of other tests must not reach into this one."""
    connection = rate_limits.connection()
    for key in connection.scan_iter("hunch:limit:*"):
        connection.delete(key)


@pytest.fixture
def people(db: None) -> dict[str, Any]:
    users = get_user_model()
    return {name: users.objects.create(username=name) for name in PEOPLE}


@pytest.fixture
def world(people: dict[str, Any]) -> World:
    return make_world(people)


numbers = itertools.count()


@pytest.fixture
def api_of() -> Callable[..., Api]:
    def make(user: Any, *scopes: str) -> Api:
        _, text = tokens.create_token(
            user=user, name=f"token {next(numbers)}", scopes=scopes or list(Scope.values)
        )
        return Api(text)

    return make


@pytest.fixture
def api(world: World, api_of: Callable[..., Api]) -> Api:
    """The owner with every scope."""
    return api_of(world.owner)
