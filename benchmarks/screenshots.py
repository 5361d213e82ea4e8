"""`make screenshots`: runs the demo on a fresh site and keeps pictures of its pages in
docs/images."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from pathlib import Path

from benchmarks.report import ROOT

FOLDER = ROOT / "docs" / "images"
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 800}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HUNCH_VAR=folder, DJANGO_SETTINGS_MODULE="curation.settings")
        import django

        django.setup()
        from rich.console import Console

        from curation.management.commands.demo import USER_NAME, run_demo
        from curation.management.commands.serve import migrate
        from embedded.site import SiteSettings, start_site
        from embedded.supervisor import Supervisor

        settings = SiteSettings(var=Path(folder), port=8200)
        with Supervisor(settings.var) as supervisor:
            address = start_site(supervisor, settings, migrate=migrate)
            password = secrets.token_urlsafe(12)
            make_user(USER_NAME, password)
            run_demo(Console(), supervisor.check)
            take_all(address, USER_NAME, password)
    for path in sorted(FOLDER.glob("*.png")):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def make_user(name: str, password: str) -> None:
    from django.contrib.auth import get_user_model

    get_user_model().objects.create_user(name, password=password)


def take_all(address: str, name: str, password: str) -> None:
    """Sign in, walk through the pages and take each; the phone gets the two that matter most."""
    from playwright.sync_api import sync_playwright

    from tests.conftest import ARGUMENTS, chromium_path

    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        page = browser.new_page(viewport=DESKTOP)  # type: ignore[arg-type]
        page.goto(f"{address}/sign-in/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()

        def take(picture: str, whole: bool = False) -> None:
            page.mouse.move(0, 0)
            page.screenshot(path=FOLDER / f"{picture}.png", full_page=whole)

        def follow(text: str | re.Pattern[str]) -> None:
            page.get_by_role("link", name=text, exact=True).first.click()
            page.wait_for_load_state()

        take("home")
        follow(re.compile("^Sample"))
        take("project")
        follow("Datasets")
        follow("Tweets")
        follow("Version 1")
        take("dataset")
        follow("Baselines")
        follow("Bag of embeddings")
        take("baseline")
        follow(re.compile("^Negative tweets"))
        take("behaviour")
        follow("Examples by influence")
        page.locator("a[data-open]").first.click()
        page.locator("#panel .side-panel").wait_for()
        take("examples")
        follow("Proposals")
        follow(re.compile("^Remove"))
        page.get_by_role("button", name="Copy").click()
        page.get_by_label("How many", exact=True).fill("120")
        page.get_by_text("Not saved.").wait_for()
        take("workbench", whole=True)
        follow("Track record")
        take("track-record")
        follow(re.compile("^Remove"))
        take("registration", whole=True)
        verdict = page.url
        follow("Report")
        take("report")
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        page.goto(verdict)
        take("registration-phone")
        page.emulate_media(color_scheme="dark")
        page.goto(verdict)
        take("registration-phone-dark")
        browser.close()


if __name__ == "__main__":
    main()
