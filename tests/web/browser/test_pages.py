"""Every page as a browser draws it: no accessibility violation, nothing wider than the screen."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth import get_user_model

from tests.api.world import World, make_world
from tests.web.addresses import DOWNLOADS, FRAGMENTS, Page, readable_pages
from tests.web.browser.conftest import DESKTOP, PASSWORD, PHONE, Visit
from tests.web.conftest import PEOPLE
from tests.web.test_example_values import measure

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def world(transactional_db: None) -> World:
    users = get_user_model().objects
    return make_world({name: users.create_user(name, password=PASSWORD) for name in PEOPLE})


def more_looks(world: World) -> list[Page]:
    """The list of examples and its panel with every column, filter and chip."""
    measure(world)
    here = f"/versions/{world.version.pk}/examples/"
    return [
        Page("examples by loss", f"{here}?sort=loss&order=down&loss_from=1&confidence_to=0.9"),
        Page("a probe set", f"{here}?probe_set={world.objects['probe_set_id']}"),
        Page("one measured example", f"{here}one/?id=e1"),
    ]


def problems_of(visit: Visit, world: World, width: int) -> list[str]:
    """What axe and the layout say against each page."""
    found = []
    for page in [*readable_pages(world), *more_looks(world)]:
        if page.name in FRAGMENTS | DOWNLOADS:
            continue
        shown = visit.open(page.address)
        for violation in Axe().run(shown).response["violations"]:
            node = violation["nodes"][0]
            found.append(f"{page.name}: {violation['id']} at {node['target']}")
        wide = shown.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{page.name}: {wide} pixels wide on a screen of {width}")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_is_accessible_and_fits(
    visit: Callable[..., Visit], world: World, viewport: dict[str, int], scheme: str
) -> None:
    seen: Any = visit(viewport, color_scheme=scheme)
    seen.sign_in("owner")
    assert problems_of(seen, world, viewport["width"]) == []


def test_the_examples_can_be_worked_by_keyboard(visit: Callable[..., Visit], world: World) -> None:
    seen = visit()
    seen.sign_in("owner")
    page = seen.open(f"/versions/{world.version.pk}/examples/")
    page.keyboard.press("j")
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("x")
    assert page.locator("input[name=example]:checked").count() == 2
    assert page.locator("[data-ticked-count]").inner_text() == "2"
    page.keyboard.press("Enter")
    page.locator("#panel .side-panel").wait_for()
    assert "sentence number 1" in page.locator("#panel").inner_text()


@pytest.mark.parametrize("scripted", [True, False], ids=["with scripts", "without"])
def test_ticked_probe_examples_become_a_probe_set_that_a_behaviour_reads(
    visit: Callable[..., Visit], world: World, scripted: bool
) -> None:
    seen = visit(java_script_enabled=scripted)
    seen.sign_in("owner")
    page = seen.open(f"/versions/{world.version.pk}/examples/?split=probe")
    for place in (0, 2):
        page.locator("input[name=example]").nth(place).check()
    page.get_by_label("Save them as probe set").fill("two hard ones")
    page.get_by_role("button", name="Save probe set").click()
    page.get_by_text("The probe set was saved.").wait_for()
    assert page.locator("tbody tr").count() == 2
    page.get_by_role("link", name="Save the matching probe examples as a behaviour").click()
    page.get_by_label("Name", exact=True).fill("on two hard ones")
    page.get_by_role("button", name="Add the behaviour").click()
    page.get_by_role("link", name="on two hard ones").click()
    assert "the probe set “two hard ones”" in page.locator("main").inner_text()


def test_on_a_phone_the_prediction_stands_below_what_moves_it(
    visit: Callable[..., Visit], world: World
) -> None:
    seen = visit(PHONE)
    seen.sign_in("owner")
    page = seen.open(f"/proposals/{world.proposal.pk}/")

    def top(selector: str) -> float:
        box = page.locator(selector).bounding_box()
        assert box is not None
        return box["y"]

    assert top("#add") < top("#effects") < top("#hypothesis") < top("#history")
