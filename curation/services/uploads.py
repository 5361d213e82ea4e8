"""Resumable uploads: announce a file, send its parts in any order and again, complete it."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from curation.models import Project, Upload, UploadPart
from curation.queries.disk_usage import room_left
from curation.services import audit, files

PART_BYTES = 8 * 1024**2
KEPT_FOR = timedelta(days=2)
MAX_OPEN_UPLOADS = 200
SHA256 = re.compile(r"[0-9a-f]{64}")


class TooLarge(Exception):
    """More bytes than the limit, the quota or the announced size allow; the message says which."""


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
    with room_for(project=project, size=size):
        if project.uploads.filter(stored_file=None).count() >= MAX_OPEN_UPLOADS:
            raise ValidationError(f"Finish or delete an upload first: {MAX_OPEN_UPLOADS} are open.")
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


@contextmanager
def room_for(*, project: Project, size: int) -> Iterator[None]:
    """One transaction that has the project's quota to itself: what the block stores and names is
    counted by whoever comes next.

    Raises:
        TooLarge: `size` more bytes would exceed the project's quota.
    """
    with transaction.atomic():
        locked = Project.objects.select_for_update().get(pk=project.pk)
        _require_room(locked, size)
        yield


def _require_room(project: Project, size: int) -> None:
    """What the project keeps counts, and what its open uploads have yet to send."""
    unfinished = project.uploads.filter(stored_file=None)
    received = UploadPart.objects.filter(upload__in=unfinished).aggregate(
        total=Sum("stored_file__size")
    )
    announced = unfinished.aggregate(total=Sum("size"))
    room = room_left(project) - (announced["total"] or 0) + (received["total"] or 0)
    if size > room:
        raise TooLarge(
            f"The project has room for {max(room, 0):,} more bytes of its "
            f"{project.disk_quota_bytes:,}; this file has {size:,}."
        )


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
