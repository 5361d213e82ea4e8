"""Files that are made for one download. From object storage they are fetched directly, by an
address that holds for a few minutes: the web server need not carry them."""

import hashlib
from collections.abc import Mapping
from typing import BinaryIO

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage
from django.http import FileResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase

from curation.services.file_upkeep import EXPORTS
from curation.services.files import local_folder


def download(
    stream: BinaryIO, *, file_name: str, media_type: str, headers: Mapping[str, str] | None = None
) -> HttpResponseBase:
    """The answer that gives the file to whoever asked; call it after the check of their rights.

    `stream` is a seekable file; the answer closes it. `file_name` is one of ours, never a user's.
    """
    stream.seek(0)
    if local_folder() is not None:
        return FileResponse(
            stream,
            as_attachment=True,
            filename=file_name,
            content_type=media_type,
            headers=dict(headers or {}),
        )
    with stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
        name = f"{EXPORTS}/{digest}"
        stream.seek(0)
        default_storage.save(name, File(stream))  # also where it is: so that it is not tidied now
    address = default_storage.url(  # type: ignore[call-arg]  # the storage in S3's signed addresses
        name,
        parameters={
            "ResponseContentDisposition": f'attachment; filename="{file_name}"',
            "ResponseContentType": media_type,
        },
        expire=settings.DOWNLOAD_SECONDS,
    )
    return HttpResponseRedirect(address, headers={"Cache-Control": "no-store", **(headers or {})})
