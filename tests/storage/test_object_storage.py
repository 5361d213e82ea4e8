"""The site with its files in object storage, against a real server that speaks S3."""

import io
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from django.core.files.storage import DefaultStorage, default_storage
from django.core.management import CommandError, call_command
from django.test import Client

from curation.models import BaselineState, JobState, StoredFile
from curation.services import file_upkeep, files, training_setup, uploads
from hunch_client.transport import Transport
from tests.api.conftest import Api
from tests.api.world import World
from tests.running import run_jobs

pytestmark = pytest.mark.django_db


def names_in(bucket: Any, prefix: str = "content/") -> set[str]:
    return {item.key for item in bucket.objects.filter(Prefix=prefix)}


def test_a_folder_is_known_as_one_before_storage_was_ever_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "default_storage", DefaultStorage())
    assert files.local_folder() is not None


def test_a_file_is_kept_under_its_hash_and_read_back_the_same(bucket: Any) -> None:
    stored = files.store_bytes(content=b"abc" * 100_000)
    assert names_in(bucket) == {f"content/{stored.sha256[:2]}/{stored.sha256}"}
    assert files.local_path(stored).read_bytes() == b"abc" * 100_000
    assert files.store_bytes(content=b"abc" * 100_000).pk == stored.pk
    assert len(names_in(bucket)) == 1


def test_a_changed_object_is_refused_and_leaves_no_copy(bucket: Any, settings: Any) -> None:
    stored = files.store_bytes(content=b"the right content")
    bucket.put_object(Key=stored.storage_name, Body=b"the wrong content")
    with pytest.raises(files.CorruptFile):
        files.local_path(stored)
    assert list((settings.WORK_ROOT / "cache").rglob(f"{stored.pk}*")) == []


def test_a_missing_object_is_named_as_missing(bucket: Any) -> None:
    stored = files.store_bytes(content=b"abc")
    default_storage.delete(stored.storage_name)
    with pytest.raises(files.MissingFile):
        files.local_path(stored)


def test_storing_again_mends_a_lost_object(bucket: Any) -> None:
    stored = files.store_bytes(content=b"abc")
    default_storage.delete(stored.storage_name)
    files.store_bytes(content=b"abc")
    assert files.local_path(stored).read_bytes() == b"abc"


def test_an_upload_in_parts_comes_together(
    bucket: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 3)
    upload = uploads.begin(project=world.project, file_name="a.txt", size=9, by=world.owner)
    for number, part in enumerate((b"abc", b"def", b"ghi"), start=1):
        uploads.add_part(upload=upload, number=number, chunks=[part])
    done = uploads.complete(upload=upload, by=world.owner)
    assert files.local_path(done.stored_file).read_bytes() == b"abcdefghi"


def test_the_whole_way_to_influence_scores(bucket: Any, world: World) -> None:
    """Training, its checkpoints and influence read and write nothing but the bucket."""
    baseline = training_setup.create_baseline(
        project=world.project,
        name="in the bucket",
        dataset_version=world.version,
        model=world.baseline.model,
        recipe=world.baseline.recipe,
        number_of_seeds=2,
        by=world.owner,
    )[0]
    before = names_in(bucket)
    ended = run_jobs(world.project)
    assert {job.state for job in ended if job.target_id == baseline.pk} == {JobState.SUCCEEDED}
    baseline.refresh_from_db()
    assert baseline.state == BaselineState.READY
    assert len(names_in(bucket)) > len(before)
    for stored in StoredFile.objects.all():
        assert stored.storage_name in names_in(bucket)


def test_verify_and_tidying_see_the_bucket(bucket: Any, world: World) -> None:
    call_command("verify")
    stray = files.store_bytes(content=b"nobody names this")
    StoredFile.objects.filter(pk=stray.pk).delete()
    assert file_upkeep.compare().stray == [stray.storage_name]
    freed = file_upkeep.free_unreferenced(grace=timedelta(0))
    assert freed.files == 1
    assert stray.storage_name not in names_in(bucket)
    default_storage.delete(world.version.examples_file.storage_name)
    with pytest.raises(CommandError):
        call_command("verify")


class TestDownloads:
    def address(self, world: World) -> str:
        return f"/proposals/{world.proposal.pk}/export/dataset?format=parquet&keep_removed=true"

    def test_an_export_is_fetched_from_the_storage_by_an_address_that_ends(
        self, bucket: Any, world: World, api: Api, s3_address: str
    ) -> None:
        answer = api.get(self.address(world))
        assert answer.status_code == 302
        assert answer["Cache-Control"] == "no-store"
        query = parse_qs(urlsplit(answer["Location"]).query)
        assert answer["Location"].startswith(s3_address)
        assert query["X-Amz-Expires"] == ["300"]
        assert "X-Amz-Signature" in query
        fetched = httpx.get(answer["Location"])
        assert fetched.headers["Content-Disposition"] == 'attachment; filename="dataset.parquet"'
        assert pq.read_table(io.BytesIO(fetched.content)).num_rows == 80

    def test_scores_too(self, bucket: Any, world: World, api: Api) -> None:
        answer = api.get(f"/baselines/{world.baseline.pk}/scores.parquet")
        assert answer.status_code == 302
        table = pq.read_table(io.BytesIO(httpx.get(answer["Location"]).content))
        assert np.isfinite(table.column(table.num_columns - 1).to_numpy()).all()

    def test_a_stranger_gets_no_address(self, bucket: Any, world: World, api_of: Any) -> None:
        assert api_of(world.people["stranger"]).get(self.address(world)).status_code == 404
        assert names_in(bucket, "exports/") == set()

    def test_exports_are_removed_after_a_day(self, bucket: Any, world: World, api: Api) -> None:
        api.get(self.address(world))
        assert len(names_in(bucket, "exports/")) == 1
        assert file_upkeep.remove_exports() == 0
        assert file_upkeep.remove_exports(older_than=timedelta(0)) == 1
        assert names_in(bucket, "exports/") == set()

    def test_the_pages_csv_still_streams(self, bucket: Any, world: World, owner: Client) -> None:
        answer = owner.get(f"/proposals/{world.proposal.pk}/export/")
        assert b"example_id" in b"".join(answer.streaming_content)


@pytest.mark.django_db(transaction=True)
def test_the_client_follows_to_the_storage_and_keeps_its_token_to_itself(
    bucket: Any, world: World, api: Api, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[httpx.Request] = []
    handle = httpx.HTTPTransport.handle_request

    def note(self: Any, request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return handle(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", note)
    content = io.BytesIO()
    transport = Transport(live_server.url, api.headers["Authorization"].split()[1])
    transport.download(
        f"/proposals/{world.proposal.pk}/export/dataset", content.write, format="parquet"
    )
    assert pq.read_table(content).num_rows == 78
    assert ["Authorization" in request.headers for request in sent] == [True, False]


class TestMakingTheBucket:
    def test_it_is_made_once(self, bucket: Any, settings: Any, capsys: Any) -> None:
        options = settings.STORAGES["default"]["OPTIONS"] | {"bucket_name": "another-bucket"}
        storage = settings.STORAGES["default"] | {"OPTIONS": options}
        settings.STORAGES = settings.STORAGES | {"default": storage}
        call_command("make_bucket")
        files.store_bytes(content=b"abc")
        call_command("make_bucket")
        assert capsys.readouterr().out.splitlines() == [
            "Made the bucket another-bucket.",
            "The bucket another-bucket is there.",
        ]

    def test_storage_that_does_not_answer_is_an_error_after_the_wait(
        self, bucket: Any, settings: Any
    ) -> None:
        options = settings.STORAGES["default"]["OPTIONS"] | {"endpoint_url": "http://127.0.0.1:1"}
        storage = settings.STORAGES["default"] | {"OPTIONS": options}
        settings.STORAGES = settings.STORAGES | {"default": storage}
        with pytest.raises(CommandError, match="does not make the bucket"):
            call_command("make_bucket")

    def test_a_site_with_a_folder_has_no_bucket(self) -> None:
        with pytest.raises(CommandError, match="Set S3_BUCKET"):
            call_command("make_bucket")
