"""A real Chromium, a live site, and a worker that does the jobs while the pages are looked at."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from playwright.sync_api import Browser, BrowserContext, Page

from curation.services import jobs

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}
PASSWORD = "a long pass phrase"


class Visit:
    """One browser window, and everything its console complained of."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context = context
        self.address = address
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def open(self, path: str) -> Page:
        self.page.goto(self.address + path)
        return self.page

    def sign_in(self, name: str) -> None:
        page = self.open("/sign-in/")
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()


@pytest.fixture
def visit(chromium: Browser, live_server: Any) -> Iterator[Callable[..., Visit]]:
    """Opens windows; at the end none of them may have complained (which a blocked script would)."""
    visits: list[Visit] = []

    def make(viewport: dict[str, int] = DESKTOP, **options: Any) -> Visit:
        context = chromium.new_context(viewport=viewport, **options)  # type: ignore[arg-type]
        visits.append(Visit(context, live_server.url))
        return visits[-1]

    yield make
    for one in visits:
        one.context.close()
    assert [complaint for one in visits for complaint in one.complaints] == []


@pytest.fixture
def person(transactional_db: None) -> Any:
    return get_user_model().objects.create_user("ada", password=PASSWORD)


class Worker:
    """Does the jobs one after another in a thread, as soon as they are sent."""

    def __init__(self) -> None:
        self.sent: queue.Queue[UUID | None] = queue.Queue()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.failures: list[Exception] = []

    def _work(self) -> None:
        from workers.tasks.run import run_job

        while (job_id := self.sent.get()) is not None:
            try:
                run_job(str(job_id))
            except Exception as error:  # a thread that ended would leave the waiting test hanging
                self.failures.append(error)
            finally:
                connections.close_all()
                self.sent.task_done()

    def wait(self) -> None:
        """Until every job that was sent has ended."""
        self.sent.join()
        assert self.failures == []


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Iterator[Worker]:
    made = Worker()
    monkeypatch.setattr(jobs, "send", lambda job: made.sent.put(job.pk))
    made.thread.start()
    yield made
    made.sent.put(None)
    made.thread.join()
