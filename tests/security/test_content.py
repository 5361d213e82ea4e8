"""What users upload stays text: on pages, in spreadsheets, and as files that browsers save."""

import csv
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from curation.services.files import local_path
from tests.api.conftest import Api, api, api_of
from tests.api.test_access import ROUTES, send
from tests.api.world import World
from tests.security.hostile_world import (
    FORMULA,
    MARKUP,
    NUMBER,
    formulas,
    with_hostile_texts,
)
from tests.web.addresses import DOWNLOADS, all_pages, readable_pages
from workers.formats.export import export_weighted_dataset

__all__ = ["api", "api_of"]


@pytest.fixture
def hostile(world: World) -> World:
    return with_hostile_texts(world)


def content_of(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def test_texts_of_examples_are_shown_as_text(hostile: World, owner: Client) -> None:
    shown = 0
    first = urlencode({"id": f"{formulas(1)[0]}0"})
    for page in readable_pages(hostile):
        address = page.address.replace("id=e1", first)
        answer = owner.get(address)
        assert answer.status_code in (200, 302), page
        if answer["Content-Type"].startswith("text/html"):
            text = answer.content.decode()
            assert "<img" not in text and "<script>" not in text, page
            assert "onerror=alert" not in html.unescape(text).replace(MARKUP, ""), page
            shown += html.escape(MARKUP[:20]) in text
    assert shown >= 2


def escaped(content: bytes) -> Iterator[str]:
    """Cells of a CSV file; fails on one that a spreadsheet would take for a formula."""
    for row in csv.reader(io.StringIO(content.decode(), newline="")):
        for cell in row:
            assert not FORMULA.match(cell) or NUMBER.match(cell), cell
            yield cell


@pytest.mark.parametrize("name", ["dataset", "edits", "issues"])
def test_no_cell_or_heading_of_the_api_s_csv_is_a_formula(
    hostile: World, api: Api, name: str
) -> None:
    path = f"/proposals/{hostile.proposal.pk}/export/{name}?format=csv"
    answer = api.get(path + ("&keep_removed=true" if name == "dataset" else ""))
    assert answer.status_code == 200
    assert any(cell.startswith(("'=", "'+", "'-")) for cell in escaped(content_of(answer)))


def test_no_cell_of_the_page_s_csv_is_a_formula(hostile: World, owner: Client) -> None:
    answer = owner.get(f"/proposals/{hostile.proposal.pk}/export/")
    assert any(cell.startswith("'") for cell in escaped(content_of(answer)))


def test_no_cell_of_a_worker_s_csv_is_a_formula(hostile: World, tmp_path: Path) -> None:
    stored = hostile.version.examples_file
    assert stored is not None
    target = tmp_path / "out.csv"
    export_weighted_dataset(local_path(stored), {}, target, file_format="csv")
    cells = list(escaped(target.read_bytes()))
    assert "'=1+1" in cells
    assert "'=1+2" in cells


def test_every_download_is_saved_and_never_shown(hostile: World, owner: Client, api: Api) -> None:
    answers = [
        (page.name, owner.get(page.address))
        for page in all_pages(hostile)
        if page.name in DOWNLOADS - {"report-json"}
    ]
    for method, path, operation in ROUTES:
        if method == "GET" and "{" in path:
            answer = send(api, method, path, operation, hostile.objects)
            if answer.status_code == 200 and "json" not in answer["Content-Type"].split(";")[0]:
                answers.append((path, answer))
    assert len(answers) >= 6
    for name, answer in answers:
        assert answer["Content-Disposition"].startswith("attachment"), name
        assert answer["X-Content-Type-Options"] == "nosniff", name


def test_every_answer_forbids_guessing_its_type(world: World, owner: Client) -> None:
    for page in readable_pages(world):
        assert owner.get(page.address)["X-Content-Type-Options"] == "nosniff", page
    for address in ("/healthz", "/no-such-page", "/static/hunch/hunch.css"):
        assert owner.get(address)["X-Content-Type-Options"] == "nosniff", address
