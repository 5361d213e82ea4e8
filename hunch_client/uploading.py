"""Resumable uploads: the server remembers which parts arrived; a broken one goes on from there."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hunch_client.transport import Transport

Progress = Callable[[int, int], object]


def no_progress(done: int, total: int) -> None:
    """The default: say nothing."""


def upload_file(
    transport: Transport,
    project_id: str,
    path: Path,
    *,
    progress: Progress = no_progress,
    name: str = "",
) -> str:
    """Send a file and return the id of the completed upload.

    An open upload of the same file, from an earlier try, is taken up where it stopped.
    `progress` is called with (bytes sent, bytes in all).
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    upload = _unfinished(transport, project_id, size, sha256) or transport.send(
        "POST",
        f"/projects/{project_id}/uploads",
        body={"file_name": name or path.name, "size": size, "sha256": sha256},
    )
    received = set(upload["received"])
    part_size = upload["part_size"]
    with path.open("rb") as stream:
        for number in range(1, upload["number_of_parts"] + 1):
            if number not in received:
                stream.seek((number - 1) * part_size)
                transport.send(
                    "PUT",
                    f"/uploads/{upload['id']}/parts/{number}",
                    content=stream.read(part_size),
                )
            progress(min(number * part_size, size), size)
    done = transport.send("POST", f"/uploads/{upload['id']}/complete", body={})
    return str(done["id"])


def _unfinished(
    transport: Transport, project_id: str, size: int, sha256: str
) -> dict[str, Any] | None:
    for upload in transport.pages(f"/projects/{project_id}/uploads", limit=200):
        if not upload["complete"] and upload["size"] == size and upload["sha256"] == sha256:
            return upload
    return None
