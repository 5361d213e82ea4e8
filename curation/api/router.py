"""The router of this package: scopes, idempotency keys and ETags are part of every route."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags, quote_etag
from ninja import Router
from ninja.decorators import decorate_view

from curation.api.authentication import TokenAuthentication, identify
from curation.api.problems import response as problem
from curation.models import Scope
from curation.services import idempotency
from curation.services.idempotency import Answer

View = Callable[..., HttpResponseBase]
KEY_HEADER = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    "description": (
        "Any text of your own, such as a UUID. Sent again with the same request within seven days, "
        "it gets the first answer again and makes nothing new."
    ),
}
FORM_ALLOWANCE = 1024**2


class ApiRouter(Router):
    """`read` for GET, `create` for POST, `change` for PUT and PATCH, `remove` for DELETE."""

    def read(self, path: str, **options: Any) -> Any:
        return self._route("GET", path, Scope.READ, with_etag, options)

    def create(self, path: str, *, scope: Scope = Scope.WRITE, **options: Any) -> Any:
        return self._route("POST", path, scope, with_idempotency, options, [KEY_HEADER])

    def ask(self, path: str, **options: Any) -> Any:
        """A POST that changes nothing: a question too long for an address."""
        return self._route("POST", path, Scope.READ, bounded, options)

    def change(self, path: str, *, method: str = "PATCH", **options: Any) -> Any:
        return self._route(method, path, options.pop("scope", Scope.WRITE), bounded, options)

    def remove(self, path: str, **options: Any) -> Any:
        return self._route(
            "DELETE", path, Scope.WRITE, bounded, {"response": {204: None}, **options}
        )

    def _route(
        self,
        method: str,
        path: str,
        scope: Scope,
        wrapper: Callable[[View], View],
        options: dict[str, Any],
        parameters: list[dict[str, Any]] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        extra = {"x-scope": str(scope), **options.pop("openapi_extra", {})}
        if parameters:
            extra["parameters"] = [*extra.get("parameters", []), *parameters]

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            register_route = self.api_operation(
                [method],
                path,
                auth=TokenAuthentication(scope),
                operation_id=function.__name__,
                summary=function.__name__.replace("_", " ").capitalize(),
                openapi_extra=extra,
                **options,
            )
            return register_route(decorate_view(wrapper)(function))

        return register


def bounded(run: View) -> View:
    """Refuse a body that is too long before it is read, and parameters that the route lacks."""
    known = {
        name
        for model in run.__self__.models  # type: ignore[attr-defined]
        if model.__ninja_param_source__ == "query"
        for name in model.__ninja_flatten_map__
    }

    @functools.wraps(run)
    def guarded(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
        unknown = [name for name in request.GET if name not in known]
        if unknown:
            rule = f"There is no such parameter; there are: {', '.join(sorted(known)) or 'none'}."
            errors = [{"field": f"query.{name[:100]}", "rule": rule} for name in unknown[:10]]
            return problem(422, "Some parameters are not known here.", errors=errors)
        if _announced_length(request) > settings.UPLOAD_MAX_BYTES + FORM_ALLOWANCE:
            return problem(413, f"The limit for one file is {settings.UPLOAD_MAX_BYTES:,} bytes.")
        return run(request, **arguments)

    return guarded


def _announced_length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def with_etag(run: View) -> View:
    """A strong ETag on every JSON answer, and 304 for the caller who has it already."""

    inner = bounded(run)

    @functools.wraps(run)
    def tagged(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
        answer = inner(request, **arguments)
        answer.setdefault("Cache-Control", "private, no-cache")
        patch_vary_headers(answer, ["Authorization"])
        if answer.status_code != 200 or answer.streaming or not isinstance(answer, HttpResponse):
            return answer
        etag = quote_etag(hashlib.sha256(answer.content).hexdigest()[:32])
        return not_modified(request, etag) or _tagged(answer, etag)

    return tagged


def _tagged(answer: HttpResponse, etag: str) -> HttpResponse:
    answer.setdefault("ETag", etag)
    return answer


def not_modified(request: HttpRequest, etag: str) -> HttpResponse | None:
    """304 when the caller's If-None-Match names this ETag; for answers that are costly to make."""
    known = parse_etags(request.headers.get("If-None-Match", ""))
    if "*" not in known and etag not in {tag.removeprefix("W/") for tag in known}:
        return None
    return HttpResponse(status=304, headers={"ETag": etag, "Cache-Control": "private, no-cache"})


def with_idempotency(run: View) -> View:
    """Run a creating route once for each Idempotency-Key of a user."""

    inner = bounded(run)

    @functools.wraps(run)
    def once(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
        key = request.headers.get("Idempotency-Key")
        if key is None or _announced_length(request) > settings.UPLOAD_MAX_BYTES:
            return inner(request, **arguments)
        if not 0 < len(key) <= 200 or not all("!" <= letter <= "~" for letter in key):
            rule = "An Idempotency-Key has 1 to 200 visible ASCII characters."
            return problem(422, rule, errors=[{"field": "header.Idempotency-Key", "rule": rule}])
        api = run.__self__.api  # type: ignore[attr-defined]
        try:
            token = identify(request)
            if token is None:
                return inner(request, **arguments)
            answer, replayed = idempotency.once(
                user=token.user,
                key=key,
                fingerprint=_fingerprint(request),
                work=lambda: _answer(inner(request, **arguments)),
            )
        except Exception as error:
            return api.on_exception(request, error)
        return _response(answer, replayed)

    return once


def _fingerprint(request: HttpRequest) -> str:
    parts: list[bytes | str] = [request.method or "", request.get_full_path()]
    if request.content_type == "multipart/form-data":
        for name, values in sorted(request.POST.lists()):
            parts += [name, *values]
        for name, files in sorted(request.FILES.lists()):
            for file in files:
                digest = hashlib.sha256()
                for chunk in file.chunks():
                    digest.update(chunk)
                file.seek(0)
                parts += [name, file.name or "", digest.digest()]
    else:
        parts.append(request.body)
    return idempotency.fingerprint(*parts)


def _answer(answer: HttpResponseBase) -> Answer:
    assert isinstance(answer, HttpResponse), "a creating route answers with a body, not a stream"
    return Answer(
        answer.status_code,
        answer.get("Content-Type", ""),
        answer.content,
        answer.get("Location", ""),
    )


def _response(answer: Answer, replayed: bool) -> HttpResponse:
    headers = {"Idempotent-Replayed": "true"} if replayed else {}
    if answer.location:
        headers["Location"] = answer.location
    return HttpResponse(
        answer.body, status=answer.status, content_type=answer.content_type, headers=headers
    )
