"""Stored files: whole or absent, checked when read, compared by `verify`, deleted once nothing has
needed them for the grace time."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from curation.models import StoredFile, Upload
from curation.services import datasets, file_upkeep, files, jobs, uploads

pytestmark = pytest.mark.django_db(transaction=True)
AT_ONCE = timedelta(0)


@pytest.fixture(autouse=True)
def apart(storage, monkeypatch):
    monkeypatch.setattr(jobs, "send", lambda job: None)


@pytest.fixture
def version(project, user):
    """A dataset version whose upload is stored."""
    source = files.store_bytes(content=b"id,text\n1,good\n")
    dataset = datasets.create_dataset(project=project, name="sentences", by=user)
    return datasets.add_version(dataset=dataset, source_file=source, file_name="a.csv", by=user)[0]


def path_of(stored: StoredFile) -> Path:
    return files.local_folder() / stored.storage_name


def damage(path: Path) -> None:
    """Other bytes of the same length."""
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


def test_a_changed_file_is_refused_and_the_error_names_what_needs_it(version):
    files.local_path(version.source_file)
    damage(path_of(version.source_file))
    for _ in range(2):
        with pytest.raises(
            files.CorruptFile, match=r"needed by: dataset version sentences.*source"
        ):
            files.local_path(version.source_file)


def test_a_missing_file_is_named_with_what_needs_it(version):
    path_of(version.source_file).unlink()
    with pytest.raises(files.MissingFile, match=r"missing from storage.*dataset version sentences"):
        files.local_path(version.source_file)


def test_a_process_reads_a_file_whole_only_once_to_check_it(version, monkeypatch):
    read = []
    hash_of = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: read.append(path) or hash_of(path))
    for _ in range(3):
        files.local_path(version.source_file)
    assert len(read) == 1
    os.utime(path_of(version.source_file), ns=(0, 0))
    files.local_path(version.source_file)
    assert len(read) == 2


def test_storing_the_same_content_again_mends_a_truncated_file(version):
    path = path_of(version.source_file)
    os.truncate(path, 3)
    files.store_bytes(content=b"id,text\n1,good\n")
    assert files.local_path(version.source_file) == path


def test_what_dies_between_file_and_row_leaves_a_file_without_row_never_a_row_without_file(
    monkeypatch,
):
    def die(**_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StoredFile.objects, "get_or_create", die)
        with pytest.raises(KeyboardInterrupt):
            files.store_bytes(content=b"half")
    assert not StoredFile.objects.exists()
    found = file_upkeep.compare()
    assert found.is_whole
    assert len(found.stray) == 1
    assert file_upkeep.free_unreferenced(grace=timedelta(hours=1)).files == 0
    assert file_upkeep.free_unreferenced(grace=AT_ONCE).files == 1
    assert file_upkeep.compare() == file_upkeep.Comparison()


@pytest.fixture
def tiny_disk(tmp_path, settings):
    """Storage on a real disk of one megabyte."""
    settings.MEDIA_ROOT = tmp_path / "tiny"
    settings.MEDIA_ROOT.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", settings.MEDIA_ROOT], check=False
    )
    if mounted.returncode:
        pytest.skip("A small disk cannot be mounted here; the injected error is tested instead.")
    yield settings.MEDIA_ROOT
    subprocess.run(["umount", settings.MEDIA_ROOT], check=True)


def test_a_full_disk_keeps_nothing_of_the_file_and_what_is_there_stays(tiny_disk):
    kept = files.store_bytes(content=b"small")
    with pytest.raises(OSError, match="No space left"):
        files.store_bytes(content=os.urandom(2_000_000))
    assert list(StoredFile.objects.all()) == [kept]
    assert file_upkeep.compare().stray == []
    assert files.local_path(kept).read_bytes() == b"small"
    assert files.store_bytes(content=os.urandom(500_000)).size == 500_000


def test_an_error_while_copying_keeps_nothing_of_the_file(monkeypatch, storage):
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"begun")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        files.store_bytes(content=b"content")
    assert not StoredFile.objects.exists()
    assert [path for path in storage.rglob("*") if path.is_file()] == []


def test_deleting_an_upload_frees_its_disk_after_the_grace_time(project, user):
    upload = uploads.begin(project=project, file_name="a.csv", size=4, by=user)
    uploads.add_part(upload=upload, number=1, chunks=[b"text"])
    uploads.complete(upload=upload, by=user)
    stored = Upload.objects.get().stored_file
    file_upkeep.free_unreferenced(grace=AT_ONCE)
    assert files.is_whole(stored)
    upload.delete()
    assert file_upkeep.free_unreferenced().files == 0, "the grace time begins when it is noticed"
    assert StoredFile.objects.get().unreferenced_since is not None
    assert file_upkeep.free_unreferenced(grace=AT_ONCE) == file_upkeep.Freed(1, 4)
    assert not StoredFile.objects.exists()
    assert not path_of(stored).exists()


def test_a_file_that_is_stored_again_or_named_again_is_kept(version):
    again = files.store_bytes(content=b"again")
    file_upkeep.free_unreferenced(grace=timedelta(hours=1))
    files.store_bytes(content=b"again")
    StoredFile.objects.filter(pk=version.source_file_id).update(
        unreferenced_since=version.created_at
    )
    with connection.execute_wrapper(no_deletion_of(version.source_file_id)):
        file_upkeep.free_unreferenced(grace=timedelta(hours=1))
    assert StoredFile.objects.get(pk=version.source_file_id).unreferenced_since is None
    assert files.is_whole(again)


def no_deletion_of(sha256: str):
    def wrapper(execute, sql, parameters, many, context):
        assert not (sql.startswith("DELETE") and sha256 in (parameters or ()))
        return execute(sql, parameters, many, context)

    return wrapper


def test_a_file_that_is_being_stored_is_not_deleted():
    stored = files.store_bytes(content=b"wanted soon")
    file_upkeep.free_unreferenced(grace=timedelta(hours=1))
    storing, swept = threading.Event(), threading.Event()

    def store_in_a_long_transaction() -> None:
        with transaction.atomic():
            files.store_bytes(content=b"wanted soon")
            storing.set()
            swept.wait()
        connection.close()

    thread = threading.Thread(target=store_in_a_long_transaction)
    thread.start()
    storing.wait()
    assert file_upkeep.free_unreferenced(grace=AT_ONCE).files == 0
    swept.set()
    thread.join()
    assert files.local_path(stored).read_bytes() == b"wanted soon"


HOLDING = """
import os, sys, time
import django
django.setup()
from curation.services.files import temporary_files_here
import tempfile
with temporary_files_here() as folder:
    tempfile.mkdtemp()
    print(folder, flush=True)
    time.sleep(600)
"""


def test_the_work_folder_of_a_killed_process_is_removed_and_of_a_live_one_kept(settings):
    environment = {
        **os.environ,
        "HUNCH_WORK": str(settings.WORK_ROOT),
        "DJANGO_SETTINGS_MODULE": "curation.settings",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        folder = Path(process.stdout.readline().strip())
        assert len(list(folder.iterdir())) == 1
        assert file_upkeep.remove_abandoned_work(older_than=0) == 0
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert folder.exists()
    assert file_upkeep.remove_abandoned_work() == 0, "it may be too young to be locked"
    assert file_upkeep.remove_abandoned_work(older_than=0) == 1
    assert not folder.exists()


def verify(*options: str) -> str:
    output = StringIO()
    call_command("verify", *options, stdout=output)
    return output.getvalue()


def test_verify_finds_nothing_wrong_with_a_whole_storage(version):
    assert verify() == "1 files of 15 bytes are needed.\n"


def test_verify_fails_for_what_is_lost_and_names_what_needs_it(version):
    damage(path_of(version.source_file))
    assert verify("--quick").startswith("1 files")
    output = StringIO()
    with pytest.raises(CommandError, match="1 files that are needed are lost"):
        call_command("verify", stdout=output)
    assert "Changed: 1" in output.getvalue()
    assert "dataset version sentences" in output.getvalue()
    path_of(version.source_file).unlink()
    with pytest.raises(CommandError, match="1 files"):
        verify("--quick")


def test_verify_mends_by_deleting_what_is_old_and_setting_aside_what_is_damaged(version, settings):
    settings.FILE_GRACE_SECONDS = 0
    unneeded = files.store_bytes(content=b"unneeded")
    damage(path_of(version.source_file))
    with pytest.raises(CommandError):
        verify("--mend")
    assert not path_of(unneeded).exists()
    assert not path_of(version.source_file).exists()
    assert (settings.MEDIA_ROOT / "damaged" / version.source_file_id).exists()
    files.store_bytes(content=b"id,text\n1,good\n")
    assert verify() == "1 files of 15 bytes are needed.\n"
