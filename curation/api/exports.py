"""Exports of a proposal's edits and of a dataset version, for other tools."""

import tempfile
from collections.abc import Iterator
from typing import Any, Literal
from uuid import UUID

import pyarrow as pa
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from ninja import Query

from curation.api.problems import Problem
from curation.api.router import ApiRouter
from curation.downloads import download
from curation.models import Influence, Proposal, VersionState
from curation.queries import exports
from curation.queries.access import get_for
from curation.queries.examples import ExampleTable

router = ApiRouter(tags=["Exports"])
FileFormat = Literal["parquet", "csv", "jsonl"]
MEDIA_TYPES = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "jsonl": "application/x-ndjson",
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
FILES = {
    "responses": {
        200: {
            "description": "The file.",
            "content": dict.fromkeys(MEDIA_TYPES.values(), BINARY),
        },
        302: {"description": "Where object storage has the file, for five minutes."},
    }
}
SNIPPET = {
    "responses": {
        200: {
            "description": "Python.",
            "content": {"text/x-python": {"schema": {"type": "string"}}},
        }
    }
}


@router.read("/proposals/{proposal_id}/export/dataset", openapi_extra=FILES)
def export_dataset(
    request: HttpRequest,
    proposal_id: UUID,
    format: Query[FileFormat] = "parquet",
    keep_removed: bool = False,
) -> HttpResponseBase:
    """The dataset with a `weight` column; removed examples are left out unless `keep_removed`."""
    proposal = get_for(Proposal, proposal_id, request.user)
    table = _table(proposal)
    return _file(
        table,
        exports.weighted_dataset(table, proposal, keep_removed=keep_removed),
        format,
        "dataset",
    )


@router.read("/proposals/{proposal_id}/export/edits", openapi_extra=FILES)
def export_edits(
    request: HttpRequest, proposal_id: UUID, format: Query[FileFormat] = "csv"
) -> HttpResponseBase:
    """The edits alone: example id, train index, weight."""
    proposal = get_for(Proposal, proposal_id, request.user)
    table = _table(proposal)
    return _file(table, exports.edits_table(table, proposal), format, "edits")


@router.read("/proposals/{proposal_id}/export/issues", openapi_extra=FILES)
def export_issues(
    request: HttpRequest,
    proposal_id: UUID,
    format: Query[FileFormat] = "csv",
    influence: UUID | None = None,
) -> HttpResponseBase:
    """A table of issues, one row a training example, ranked by influence if scores are named."""
    proposal = get_for(Proposal, proposal_id, request.user)
    scores = (
        get_for(Influence, influence, request.user, baseline_id=proposal.baseline_id)
        if influence
        else None
    )
    table = _table(proposal)
    return _file(table, exports.issue_table(table, proposal, scores), format, "issues")


@router.read("/proposals/{proposal_id}/export/sampler.py", openapi_extra=SNIPPET)
def export_sampler(request: HttpRequest, proposal_id: UUID) -> HttpResponse:
    """A piece of Python that trains with the weights of the exported dataset."""
    proposal = get_for(Proposal, proposal_id, request.user)
    return HttpResponse(
        exports.sampler_snippet(proposal),
        content_type="text/x-python",
        headers=_attachment("sampler.py"),
    )


def _table(proposal: Proposal) -> ExampleTable:
    version = proposal.baseline.dataset_version
    if version.state != VersionState.READY:
        raise Problem(409, "The dataset version is not imported yet.")
    return ExampleTable(version)


def _file(
    table: ExampleTable, reader: pa.RecordBatchReader, file_format: str, name: str
) -> HttpResponseBase:
    file_name = f"{name}.{file_format}"
    media_type = MEDIA_TYPES[file_format]
    if file_format == "parquet":
        with table:
            stream = tempfile.TemporaryFile()  # noqa: SIM115  the answer closes it
            exports.write_parquet(reader, stream)
        return download(stream, file_name=file_name, media_type=media_type)
    convert: Any = exports.as_csv if file_format == "csv" else exports.as_json_lines
    return StreamingHttpResponse(
        _closing(table, convert(reader)), content_type=media_type, headers=_attachment(file_name)
    )


def _closing(table: ExampleTable, chunks: Iterator[bytes]) -> Iterator[bytes]:
    with table:
        yield from chunks


def _attachment(file_name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{file_name}"'}
