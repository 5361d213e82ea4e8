"""Resumable uploads: announce a file, send its parts in any order and again, complete it."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone

from curation.models import Project, StoredFile, Upload, UploadPart
from curation.services import audit, files

PART_BYTES = 8 * 1024**2
KEPT_FOR = timedelta(days=2)
MAX_OPEN_UPLOADS = 200
SHA256 = re.compile(r"[0-9a-f]{64}")


class TooLarge(Exception):
    """More bytes than the limit, the quota or the announced size allow; the message says which."""


@transaction.atomic
def begin(*, project: Project, file_name: str, size: int, by: Any, sha256: str = "") -> Upload:
    """Announce a file of `size` bytes.

    Raises:
        ValidationError: a malformed hash or name, or too many open uploads.
        TooLarge: above the limit for one file, or more than the project has room for.
    """
    if sha256 and not SHA256.fullmatch(sha256):
        raise ValidationError({"sha256": "The SHA-256 is written as 64 lower-case hex digits."})
    if size > settings.UPLOAD_MAX_BYTES:
        raise TooLarge(f"The limit for one file is {settings.UPLOAD_MAX_BYTES:,} bytes.")
    project = Project.objects.select_for_update().get(pk=project.pk)
    open_uploads = project.uploads.filter(stored_file=None)
    if open_uploads.count() >= MAX_OPEN_UPLOADS:
        raise ValidationError(f"Finish or delete an upload first: {MAX_OPEN_UPLOADS} are open.")
    require_room(project=project, size=size)
    upload = Upload(
        project=project,
        file_name=file_name.strip()[-255:],
        size=size,
        sha256=sha256,
        part_size=PART_BYTES,
        created_by=by,
    )
    upload.full_clean()
    upload.save()
    return upload


def require_room(*, project: Project, size: int) -> None:
    """Check the disk quota; call it with the project's row locked so that parallel calls add up.

    Raises:
        TooLarge: `size` more bytes would exceed the project's quota.
    """
    in_use = source_files(project)
    promised = _total(project.uploads.exclude(stored_file__in=in_use))
    used = _total(StoredFile.objects.filter(pk__in=in_use))
    room = project.disk_quota_bytes - used - promised
    if size > room:
        raise TooLarge(
            f"The project has room for {max(room, 0):,} more bytes of its "
            f"{project.disk_quota_bytes:,}; this file has {size:,}."
        )


def _total(rows: QuerySet[Any]) -> int:
    return rows.aggregate(total=Sum("size"))["total"] or 0


def source_files(project: Project) -> set[str]:
    """Hashes of the files that the project's members uploaded and that are in use."""
    used: set[str] = set()
    versions = project.datasets.values_list("versions__source_file", "versions__examples_file")
    for pair in versions:
        used.update(sha256 for sha256 in pair if sha256)
    for stored in project.models.values_list("files", flat=True):
        used.update(stored.values())
    return used


def add_part(*, upload: Upload, number: int, chunks: Iterable[bytes]) -> UploadPart:
    """Store part `number`, counted from 1. Sending it again replaces it.

    Raises:
        ValidationError: the upload is complete, there is no such part, or it has the wrong size.
        TooLarge: the part is longer than announced.
    """
    if upload.stored_file_id:
        raise ValidationError("This upload is complete.")
    if not 1 <= number <= upload.number_of_parts:
        raise ValidationError({"number": f"The parts are numbered 1 to {upload.number_of_parts}."})
    expected = upload.size_of_part(number)
    try:
        stored = files.store_chunks(chunks=chunks, max_bytes=expected)
    except ValueError as error:
        raise TooLarge(f"Part {number} has {expected:,} bytes; more were sent.") from error
    if stored.size != expected:
        raise ValidationError(
            {"body": f"Part {number} has {expected:,} bytes; {stored.size:,} were sent."}
        )
    part, _ = UploadPart.objects.update_or_create(
        upload=upload, number=number, defaults={"stored_file": stored}
    )
    return part


@transaction.atomic
def complete(*, upload: Upload, by: Any) -> Upload:
    """Join the parts to one stored file. Completing twice changes nothing.

    Raises:
        ValidationError: parts are missing, or the hash is not the announced one.
    """
    upload = Upload.objects.select_for_update().select_related("project").get(pk=upload.pk)
    if upload.stored_file_id:
        return upload
    parts = list(upload.parts.select_related("stored_file"))
    missing = upload.number_of_parts - len(parts)
    if missing:
        raise ValidationError(f"Parts are missing: {missing} of {upload.number_of_parts}.")
    stored = files.store_chunks(chunks=_content(parts), max_bytes=upload.size)
    if upload.sha256 and stored.sha256 != upload.sha256:
        raise ValidationError(
            {"sha256": f"The parts have the SHA-256 {stored.sha256}, not the announced one."}
        )
    upload.stored_file = stored
    upload.sha256 = stored.sha256
    upload.save(update_fields=["stored_file", "sha256"])
    upload.parts.all().delete()
    audit.record(
        action="file uploaded", actor=by, project=upload.project, target=upload, bytes=stored.size
    )
    return upload


def _content(parts: Iterable[UploadPart]) -> Iterator[bytes]:
    for part in parts:
        digest = hashlib.sha256()
        with default_storage.open(part.stored_file.storage_name) as stream:
            while chunk := stream.read(files.CHUNK_BYTES):
                digest.update(chunk)
                yield chunk
        if digest.hexdigest() != part.stored_file_id:
            raise files.CorruptFile(part.stored_file_id)


def forget_old() -> int:
    """Delete uploads that were never used or completed; for the periodic clean-up."""
    deleted, _ = Upload.objects.filter(created_at__lt=timezone.now() - KEPT_FOR).delete()
    return deleted
