"""No address that changes something can be used from another site, found by walking the URLconf."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from tests.api.world import World

CONVERTED = re.compile(r"<(?:(\w+):)?\w+>")
EXAMPLES = {"uuid": str(uuid4()), "int": "1", "path": "1", "slug": "a", None: "1", "str": "1"}
# Groups of regular expressions in the routes of the review site's catch-all and models' index.
PLAIN = {r"^(?P<app_label>auth|curation)/$": "curation/", r"(?P<url>.*)$": "nothing"}


def addresses(patterns: list[Any], before: str = "/") -> Iterator[str]:
    """One address for each route of the project, but for the API's, which take no cookies."""
    for pattern in patterns:
        route = str(pattern.pattern)
        if route == "api/v1/":
            continue
        part = PLAIN.get(route) or CONVERTED.sub(lambda found: EXAMPLES[found[1]], route)
        if isinstance(pattern, URLResolver):
            yield from addresses(pattern.url_patterns, before + part)
        elif isinstance(pattern, URLPattern):
            yield before + part


@pytest.fixture
def operator(db: None) -> Client:
    """The person who may do most, in a browser that checks tokens as real ones are checked."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(get_user_model().objects.create_superuser("operator"))
    return browser


ADDRESSES = list(addresses(get_resolver().url_patterns))


def test_the_walk_meets_pages_and_the_review_site() -> None:
    assert len(ADDRESSES) > 120
    assert {"/sign-in/", "/account/password/", "/admin/curation/job/1/change/"} <= set(ADDRESSES)
    for address in ADDRESSES:
        assert resolve(address), address


def test_no_form_is_taken_without_its_token(operator: Client) -> None:
    taken = {
        address: answer.status_code
        for address in ADDRESSES
        if (answer := operator.post(address)).status_code
        not in (HTTPStatus.FORBIDDEN, HTTPStatus.METHOD_NOT_ALLOWED)
    }
    assert taken == {}


def test_no_address_is_exempt() -> None:
    exempt = [a for a in ADDRESSES if getattr(resolve(a).func, "csrf_exempt", False)]
    assert exempt == []


def test_the_api_takes_no_cookie_for_a_token(world: World, owner: Client) -> None:
    assert owner.get("/account/").status_code == HTTPStatus.OK
    for answer in (
        owner.get(f"/api/v1/projects/{world.project.pk}"),
        owner.post("/api/v1/projects", {"name": "mine"}, content_type="application/json"),
    ):
        assert answer.status_code == HTTPStatus.UNAUTHORIZED


def test_a_wrong_referrer_is_refused_behind_tls(operator: Client) -> None:
    page = operator.get("/account/password/", secure=True)
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.content.decode())
    assert token
    answer = operator.post(
        "/account/password/",
        {"csrfmiddlewaretoken": token[1]},
        secure=True,
        headers={"Referer": "https://evil.example.com/"},
    )
    assert answer.status_code == HTTPStatus.FORBIDDEN


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example.com/",
        "//evil.example.com",
        r"/\evil.example.com",
        "javascript:alert(1)",
    ],
)
def test_nothing_leads_to_another_site(world: World, owner: Client, elsewhere: str) -> None:
    signed_in = owner.get("/sign-in/", {"next": elsewhere})
    assert signed_in["Location"] == "/"
    edited = owner.post(f"/versions/{world.version.pk}/examples/edit/", {"next": elsewhere})
    assert edited["Location"] == f"/versions/{world.version.pk}/examples/"
