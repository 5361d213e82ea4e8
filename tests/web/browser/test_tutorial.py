"""The tutorial, step by step as it is written, in a real browser. Its commands are run by
tests/end_to_end/test_demo.py."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from curation.services import sample_project
from tests.web.browser.conftest import Visit, Worker

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TUTORIAL = (Path(__file__).resolve().parents[3] / "docs/tutorial.md").read_text()
LABELS = re.findall(r"\*\*([^*]+)\*\*", TUTORIAL)


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample project as `make demo ARGS="--rows 300"` loads it, with a smaller bank."""
    whole = sample_project.sample_lines
    monkeypatch.setattr(sample_project, "sample_lines", lambda limit=None: whole(300))
    monkeypatch.setattr(sample_project, "BANK_EDITS", 6)
    monkeypatch.setattr(sample_project, "EDITS", 10)
    monkeypatch.setattr(sample_project, "NUMBER_OF_SEEDS", 2)
    monkeypatch.setitem(sample_project.RECIPE, "epochs", 2)


def test_every_step_of_the_tutorial_leads_to_the_next(
    visit: Callable[..., Visit], worker: Worker, person: Any, small_sample: None
) -> None:
    seen = visit(java_script_enabled=False)
    page = seen.page
    followed: list[str] = []

    def follow(label: str, ending: str = "") -> None:
        """Use what the tutorial calls by this name: a button, a link, or a heading to look at."""
        assert label in LABELS, f"the tutorial does not name “{label}”"
        followed.append(label)
        name = re.compile(rf"^{re.escape(label)}{ending}$")
        for role in ("button", "link"):
            found = page.get_by_role(role, name=name)  # type: ignore[arg-type]
            if found.count():
                found.first.click()
                return
        expect(page.get_by_role("heading", name=name)).to_be_visible()

    # 1. Start the site
    seen.sign_in("ada")
    follow("Load the sample project")
    worker.wait()
    project = page.url

    # 2. Look at the data
    page.get_by_role("link", name="Datasets", exact=True).click()
    page.get_by_role("link", name="Tweets", exact=True).click()
    page.get_by_role("link", name="Version 1", exact=True).click()
    page.get_by_role("link", name="Browse the examples").click()
    page.get_by_label("Split", exact=True).select_option("probe")
    page.get_by_role("button", name="Apply").click()
    page.get_by_label("Which examples").select_option("all")
    page.get_by_label("Save them as probe set").fill("Held out")
    follow("Save probe set")

    # 3. Look at the baseline
    page.goto(project)
    page.get_by_role("link", name="Baselines", exact=True).click()
    page.get_by_role("link", name="Bag of embeddings").first.click()
    baseline = page.url
    follow("New behaviour")
    page.get_by_label("Name").first.fill("Held-out tweets")
    page.get_by_label("A probe set", exact=False).check()
    page.get_by_role("button", name="Add the behaviour").click()
    page.goto(baseline)
    follow("Compute influence", " for 1 behaviour")
    worker.wait()
    page.goto(baseline)
    expect(page.get_by_text("not computed")).to_have_count(0)

    # 4. Propose
    follow("New proposal")
    page.get_by_label("Proposal name").fill("Drop the worst")
    page.get_by_label("Hypothesis").fill("Removing them raises the margin on the held-out tweets.")
    page.get_by_role("button", name="Create the proposal").click()
    proposal = page.url
    follow("Add edits")
    page.get_by_label("How many", exact=True).fill("5")
    follow("Only look")
    expect(page.get_by_text("Not saved.")).to_be_visible()
    page.get_by_role("button", name="Add these edits").click()

    # 5. Predict
    assert page.url.startswith(proposal)
    expect(page.get_by_text("hypothesis, not a guarantee").first).to_be_visible()

    # 6. Register and retrain
    follow("Register a test")
    page.get_by_label("Fresh seeds").fill("2")
    follow("Lock the plan")
    page.get_by_role("button", name="Start 6 retrains").click()
    worker.wait()
    page.reload()

    # 7. Read the verdict
    expect(page.get_by_text("Actual, edited against unedited")).to_be_visible()
    page.get_by_role("link", name="Track record").first.click()
    expect(page.get_by_role("heading", name="Track record")).to_be_visible()
    assert followed == LABELS
