"""A person walks from the sign-in to a verdict: on a desktop, a phone, and without JavaScript."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.web.browser.conftest import DESKTOP, PHONE, Visit, Worker

pytestmark = [pytest.mark.browser, pytest.mark.slow]
WORDS = {"up": ["good", "fine", "glad", "warm"], "down": ["bad", "poor", "sad", "cold"]}
WAIT = 60_000  # milliseconds a job may take on a busy machine; waiting ends when it ends


@pytest.fixture
def moods(tmp_path: Path) -> Path:
    draw, lines = random.Random(0), []
    for number in range(130):
        label = draw.choice(["up", "down"])
        text = " ".join([*draw.choices(WORDS[label], k=4), "day", str(number)])
        split = "train" if number < 90 else "test"
        if split == "train" and number % 9 == 0:
            label = {"up": "down", "down": "up"}[label]
        lines.append(json.dumps({"id": f"s{number}", "text": text, "label": label, "split": split}))
    path = tmp_path / "moods.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("viewport", "with_javascript"),
    [(DESKTOP, True), (PHONE, True), (DESKTOP, False)],
    ids=["desktop", "phone", "without JavaScript"],
)
def test_from_the_sign_in_to_a_verdict(
    visit: Callable[..., Visit],
    worker: Worker,
    person: Any,
    moods: Path,
    viewport: dict[str, int],
    with_javascript: bool,
) -> None:
    seen = visit(viewport, java_script_enabled=with_javascript)
    seen.sign_in("ada")
    page = seen.page

    def finished(place: Locator) -> None:
        """A job's page follows it by itself with JavaScript, and by reloading without."""
        if not with_javascript:
            worker.wait()
            page.reload()
        expect(place).to_be_visible(timeout=WAIT)

    def press(name: str, role: Any = "button") -> None:
        page.get_by_role(role, name=name, exact=True).first.click()

    press("New project", "link")
    page.get_by_label("Project name").fill("Moods")
    press("Create the project")

    press("Upload", "link")
    page.get_by_label("Dataset name").fill("Sentences")
    page.get_by_label("File").set_input_files(moods)
    press("Upload")
    finished(page.get_by_role("link", name="Map the columns"))
    press("Map the columns", "link")
    expect(page.get_by_label("Text", exact=False).first).to_be_visible()
    press("Import the examples")
    finished(page.get_by_role("link", name="Browse the examples"))

    press("Models and recipes", "link")
    press("Built-in model", "link")
    page.get_by_label("Model name").fill("Bag")
    press("Save the model")
    press("New recipe", "link")
    page.get_by_label("Recipe name").fill("Short")
    page.get_by_label("Epochs").fill("2")
    press("Save the recipe")

    press("Baselines", "link")
    press("Train a baseline", "link")
    page.get_by_label("Baseline name").fill("First")
    page.get_by_label("Seeds").fill("2")
    press("Train")
    finished(page.get_by_role("button", name="One for each class"))
    press("One for each class")
    press("Compute influence for 3 behaviours")
    finished(page.get_by_role("link", name="most harmful first").first)

    press("most harmful first", "link")
    expect(page.get_by_text("harms").first).to_be_visible()
    press("Baselines", "link")
    press("First", "link")
    press("New proposal", "link")
    page.get_by_label("Proposal name").fill("Drop the wrong labels")
    page.get_by_label("Hypothesis").fill("Removing the wrong labels raises the margins.")
    press("Create the proposal")
    propose(page, with_javascript)

    press("Register a test")
    page.get_by_label("Fresh seeds").fill("2")
    press("Lock the plan")
    press("Start 6 retrains")
    finished(page.get_by_text("Actual, edited against unedited"))
    expect(page.get_by_text("hypothesis, not a guarantee").first).to_be_visible()
    press("Report", "link")
    expect(page.get_by_role("heading", name="How to repeat it")).to_be_visible()


def propose(page: Page, with_javascript: bool) -> None:
    """With JavaScript the prediction follows the form before anything is saved."""
    page.get_by_label("How many", exact=True).fill("5")
    if with_javascript:
        expect(page.get_by_text("Not saved.")).to_be_visible()
    else:
        page.get_by_role("button", name="Only look").click()
        expect(page.get_by_text("Not saved.")).to_be_visible()
    page.get_by_role("button", name="Add these edits").click()
    expect(page.get_by_text("5 removed")).to_be_visible()
