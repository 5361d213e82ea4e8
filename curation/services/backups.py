"""A backup is a folder: the database as PostgreSQL's own dump, the stored files, and a manifest. It
is restored as a whole. What the commands print is in management/commands."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone
from psycopg.conninfo import make_conninfo

from curation.models import StoredFile
from curation.queries.disk_usage import files_in_use
from curation.services import files
from embedded.postgres import postgres_programs

FORMAT = 1
DATABASE, CONTENT, MANIFEST, KEY = "database.dump", "content", "manifest.json", "secret_key"


class BackupError(Exception):
    """The backup cannot be made, read or restored; the message says why."""


@dataclass(frozen=True)
class Manifest:
    """What a backup holds; written last, so that a folder without one is not a backup."""

    made_at: str
    database_sha256: str
    files: int
    bytes: int
    migrations: list[str]
    format: int = FORMAT


def back_up(*, folder: Path) -> Manifest:
    """Write the site as it is at this moment into `folder`, while it runs. A backup that is there
    is brought up to date: files that it has already are not copied again.

    Raises:
        BackupError: the folder holds something else, or PostgreSQL's dump failed.
        LostFile: a file that the database needs is missing or changed.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise BackupError(f"{folder} holds something that is not a backup.")
    (folder / CONTENT).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    aside = folder / f"{DATABASE}.new"
    with transaction.atomic(durable=True):
        snapshot = _begin_snapshot()
        _run("pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={aside}")
        kept = list(StoredFile.objects.filter(pk__in=files_in_use()))
        migrations = sorted(f"{app}.{name}" for app, name in _applied())
    for stored in kept:
        _fetch(stored, folder / CONTENT / stored.sha256)
    manifest = Manifest(
        made_at=timezone.now().isoformat(timespec="seconds"),
        database_sha256=files.sha256_of(aside),
        files=len(kept),
        bytes=sum(stored.size for stored in kept),
        migrations=migrations,
    )
    key = Path(settings.VAR) / KEY
    if key.exists():
        shutil.copy(key, folder / KEY)
    aside.replace(folder / DATABASE)
    new = folder / f"{MANIFEST}.new"
    new.write_text(json.dumps(asdict(manifest), indent=1) + "\n")
    new.replace(folder / MANIFEST)
    _remove_others(folder / CONTENT, {stored.sha256 for stored in kept})
    return manifest


def read_manifest(*, folder: Path) -> Manifest:
    """Raises BackupError unless the folder holds a whole backup that this version can restore."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text()))
    except FileNotFoundError:
        raise BackupError(f"{folder} is no backup: it has no {MANIFEST}.") from None
    except (ValueError, TypeError) as error:
        raise BackupError(f"{folder / MANIFEST} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise BackupError(f"The backup has format {manifest.format}; this is format {FORMAT}.")
    known = {f"{app}.{name}" for app, name in MigrationLoader(connection).disk_migrations}
    unknown = sorted(set(manifest.migrations) - known)
    if unknown:
        raise BackupError(f"The backup was made by a newer version of Hunch: {unknown[0]}.")
    if files.sha256_of(folder / DATABASE) != manifest.database_sha256:
        raise BackupError(f"{folder / DATABASE} has changed since the backup was made.")
    return manifest


def restore(*, folder: Path, replace: bool = False) -> Manifest:
    """Put a backup in the place of this site's database and files. Nothing else may run.

    Files come first and each is checked; the database follows in one transaction.

    Raises:
        BackupError: the backup is not whole, or the database holds something and `replace` is
        false; nothing has been changed then.
    """
    manifest = read_manifest(folder=folder)
    if connection.introspection.table_names() and not replace:
        raise BackupError("The database is not empty; restoring replaces all that it holds.")
    for path in sorted((folder / CONTENT).iterdir()):
        _put(path)
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    connection.close()
    _run(
        "pg_restore",
        *("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"),
        str(folder / DATABASE),
    )
    if (folder / KEY).exists():
        shutil.copy(folder / KEY, Path(settings.VAR) / KEY)
    return manifest


def _begin_snapshot() -> str:
    """Name the state that the rest of this transaction and the dump see."""
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT pg_export_snapshot()")
        return str(cursor.fetchone()[0])


def _applied() -> Iterable[tuple[str, str]]:
    return MigrationLoader(connection).applied_migrations


def _fetch(stored: StoredFile, target: Path) -> None:
    """Copy a file out of storage, unless the backup has it, and check it."""
    if target.exists() and target.stat().st_size == stored.size:
        return
    aside = target.with_name(f"{target.name}.part")
    try:
        with default_storage.open(stored.storage_name) as source, aside.open("wb") as stream:
            shutil.copyfileobj(source, stream, files.CHUNK_BYTES)
    except FileNotFoundError:
        raise files.MissingFile(stored.sha256) from None
    if files.sha256_of(aside) != stored.sha256:
        aside.unlink()
        raise files.CorruptFile(stored.sha256)
    aside.replace(target)


def _put(path: Path) -> None:
    if files.sha256_of(path) != path.name:
        raise BackupError(f"{path} has changed since the backup was made.")
    stored = StoredFile(sha256=path.name, size=path.stat().st_size)
    folder = files.local_folder()
    if folder is not None:
        files.place(path, folder / stored.storage_name)
    else:
        with path.open("rb") as stream:
            default_storage.save(stored.storage_name, File(stream))


def _remove_others(folder: Path, kept: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()


def _run(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on the site's database; the password goes by environment,
    since everybody sees command lines."""
    parameters: dict[str, Any] = connection.get_connection_params()
    known = {"dbname", "user", "host", "port", "sslmode", "sslrootcert", "sslcert", "sslkey"}
    address = make_conninfo(**{key: parameters[key] for key in known & parameters.keys()})
    found = subprocess.run(
        [str(postgres_programs() / program), f"--dbname={address}", *arguments],
        env={**os.environ, "PGPASSWORD": str(parameters.get("password") or "")},
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise BackupError(f"{program} failed: {found.stderr.strip()}")
