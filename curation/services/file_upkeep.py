"""Comparing database and storage, and freeing disk: files that nothing needs any more, and work
folders whose process was killed. Storing and reading are in files.py."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from curation.models import StoredFile
from curation.queries.disk_usage import files_in_use, named_by
from curation.services import files

CONTENT = "content"
DAMAGED = "damaged"
EXPORTS = "exports"  # made for one download from object storage
EXPORT_AGE = timedelta(days=1)
BATCH = 1000
WORK_FOLDER_AGE = 600.0  # seconds; younger ones may not be locked yet


@dataclass
class Comparison:
    """What the database says against what storage holds. Names are SHA-256 or storage names."""

    files: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    without_row: list[str] = field(default_factory=list)  # named by a row, unknown as a file
    unreferenced: list[str] = field(default_factory=list)  # a row that nothing names
    stray: list[str] = field(default_factory=list)  # in storage, without a row

    @property
    def is_whole(self) -> bool:
        """Whether nothing that is needed is lost; files that nothing needs do no harm."""
        return not (self.missing or self.changed or self.without_row)


@dataclass
class Freed:
    files: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.files += 1
        self.bytes += size


def compare(*, read: bool = True) -> Comparison:
    """Compare every row with its file and every file with its row. `read` checks the hashes, which
    takes as long as reading everything; otherwise only the sizes are compared."""
    found = Comparison()
    used = files_in_use()
    known = set()
    for stored in StoredFile.objects.order_by("pk").iterator(BATCH):
        known.add(stored.sha256)
        if stored.sha256 not in used:
            found.unreferenced.append(stored.sha256)
            continue
        found.files += 1
        found.bytes += stored.size
        if not default_storage.exists(stored.storage_name):
            found.missing.append(stored.sha256)
        elif not files.is_whole(stored) or (read and not _has_its_hash(stored)):
            found.changed.append(stored.sha256)
    found.without_row = sorted(used - known)
    found.stray = [name for name in storage_names() if not _has_row(name, known)]
    return found


def describe(sha256: str) -> str:
    """The file and what needs it."""
    return f"{sha256}: {'; '.join(named_by(sha256)) or 'nothing needs it'}"


def set_damaged_aside(sha256: str) -> None:
    """Move a changed file out of the way, so that storing its content again mends it."""
    name = StoredFile(sha256=sha256).storage_name
    with default_storage.open(name) as damaged:
        default_storage.save(f"{DAMAGED}/{sha256}", damaged)
    default_storage.delete(name)


def free_unreferenced(*, grace: timedelta | None = None) -> Freed:
    """Note which files nothing names any more, and delete those of which that has been true for
    `grace`. What has no row at all is judged by its age in storage."""
    grace = timedelta(seconds=settings.FILE_GRACE_SECONDS) if grace is None else grace
    freed = Freed()
    _note_unreferenced()
    old = StoredFile.objects.filter(unreferenced_since__lte=Now() - grace)
    for sha256 in list(old.values_list("pk", flat=True)):
        _delete_row(sha256, grace, freed)
    for name in list(storage_names()):
        _delete_stray(name, grace, freed)
    return freed


def remove_exports(*, older_than: timedelta = EXPORT_AGE) -> int:
    """Remove the files of downloads whose address holds no longer; returns how many."""
    try:
        names = default_storage.listdir(EXPORTS)[1]
    except FileNotFoundError:
        return 0
    old = [
        f"{EXPORTS}/{name}"
        for name in names
        if timezone.now() - default_storage.get_modified_time(f"{EXPORTS}/{name}") >= older_than
    ]
    for name in old:
        default_storage.delete(name)
    return len(old)


def _note_unreferenced() -> None:
    used = files_in_use()
    rows = StoredFile.objects.values_list("pk", "unreferenced_since")
    to_note, to_clear = [], []
    for sha256, since in rows.iterator(BATCH):
        if sha256 in used and since is not None:
            to_clear.append(sha256)
        elif sha256 not in used and since is None:
            to_note.append(sha256)
    for hashes, value in ((to_note, Now()), (to_clear, None)):
        for first in range(0, len(hashes), BATCH):
            chunk = StoredFile.objects.filter(pk__in=hashes[first : first + BATCH])
            chunk.update(unreferenced_since=value)


def _delete_row(sha256: str, grace: timedelta, freed: Freed) -> None:
    """Under the lock nobody stores the file again, and under the row's lock nobody names it."""
    with transaction.atomic():
        if not files.may_delete(sha256):
            return
        rows = StoredFile.objects.select_for_update().filter(pk=sha256)
        stored = rows.filter(unreferenced_since__lte=Now() - grace).first()
        if stored is None or named_by(sha256):
            return
        size, name = stored.size, stored.storage_name
        stored.delete()
        default_storage.delete(name)
        freed.add(size)


def _delete_stray(name: str, grace: timedelta, freed: Freed) -> None:
    sha256 = Path(name).name[:64]
    with transaction.atomic():
        try:
            young = timezone.now() - default_storage.get_modified_time(name) < grace
            if young or not files.may_delete(sha256):
                return
            if Path(name).name == sha256 and StoredFile.objects.filter(pk=sha256).exists():
                return
            size = default_storage.size(name)
        except FileNotFoundError:
            return
        default_storage.delete(name)
        freed.add(size)


def storage_names() -> Iterator[str]:
    """Everything below `content/` in storage, files written aside included."""
    try:
        folders = default_storage.listdir(CONTENT)[0]
    except FileNotFoundError:
        return
    for folder in sorted(folders):
        for name in sorted(default_storage.listdir(f"{CONTENT}/{folder}")[1]):
            yield f"{CONTENT}/{folder}/{name}"


def _has_row(name: str, known: set[str]) -> bool:
    return Path(name).name in known


def _has_its_hash(stored: StoredFile) -> bool:
    """Read the file anew, whatever this process has found before."""
    import hashlib

    digest = hashlib.sha256()
    with default_storage.open(stored.storage_name) as stream:
        while chunk := stream.read(files.CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == stored.sha256


def remove_abandoned_work(*, older_than: float = WORK_FOLDER_AGE) -> int:
    """Remove the work folders of killed processes; a live one's is locked. Returns how many."""
    removed = 0
    root = Path(settings.WORK_ROOT)
    for folder in root.glob(f"{files.WORK_PREFIX}*"):
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            if time.time() - os.fstat(descriptor).st_mtime < older_than:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
        finally:
            os.close(descriptor)
    return removed
