"""Every error of the API as problem details (RFC 9457), with the rule that was broken."""

import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import (
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.core.exceptions import ValidationError as ModelValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic import BaseModel, Field

from curation.services.idempotency import KeyInUse, KeyReused
from curation.services.rate_limits import RateLimited
from curation.services.uploads import TooLarge
from curation.unavailable import RETRY_AFTER, reason_unavailable

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "The request cannot be read",
    401: "A valid token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "The method is not offered here",
    409: "The request conflicts with what is there",
    413: "Too large",
    422: "A value breaks a rule",
    429: "Too many requests",
    500: "Something went wrong on our side",
    503: "Not available for the moment",
}


class FieldError(BaseModel):
    field: str = Field(
        description="Where: `body.name`, `query.limit`, or empty for the whole request."
    )
    rule: str = Field(description="The rule that was broken, in words.")


class ProblemDetails(BaseModel):
    """Problem details as in RFC 9457."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["A value breaks a rule"])
    status: int = Field(examples=[422])
    detail: str = ""
    errors: list[FieldError] = []


class Problem(Exception):
    """Raise it in a route to answer with this status and detail."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        super().__init__(detail)


class MalformedInput(ValueError):
    """JSON or a query that this API never accepts; the message says why."""


def response(
    status: int,
    detail: str = "",
    *,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "errors": errors or [],
    }
    return JsonResponse(
        content, status=status, content_type=MEDIA_TYPE, headers=headers, encoder=DjangoJSONEncoder
    )


def install(api: NinjaAPI) -> None:
    """Register a handler for everything that a route can raise."""

    def handles(*kinds: type[Exception]) -> Any:
        def register(handler: Any) -> Any:
            for kind in kinds:
                api.add_exception_handler(kind, handler)
            return handler

        return register

    @handles(Problem)
    def problem(request: HttpRequest, error: Problem) -> HttpResponse:
        return response(error.status, error.detail, headers=error.headers)

    @handles(AuthenticationError)
    def no_token(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
        return response(
            401,
            "Send “Authorization: Bearer hunch_…” with a token that is not revoked or expired.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    @handles(PermissionDenied)
    def not_allowed(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
        return response(403, str(error))

    @handles(Http404)
    def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
        return response(404, str(error))

    @handles(ValidationError)
    def malformed(request: HttpRequest, error: ValidationError) -> HttpResponse:
        return response(
            422,
            "Some values break a rule; `errors` names them.",
            errors=[
                {"field": _location(found["loc"]), "rule": _sentence(found["msg"])}
                for found in error.errors
            ],
        )

    @handles(ModelValidationError)
    def refused(request: HttpRequest, error: ModelValidationError) -> HttpResponse:
        status = 409 if _is_duplicate(error) else 422
        return response(status, " ".join(error.messages), errors=_rules(error))

    @handles(IntegrityError)
    def conflict(request: HttpRequest, error: IntegrityError) -> HttpResponse:
        return response(409, _database_rule(error))

    @handles(RateLimited)
    def too_many(request: HttpRequest, error: RateLimited) -> HttpResponse:
        return response(429, str(error), headers={"Retry-After": str(error.retry_after)})

    @handles(TooLarge)
    def too_large(request: HttpRequest, error: TooLarge) -> HttpResponse:
        return response(413, str(error))

    @handles(RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)
    def too_big(request: HttpRequest, error: SuspiciousOperation) -> HttpResponse:
        return response(413, "The request is larger than this address accepts.")

    @handles(MultiPartParserError, SuspiciousOperation)
    def unreadable(request: HttpRequest, error: Exception) -> HttpResponse:
        return response(400, "The request is not well formed.")

    @handles(MalformedInput)
    def never_accepted(request: HttpRequest, error: MalformedInput) -> HttpResponse:
        return response(400, str(error))

    @handles(HttpError)
    def other(request: HttpRequest, error: HttpError) -> HttpResponse:
        cause = error.__cause__
        return response(
            error.status_code, str(cause) if isinstance(cause, ValueError) else str(error)
        )

    @handles(KeyReused)
    def key_reused(request: HttpRequest, error: KeyReused) -> HttpResponse:
        rule = "This key was used for another request; choose a new one."
        return response(422, rule, errors=[{"field": "header.Idempotency-Key", "rule": rule}])

    @handles(KeyInUse)
    def key_in_use(request: HttpRequest, error: KeyInUse) -> HttpResponse:
        return response(
            409,
            "A request with this Idempotency-Key is still being worked on.",
            headers={"Retry-After": "5"},
        )

    @handles(Exception)
    def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
        if reason := reason_unavailable(error):
            logger.warning("%s %s: %s", request.method, request.path, type(error).__name__)
            return response(503, reason, headers=RETRY_AFTER)
        logger.exception("%s %s failed", request.method, request.path, exc_info=error)
        return response(500, "The operator's log has the details.")


def _location(parts: tuple[Any, ...]) -> str:
    """`("body", "body", "name")` as `body.name`: the argument's own name means nothing outside."""
    source, *rest = (str(part) for part in parts)
    if source in ("body", "form", "file") and len(rest) > 1:
        rest = rest[1:]
    return ".".join([source, *rest])


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message if message.endswith(".") else message + "."


def _rules(error: ModelValidationError) -> list[dict[str, str]]:
    if hasattr(error, "error_dict"):
        return [
            {"field": "" if field == "__all__" else f"body.{field}", "rule": rule}
            for field, rules in error.message_dict.items()
            for rule in rules
        ]
    return [{"field": "", "rule": rule} for rule in error.messages]


def _is_duplicate(error: ModelValidationError) -> bool:
    found = error.error_dict.values() if hasattr(error, "error_dict") else [error.error_list]
    return any(
        one.code in ("unique", "unique_together") or "already exists" in str(one)
        for some in found
        for one in some
    )


def _database_rule(error: IntegrityError) -> str:
    """The sentence of one of our triggers, or a plain one: never SQL, table names or values."""
    cause = error.__cause__
    diagnostics = getattr(cause, "diag", None)
    if (
        diagnostics is not None
        and getattr(cause, "sqlstate", "") == "23514"
        and not diagnostics.constraint_name
    ):
        return str(diagnostics.message_primary)
    return "Something with this name or in this place is there already, or it is in use."
