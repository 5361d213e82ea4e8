"""The HTTP API for programs: `path("api/v1/", api.urls)`. One file a noun."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, re_path
from ninja import NinjaAPI

from curation.api import (
    behaviours,
    calibration,
    datasets,
    deletions,
    documentation,
    exports,
    jobs,
    probe_sets,
    problems,
    projects,
    proposals,
    registrations,
    reviews,
    suggestions,
    training,
    uploads,
    webhooks,
)
from curation.api.parsing import StrictParser

ROUTERS = (
    projects.router,
    uploads.router,
    datasets.router,
    probe_sets.router,
    training.router,
    behaviours.router,
    behaviours.scores_router,
    calibration.router,
    proposals.router,
    proposals.predictions_router,
    suggestions.router,
    registrations.router,
    registrations.track_record_router,
    reviews.router,
    jobs.router,
    exports.router,
    webhooks.router,
    deletions.router,
)
DESCRIPTION = """
Everything that a person can do with Hunch by form, a program does here.

**A prediction is a hypothesis, never a guarantee:** register it, retrain, and read the verdict.

* Send `Authorization: Bearer hunch_…`; tokens are made on your account page and have scopes
  (`x-scope` of each operation).
* Errors are problem details (RFC 9457); `errors` names each field and the rule that it breaks.
* Creating calls take an `Idempotency-Key`: sent twice, also at the same time, they make one thing.
* Lists come in pages: pass `next` on as `cursor`.
* Answers have an `ETag`; send it back as `If-None-Match` and an unchanged thing costs nothing.
* Status 429 comes with `Retry-After`, in seconds.
"""


class HunchAPI(NinjaAPI):
    def get_openapi_schema(self, **arguments: Any) -> Any:
        schema = super().get_openapi_schema(**arguments)
        documentation.complete(schema)
        return schema

    def _get_urls(self) -> list[URLResolver | URLPattern]:
        """The library's routes, with plain 405 and HTML 404 answers turned into problem details."""
        routes: list[Any] = super()._get_urls()
        for route in routes:
            route.callback = _with_problems(route.callback)
        return [*routes, re_path(r"^.*$", _unknown_address)]


def _with_problems(view: Any) -> Any:
    def answered(request: HttpRequest, *positional: Any, **named: Any) -> HttpResponseBase:
        try:
            answer: HttpResponseBase = view(request, *positional, **named)
        except Http404:
            return _unknown_address(request)
        if answer.status_code == 405:
            allowed = answer["Allow"]
            return problems.response(405, f"Use {allowed}.", headers={"Allow": allowed})
        return answer

    answered.csrf_exempt = True  # type: ignore[attr-defined]  # tokens, not cookies, sign requests in
    return answered


def _unknown_address(request: HttpRequest) -> HttpResponse:
    return problems.response(
        404, "There is nothing at this address; see the documentation of the API."
    )


_unknown_address.csrf_exempt = True  # type: ignore[attr-defined]

api = HunchAPI(
    title="Hunch",
    version="1",
    description=DESCRIPTION,
    urls_namespace="api",
    docs=documentation.LocalDocs(),
    parser=StrictParser(),
)
problems.install(api)
for router in ROUTERS:
    api.add_router("", router)
