"""Content-addressed files: written aside, hashed, put in storage once, read back with the hash
checked. What compares and tidies the whole storage is in file_upkeep.py."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import connection, transaction

from curation.models import StoredFile
from curation.queries.disk_usage import named_by
from curation.services.file_cache import FileCache

CHUNK_BYTES = 1 << 20
WORK_PREFIX = "work-"
_LOCKS = 0x66696C65  # the namespace of this module's advisory locks in PostgreSQL


class LostFile(Exception):
    """Storage has lost or changed the file of a database row; the message names what needs it."""

    def __init__(self, sha256: str, what: str) -> None:
        used = "; ".join(named_by(sha256)) or "nothing any more"
        super().__init__(f"The stored file {sha256[:12]} {what}. It is needed by: {used}.")


class MissingFile(LostFile):
    """There is no such file in storage."""

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256, "is missing from storage")


class CorruptFile(LostFile):
    """The bytes in storage are not those that were stored under this hash."""

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256, "does not have the content it was stored with")


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def store_path(*, path: Path) -> StoredFile:
    """Put a finished local file in storage under its SHA-256; storing the same content twice is
    free. The file is there before its row, so that a kill leaves no row without a file."""
    stored = StoredFile(sha256=sha256_of(path), size=path.stat().st_size)
    with transaction.atomic():
        _hold_off_deletion(stored.sha256)
        if not is_whole(stored):
            _write(stored, path)
        stored, _ = StoredFile.objects.get_or_create(
            sha256=stored.sha256, defaults={"size": stored.size}
        )
        if stored.unreferenced_since is not None:
            stored.unreferenced_since = None
            stored.save(update_fields=["unreferenced_since"])
    return stored


def store_chunks(*, chunks: Iterable[bytes], max_bytes: int) -> StoredFile:
    """Stream an upload aside and store it.

    Raises:
        ValueError: when the stream is longer than `max_bytes`; nothing is kept.
    """
    with work_folder() as folder:
        target = folder / "upload"
        size = 0
        with target.open("wb") as stream:
            for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise ValueError(f"The file is larger than the limit of {max_bytes:,} bytes.")
                stream.write(chunk)
        return store_path(path=target)


def store_bytes(*, content: bytes) -> StoredFile:
    return store_chunks(chunks=[content], max_bytes=len(content))


def is_whole(stored: StoredFile) -> bool:
    """Whether storage has the file in its right size; a cheap look that does not read it."""
    try:
        return default_storage.size(stored.storage_name) == stored.size
    except FileNotFoundError:
        return False
    except Exception:  # remote storages have errors of their own for what is not there
        if default_storage.exists(stored.storage_name):
            raise
        return False


def local_folder() -> Path | None:
    """The folder of the storage where it is one of this machine, otherwise None."""
    is_local = isinstance(default_storage, FileSystemStorage)
    return Path(default_storage.path("")) if is_local else None


def _write(stored: StoredFile, path: Path) -> None:
    folder = local_folder()
    if folder is None:
        with path.open("rb") as stream:
            default_storage.save(stored.storage_name, File(stream))
        return
    place(path, folder / stored.storage_name)


def place(source: Path, target: Path) -> None:
    """Copy a file so that `target` is there whole or not at all, also after a power cut."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.{uuid4().hex}.part")
    try:
        shutil.copyfile(source, aside)
        _flush(aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    _flush(target.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def local_path(stored: StoredFile) -> Path:
    """A local path with the file's content, for readers that need a path (Parquet, memory maps).

    The first call of a process reads the whole file; later ones only look whether it is the same.

    Raises:
        MissingFile: when storage has lost the file.
        CorruptFile: when the file does not have the right hash.
    """
    folder = local_folder()
    path = _cached_copy(stored) if folder is None else folder / stored.storage_name
    try:
        found = path.stat()
    except FileNotFoundError:
        raise MissingFile(stored.sha256) from None
    _require_hash(path, stored.sha256, found.st_ino, found.st_mtime_ns, found.st_size)
    return path


@lru_cache(maxsize=65_536)
def _require_hash(path: Path, sha256: str, inode: int, modified_ns: int, size: int) -> None:
    """Read the file, unless this process has found this very file whole before."""
    if sha256_of(path) != sha256:
        raise CorruptFile(sha256)


def cache() -> FileCache:
    """This machine's copies of files in a remote storage."""
    folder = Path(settings.WORK_ROOT) / "cache"
    return FileCache(folder=folder, max_bytes=settings.FILE_CACHE_MAX_BYTES)


def _cached_copy(stored: StoredFile) -> Path:
    """A copy of a remote file in this machine's work folder."""

    def fetch(path: Path) -> None:
        try:
            with default_storage.open(stored.storage_name) as source, path.open("wb") as stream:
                shutil.copyfileobj(source, stream, CHUNK_BYTES)
        except FileNotFoundError:
            raise MissingFile(stored.sha256) from None
        if sha256_of(path) != stored.sha256:
            raise CorruptFile(stored.sha256)

    return cache().get(stored.sha256, stored.size, fetch)


@contextmanager
def work_folder() -> Iterator[Path]:
    """A private folder under the work root, removed at the end whatever happens. While its
    process lives it is locked: `file_upkeep.remove_abandoned_work` removes what a kill left."""
    root = Path(settings.WORK_ROOT)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=WORK_PREFIX) as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(descriptor)


@contextmanager
def temporary_files_here() -> Iterator[Path]:
    """A work folder in which this process makes its temporary files meanwhile, so that those of a
    killed one are removed with it. For a process that does one thing at a time."""
    before = tempfile.tempdir
    with work_folder() as folder:
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before


def _hold_off_deletion(sha256: str) -> None:
    """Until the transaction ends, nobody deletes the file of this hash as unreferenced."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s, %s)", [_LOCKS, _bucket(sha256)])


def may_delete(sha256: str) -> bool:
    """Call it in a transaction, before deleting: False while somebody is storing this hash. If
    True, whoever stores it next waits for the transaction's end."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_LOCKS, _bucket(sha256)])
        return bool(cursor.fetchone()[0])


def _bucket(sha256: str) -> int:
    """One of 65,536 locks, since PostgreSQL holds a bounded number."""
    return int(sha256[:4], 16)
