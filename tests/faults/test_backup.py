"""Back up, destroy, restore: what comes back is what was there, checked file by file."""

import json
import os
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from curation.models import AuditEntry, Dataset, DatasetVersion, Project
from curation.services import datasets, files, jobs, projects

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def site(storage, project, user, monkeypatch):
    """A project with two dataset versions."""
    monkeypatch.setattr(jobs, "send", lambda job: None)
    dataset = datasets.create_dataset(project=project, name="sentences", by=user)
    for content in (b"id,text\n1,good\n", b"id,text\n1,bad\n"):
        source = files.store_bytes(content=content)
        datasets.add_version(dataset=dataset, source_file=source, file_name="a.csv", by=user)
    files.store_bytes(content=b"not needed")
    return project


@pytest.fixture
def backup(site, tmp_path) -> Path:
    call_command("backup", tmp_path / "backup", stdout=StringIO())
    return tmp_path / "backup"


def restore(folder: Path, *options: str) -> str:
    output = StringIO()
    call_command("restore", folder, *options, stdout=output)
    return output.getvalue()


def test_what_was_destroyed_is_back_and_whole(backup, site, storage):
    before = list(DatasetVersion.objects.order_by("number").values())
    events = AuditEntry.objects.count()
    projects.create_project(name="Made after the backup", by=site.members.get())
    shutil.rmtree(storage)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM curation_job; DELETE FROM curation_datasetversion")

    assert "2 files of 29 bytes are needed" in restore(backup, "--replace")

    assert list(DatasetVersion.objects.order_by("number").values()) == before
    assert AuditEntry.objects.count() == events
    assert [one.name for one in Project.objects.all()] == ["Tweets"]
    contents = [
        files.local_path(one.source_file).read_bytes()
        for one in DatasetVersion.objects.order_by("number")
    ]
    assert contents == [b"id,text\n1,good\n", b"id,text\n1,bad\n"]
    with pytest.raises(Exception, match="append-only"), connection.cursor() as cursor:
        cursor.execute("UPDATE curation_auditentry SET action = 'x'")


def test_a_later_backup_copies_only_what_is_new_and_drops_what_is_gone(backup, site, user):
    kept = sorted((backup / "content").iterdir())
    assert len(kept) == 2
    written = {path.name: path.stat().st_mtime_ns for path in kept}
    source = files.store_bytes(content=b"a third")
    dataset = Dataset.objects.get()
    datasets.add_version(dataset=dataset, source_file=source, file_name="b.csv", by=user)
    connection.cursor().execute("DELETE FROM curation_datasetversion WHERE number = 1")
    call_command("backup", backup, stdout=StringIO())
    now = {path.name: path.stat().st_mtime_ns for path in (backup / "content").iterdir()}
    assert len(now) == 2
    assert len(now.items() & written.items()) == 1


def test_a_database_that_holds_something_is_replaced_only_on_request(backup):
    with pytest.raises(CommandError, match="not empty"):
        restore(backup)
    assert Project.objects.count() == 1


@pytest.mark.parametrize("part", ["database.dump", "content"])
def test_a_changed_backup_is_refused_before_anything_is_touched(backup, part):
    path = backup / part
    path = next(path.iterdir()) if path.is_dir() else path
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CommandError, match="has changed since the backup"):
        restore(backup, "--replace")
    assert Project.objects.count() == 1


def test_a_backup_of_a_newer_version_and_a_folder_that_is_none_are_refused(backup, tmp_path):
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["migrations"].append("curation.9999_future")
    (backup / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CommandError, match=r"newer version of Hunch: curation\.9999_future"):
        restore(backup, "--replace")
    with pytest.raises(CommandError, match="is no backup"):
        restore(tmp_path)
    with pytest.raises(CommandError, match="not a backup"):
        call_command("backup", PROJECT / "docs")


def test_a_lost_file_fails_the_backup_by_name_and_the_earlier_one_stays(backup, storage):
    shutil.rmtree(storage)
    files.store_bytes(content=b"id,text\n1,good\n")
    shutil.rmtree(backup / "content")
    manifest = (backup / "manifest.json").read_bytes()
    with pytest.raises(CommandError, match=r"missing from storage.*sentences"):
        call_command("backup", backup, stdout=StringIO())
    assert (backup / "manifest.json").read_bytes() == manifest


def test_a_backup_comes_up_on_a_new_machine_with_embedded_servers(backup, tmp_path):
    own = ("DATABASE_URL", "REDIS_URL", "HUNCH_VAR")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment["HUNCH_VAR"] = str(tmp_path / "new")
    command = [sys.executable, "manage.py", "restore", str(backup)]
    found = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "2 files of 29 bytes are needed" in found.stdout
