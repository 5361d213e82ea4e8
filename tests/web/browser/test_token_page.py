"""Tokens coloured by influence, as a browser draws them: accessible, and told apart without
colour."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth import get_user_model

from curation.models import DatasetVersion, Task, TokenInfluence
from tests.api.world import World, make_world
from tests.web.browser.conftest import PASSWORD, PHONE, Visit
from tests.web.conftest import PEOPLE

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TOKENS = ["sen", "tence", " ", "num", "ber", " <b>", " 0", "."]


@pytest.fixture
def world(transactional_db: None) -> World:
    users = get_user_model().objects
    world = make_world({name: users.create_user(name, password=PASSWORD) for name in PEOPLE})
    DatasetVersion.objects.filter(pk=world.version.pk).update(task=Task.TEXT)
    scores = [[0.4, -0.3, 0.01, 0.2, -0.15, 0.05, -0.02, 0.0], [-0.1] * len(TOKENS)]
    TokenInfluence.objects.create(
        behaviour=world.behaviour,
        seeds=[0, 1],
        examples=[
            {"train_index": place, "tokens": TOKENS, "scores": row}
            for place, row in enumerate(scores)
        ],
    )
    return world


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marked_tokens_are_accessible_and_fit(
    visit: Callable[..., Visit], world: World, scheme: str
) -> None:
    seen: Any = visit(PHONE, color_scheme=scheme)
    seen.sign_in("owner")
    page = seen.open(f"/behaviours/{world.behaviour.pk}/tokens/")
    page.locator("article details").first.evaluate("element => element.open = true")
    assert [one["id"] for one in Axe().run(page).response["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("article p.tokens").first.inner_text().strip() == "".join(TOKENS)

    def line(kind: str) -> str:
        marked = page.locator(f"article .token-{kind}").first
        return str(marked.evaluate("element => getComputedStyle(element).textDecorationStyle"))

    assert line("helps-3") == "solid"
    assert line("harms-2") == "dotted"
