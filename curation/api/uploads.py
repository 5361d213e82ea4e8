"""Resumable uploads: announce, send parts, complete; other routes then name the upload."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from ninja import Path, Query, Schema
from pydantic import Field

from curation.api.pagination import Input, Page, PageQuery, newest_first
from curation.api.problems import Problem
from curation.api.router import ApiRouter
from curation.models import Project, StoredFile, Upload
from curation.queries.access import Right, get_for
from curation.services import uploads
from curation.services.files import CHUNK_BYTES

router = ApiRouter(tags=["Uploads"])
PART_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class UploadIn(Input):
    file_name: str = Field(min_length=1, max_length=255, pattern=r"\S", examples=["reviews.jsonl"])
    size: int = Field(ge=1, le=2**62, description="Bytes of the whole file.", examples=[1048576])
    sha256: str = Field(
        "", pattern=r"^([0-9a-f]{64})?$", description="Checked when the upload is completed."
    )


class UploadOut(Schema):
    id: UUID
    project_id: UUID
    file_name: str
    size: int
    sha256: str
    part_size: int = Field(description="Bytes of every part but the last.")
    number_of_parts: int
    received: list[int] = Field(description="Numbers of the parts that have arrived.")
    complete: bool
    created_at: datetime

    @staticmethod
    def resolve_received(upload: Upload) -> list[int]:
        if upload.stored_file_id:
            return list(range(1, upload.number_of_parts + 1))
        return list(upload.parts.values_list("number", flat=True))

    @staticmethod
    def resolve_complete(upload: Upload) -> bool:
        return upload.stored_file_id is not None


@router.read("/projects/{project_id}/uploads", response=Page[UploadOut])
def list_uploads(request: HttpRequest, project_id: UUID, page: Query[PageQuery]) -> dict[str, Any]:
    """Uploads of the last two days; later they are forgotten, and files in use stay."""
    project = get_for(Project, project_id, request.user)
    return newest_first(project.uploads.prefetch_related("parts"), page)


@router.create("/projects/{project_id}/uploads", response={201: UploadOut})
def begin_upload(request: HttpRequest, project_id: UUID, body: UploadIn) -> Upload:
    """Announce a file that will be sent in parts."""
    project = get_for(Project, project_id, request.user, Right.WRITE)
    return uploads.begin(
        project=project,
        file_name=body.file_name,
        size=body.size,
        sha256=body.sha256,
        by=request.user,
    )


@router.read("/uploads/{upload_id}", response=UploadOut)
def show_upload(request: HttpRequest, upload_id: UUID) -> Upload:
    """How far an upload has come: send the parts that are not in `received`."""
    return get_for(Upload, upload_id, request.user)


@router.change(
    "/uploads/{upload_id}/parts/{number}", method="PUT", response=UploadOut, openapi_extra=PART_BODY
)
def send_part(
    request: HttpRequest, upload_id: UUID, number: int = Path(ge=1, le=10_000_000)
) -> Upload:
    """Send one part as the raw body. Parts may come in any order and more than once."""
    upload = get_for(Upload, upload_id, request.user, Right.WRITE)
    uploads.add_part(upload=upload, number=number, chunks=_body(request))
    return upload


@router.create("/uploads/{upload_id}/complete", response=UploadOut)
def complete_upload(request: HttpRequest, upload_id: UUID) -> Upload:
    """Join the parts and check the announced SHA-256."""
    upload = get_for(Upload, upload_id, request.user, Right.WRITE)
    return uploads.complete(upload=upload, by=request.user)


@router.remove("/uploads/{upload_id}")
def delete_upload(request: HttpRequest, upload_id: UUID) -> None:
    """Give an upload up. A file that is in use by a dataset or model stays."""
    get_for(Upload, upload_id, request.user, Right.WRITE).delete()


def completed(upload_id: UUID, user: Any, project: Project) -> tuple[Upload, StoredFile]:
    """An upload of this project that is complete, and its file. Raises Http404 or Problem."""
    upload = get_for(Upload, upload_id, user, Right.WRITE, project=project)
    if upload.stored_file is None:
        raise Problem(422, "This upload is not complete; send the missing parts and complete it.")
    return upload, upload.stored_file


def stored(chunks: Iterator[bytes] | Any) -> StoredFile:
    """A file of a form, stored. Raises TooLarge."""
    from curation.services import files

    try:
        return files.store_chunks(chunks=chunks, max_bytes=settings.UPLOAD_MAX_BYTES)
    except ValueError as error:
        raise uploads.TooLarge(str(error)) from error


def _body(request: HttpRequest) -> Iterator[bytes]:
    while chunk := request.read(CHUNK_BYTES):
        yield chunk
