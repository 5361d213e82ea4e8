"""Content-addressed files: written aside, hashed, put in storage once, read back with the hash
checked."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage

from curation.models import StoredFile

CHUNK_BYTES = 1 << 20


class CorruptFile(Exception):
    """The bytes in storage are not those that were stored under this hash."""


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def store_path(*, path: Path) -> StoredFile:
    """Put a finished local file in storage under its SHA-256; storing the same content twice is
    free."""
    sha256 = sha256_of(path)
    stored, _ = StoredFile.objects.get_or_create(
        sha256=sha256, defaults={"size": path.stat().st_size}
    )
    if stored.unreferenced_since is not None:
        StoredFile.objects.filter(pk=sha256).update(unreferenced_since=None)
    if not default_storage.exists(stored.storage_name):
        _write(stored, path)
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


def _write(stored: StoredFile, path: Path) -> None:
    if isinstance(
        default_storage._wrapped if hasattr(default_storage, "_wrapped") else default_storage,
        FileSystemStorage,
    ):
        target = Path(default_storage.path(stored.storage_name))
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f"{target.name}.{os.getpid()}.part")
        shutil.copyfile(path, aside)
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(target)
    else:
        with path.open("rb") as stream:
            default_storage.save(stored.storage_name, File(stream))


def local_path(stored: StoredFile) -> Path:
    """A local path with the file's content, for readers that need a path (Parquet, memory maps).

    Raises:
        FileNotFoundError: when storage has lost the file.
        CorruptFile: when a fetched copy does not have the right hash.
    """
    try:
        path = Path(default_storage.path(stored.storage_name))
    except NotImplementedError:
        return _cached_copy(stored)
    if not path.exists():
        raise FileNotFoundError(f"The stored file {stored} is missing from storage.")
    return path


def _cached_copy(stored: StoredFile) -> Path:
    target = Path(settings.WORK_ROOT) / "cache" / stored.sha256
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.{os.getpid()}.part")
    with default_storage.open(stored.storage_name) as source, aside.open("wb") as stream:
        shutil.copyfileobj(source, stream, CHUNK_BYTES)
    verify(path=aside, sha256=stored.sha256)
    aside.replace(target)
    return target


def verify(*, path: Path, sha256: str) -> None:
    """Raise CorruptFile unless the file has this hash."""
    if sha256_of(path) != sha256:
        raise CorruptFile(
            f"The stored file {sha256[:12]} does not have the content it was stored with."
        )


@contextmanager
def work_folder() -> Iterator[Path]:
    """A private folder under the work root, removed at the end whatever happens."""
    root = Path(settings.WORK_ROOT)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        yield Path(folder)
