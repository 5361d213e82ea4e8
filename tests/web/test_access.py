"""Who may see and do what: a stranger finds nothing, a viewer reads, GET never writes."""

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.api.world import World
from tests.web.addresses import (
    NEEDS_MANAGE,
    NEEDS_WRITE,
    POST_ONLY,
    PUBLIC,
    all_pages,
    object_pages,
    readable_pages,
)

Browsers = Callable[[str], Client]
WRITES = re.compile(r"^\s*(INSERT|UPDATE|DELETE|TRUNCATE)", re.IGNORECASE)


def test_without_signing_in_every_page_leads_to_the_sign_in(world: World) -> None:
    for page in all_pages(world):
        if page.name in PUBLIC | {"sign-out"}:
            continue
        answer = (
            Client().post(page.address) if page.name in POST_ONLY else Client().get(page.address)
        )
        assert answer.status_code == 302, page
        assert answer["Location"].startswith("/sign-in/"), page


def test_for_a_stranger_no_object_exists(world: World, browser_of: Browsers) -> None:
    stranger = browser_of("stranger")
    for page in object_pages(world):
        method = stranger.post if page.name in POST_ONLY else stranger.get
        assert method(page.address).status_code == 404, page


def test_a_stranger_cannot_post_to_a_page_that_shows_a_form(
    world: World, browser_of: Browsers
) -> None:
    stranger = browser_of("stranger")
    for page in object_pages(world):
        if page.name in NEEDS_WRITE | NEEDS_MANAGE | {"members"}:
            assert stranger.post(page.address, {"name": "mine"}).status_code == 404, page


def test_a_viewer_reads_but_does_not_write(world: World, browser_of: Browsers) -> None:
    viewer = browser_of("viewer")
    for page in readable_pages(world):
        forbidden = page.name in NEEDS_WRITE | NEEDS_MANAGE
        assert viewer.get(page.address).status_code == (403 if forbidden else 200), page
    for page in object_pages(world):
        if page.name in POST_ONLY - {"edit-examples"}:
            assert viewer.post(page.address).status_code == 403, page


def test_getting_a_page_never_writes(world: World, owner: Client) -> None:
    for page in readable_pages(world):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            owner.get(page.address)
        written = [query["sql"] for query in queries if WRITES.match(query["sql"])]
        assert not written, page


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_what_changes_something_answers_to_post_alone(
    world: World, owner: Client, method: str
) -> None:
    for page in all_pages(world):
        if page.name in POST_ONLY:
            assert getattr(owner, method)(page.address).status_code == 405, page


def test_a_post_without_the_token_of_its_form_is_refused(world: World) -> None:
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(world.owner)
    for page in all_pages(world):
        if page.name in POST_ONLY | NEEDS_WRITE | NEEDS_MANAGE | {"members", "new-project"}:
            assert careful.post(page.address).status_code == 403, page


def test_every_page_obeys_a_strict_content_security_policy(world: World, owner: Client) -> None:
    for page in readable_pages(world):
        answer = owner.get(page.address)
        policy = answer["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        if answer["Content-Type"].startswith("text/html"):
            text = answer.content.decode()
            assert not re.search(r"<[^>]+\sstyle=", text), page
            assert not re.search(r"<[^>]+\son[a-z]+=", text), page
            assert not re.search(r"<script(?![^>]*\ssrc=)", text), page
            assert not re.search(r"(src|href)=.(https?:)?//", text), page


def test_pages_ask_few_questions_of_the_database(world: World, owner: Client) -> None:
    for page in readable_pages(world):
        with CaptureQueriesContext(connection) as queries:
            owner.get(page.address)
        assert len(queries) <= 25, (page, [query["sql"][:120] for query in queries])


def test_text_of_users_is_never_markup(world: World, owner: Client) -> None:
    attack = "<img src=x onerror=alert(1)>"
    world.project.name = world.proposal.name = world.proposal.hypothesis = attack
    world.behaviour.name = world.baseline.name = world.dataset.name = attack
    for thing in (world.project, world.proposal, world.behaviour, world.baseline, world.dataset):
        thing.save()
    for page in readable_pages(world):
        answer = owner.get(page.address)
        if answer["Content-Type"].startswith("text/html"):
            assert attack not in answer.content.decode(), page
