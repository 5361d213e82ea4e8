"""People with their browsers, and the small world of the API tests to look at."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from tests.api.world import World, make_world

PEOPLE = ("owner", "editor", "reviewer", "viewer", "stranger")


@pytest.fixture(autouse=True)
def plain_static_files(settings: Any) -> None:
    """Tests read static files as they are, without a collected manifest."""
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }


@pytest.fixture
def people(db: None) -> dict[str, Any]:
    users = get_user_model()
    return {name: users.objects.create(username=name) for name in PEOPLE}


@pytest.fixture
def world(people: dict[str, Any]) -> World:
    return make_world(people)


@pytest.fixture
def browser_of(people: dict[str, Any]) -> Callable[[str], Client]:
    """A signed-in client of one of the people."""

    def sign_in(name: str) -> Client:
        client = Client()
        client.force_login(people[name])
        return client

    return sign_in


@pytest.fixture
def owner(browser_of: Callable[[str], Client]) -> Client:
    return browser_of("owner")
