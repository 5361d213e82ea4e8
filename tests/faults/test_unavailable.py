"""While the database or the disk cannot be used, people and programs are told to come back; nobody
gets an error page or half a result."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.test import Client

from curation.models import DatasetVersion, Scope
from curation.services import datasets, jobs, tokens

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def browser(user) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


@pytest.fixture
def headers(user) -> dict[str, str]:
    text = tokens.create_token(user=user, name="tests", scopes=list(Scope.values))[1]
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
def database_away(monkeypatch):
    """New connections are refused, as while the server starts again."""

    def refuse() -> None:
        raise OperationalError("the database system is starting up")

    def go_away() -> None:
        connection.close()
        monkeypatch.setattr(connection, "connect", refuse)

    yield go_away
    monkeypatch.undo()


def test_a_program_is_told_when_to_come_back(project, headers, database_away):
    database_away()
    answer = Client().get(f"/api/v1/projects/{project.pk}", headers=headers)
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert answer["Content-Type"] == "application/problem+json"
    assert "starting up" not in answer.content.decode()


def test_a_page_says_that_the_site_is_away_for_a_moment(project, browser, database_away):
    database_away()
    answer = browser.get(f"/projects/{project.pk}/")
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert "Not available for the moment" in answer.content.decode()


def test_an_upload_to_a_full_disk_is_refused_whole(project, user, headers, storage, monkeypatch):
    monkeypatch.setattr(jobs, "send", lambda job: None)
    dataset = datasets.create_dataset(project=project, name="sentences", by=user)
    address = f"/api/v1/datasets/{dataset.pk}/versions/file"

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        form = {"file": SimpleUploadedFile("a.csv", b"id,text\n1,good\n")}
        answer = Client().post(address, form, headers=headers)
    assert answer.status_code == 503
    assert "disk is full" in answer.json()["detail"]
    assert not DatasetVersion.objects.exists()
    assert [path for path in storage.rglob("*") if path.is_file()] == []
    form = {"file": SimpleUploadedFile("a.csv", b"id,text\n1,good\n")}
    assert Client().post(address, form, headers=headers).status_code == 201
