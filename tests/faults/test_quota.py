"""A project's disk quota holds however many uploads come at once, whichever way they come, and
counts what jobs made too."""

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from curation.models import DatasetVersion, Model, Scope, Upload
from curation.queries.disk_usage import bytes_in_use
from curation.services import datasets, files, jobs, rate_limits, tokens, uploads
from curation.services.uploads import TooLarge

pytestmark = pytest.mark.django_db(transaction=True)
CALLERS = 6
FILE_BYTES = 1000
ROOM_FOR = 2


@pytest.fixture(autouse=True)
def full_but_for_two(storage, project, monkeypatch):
    monkeypatch.setattr(jobs, "send", lambda job: None)
    monkeypatch.setattr(rate_limits, "take", lambda **limit: None)
    project.disk_quota_bytes = ROOM_FOR * FILE_BYTES + FILE_BYTES // 2
    project.save()


def at_once(call: Callable[[int], Any]) -> list[Any]:
    """What each of several callers gets that begin at the same moment."""
    gate = threading.Barrier(CALLERS)
    answers: list[Any] = []

    def run(number: int) -> None:
        gate.wait()
        try:
            answers.append(call(number))
        except TooLarge:
            answers.append(TooLarge)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[number]) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == CALLERS
    return answers


def test_announced_uploads_share_the_room(project, user):
    answers = at_once(
        lambda number: uploads.begin(
            project=project, file_name=f"{number}.csv", size=FILE_BYTES, by=user
        )
    )
    assert answers.count(TooLarge) == CALLERS - ROOM_FOR
    assert Upload.objects.count() == ROOM_FOR


def test_what_has_arrived_of_an_open_upload_is_not_counted_twice(project, user):
    upload = uploads.begin(project=project, file_name="a.csv", size=FILE_BYTES, by=user)
    uploads.add_part(upload=upload, number=1, chunks=[os.urandom(FILE_BYTES)])
    with uploads.room_for(project=project, size=FILE_BYTES):
        assert bytes_in_use(project) == FILE_BYTES
    uploads.complete(upload=upload, by=user)
    with (
        pytest.raises(TooLarge, match="room for 1,500 more"),
        uploads.room_for(project=project, size=2 * FILE_BYTES),
    ):
        pytest.fail("there is no room")


@pytest.mark.parametrize("with_key", [False, True])
def test_files_sent_in_one_call_share_the_room(project, user, with_key):
    token = tokens.create_token(user=user, name="t", scopes=list(Scope.values))[1]
    dataset = datasets.create_dataset(project=project, name="sentences", by=user)

    def send(number: int) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        if with_key:
            headers["Idempotency-Key"] = str(number)
        form = {"file": SimpleUploadedFile("a.csv", os.urandom(FILE_BYTES))}
        address = f"/api/v1/datasets/{dataset.pk}/versions/file"
        return Client().post(address, form, headers=headers).status_code

    answers = at_once(send)
    assert sorted(answers) == [201] * ROOM_FOR + [413] * (CALLERS - ROOM_FOR)
    assert DatasetVersion.objects.count() == ROOM_FOR
    assert bytes_in_use(project) == ROOM_FOR * FILE_BYTES


def test_files_of_a_model_sent_in_one_call_share_the_room(project, user):
    token = tokens.create_token(user=user, name="t", scopes=list(Scope.values))[1]

    def send(number: int) -> int:
        form = {
            "name": f"model {number}",
            "files": [
                SimpleUploadedFile(name, os.urandom(FILE_BYTES // 2))
                for name in ("config.json", "model.safetensors")
            ],
        }
        address = f"/api/v1/projects/{project.pk}/models/files"
        headers = {"Authorization": f"Bearer {token}"}
        return Client().post(address, form, headers=headers).status_code

    assert sorted(at_once(send)) == [201] * ROOM_FOR + [413] * (CALLERS - ROOM_FOR)
    assert Model.objects.count() == ROOM_FOR


def test_a_form_without_room_says_so_and_keeps_nothing(project, user, settings):
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}
    browser = Client()
    browser.force_login(user)
    form = {"name": "big", "file": SimpleUploadedFile("a.csv", os.urandom(3 * FILE_BYTES))}
    answer = browser.post(f"/projects/{project.pk}/datasets/new/", form)
    assert "The project has room for 2,500 more bytes" in answer.content.decode()
    assert not project.datasets.exists()


def test_what_a_job_made_counts(project, user):
    dataset = datasets.create_dataset(project=project, name="sentences", by=user)
    source = files.store_bytes(content=b"x" * FILE_BYTES)
    version, _ = datasets.add_version(
        dataset=dataset, source_file=source, file_name="a.csv", by=user
    )
    version.examples_file = files.store_bytes(content=b"y" * FILE_BYTES)
    version.save()
    with pytest.raises(TooLarge, match="room for 500 more bytes"):
        uploads.begin(project=project, file_name="b.csv", size=FILE_BYTES, by=user)
