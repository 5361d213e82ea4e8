"""The OpenAPI description with every error declared, and its page without inline script."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from ninja import NinjaAPI
from ninja.openapi.docs import DocsBase

from curation.api import problems
from curation.api.body_examples import EXAMPLES

SHARED_ERRORS = (400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 503)
WITHOUT_OBJECT = (404, 409)
RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}


ETAG = {"ETag": {"description": "Names this content.", "schema": {"type": "string"}}}
IF_NONE_MATCH = {
    "in": "header",
    "name": "If-None-Match",
    "required": False,
    "schema": {"type": "string"},
    "description": "The `ETag` that you have: an unchanged answer is then an empty 304.",
}


class LocalDocs(DocsBase):
    def render_page(self, request: HttpRequest, api: NinjaAPI, **arguments: Any) -> HttpResponse:
        return render(
            request, "api/documentation.html", {"description": self.get_openapi_url(api, arguments)}
        )


def complete(schema: dict[str, Any]) -> None:
    """Add to every operation what the library leaves out: problem details for each error status,
    ETags, and an example of the body."""
    components = schema["components"].setdefault("schemas", {})
    details = problems.ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    components.update(details.pop("$defs"))
    components["ProblemDetails"] = details
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    for path in schema["paths"].values():
        for method, operation in path.items():
            responses = operation["responses"] = {
                str(status): answer for status, answer in operation["responses"].items()
            }
            for status in SHARED_ERRORS:
                answer: dict[str, Any] = {
                    "description": problems.TITLES[status],
                    "content": content,
                }
                if status == 429:
                    answer["headers"] = RETRY_AFTER
                responses.setdefault(str(status), answer)
            if method == "get":
                responses.setdefault("304", {"description": "You have it already (If-None-Match)."})
                responses["200"].setdefault("headers", {}).update(ETAG)
                operation["parameters"] = [*operation.get("parameters", []), IF_NONE_MATCH]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None:
                body["example"] = EXAMPLES[operation["operationId"]]
