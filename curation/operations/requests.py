"""Around every request: its id, one log line, its metrics and its span. Outermost, so that it sees
refusals as well."""

import logging
import re
import secrets
import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import ResolverMatch

from curation.operations import probes, tracing
from curation.operations.context import REQUEST_ID, working_for
from curation.operations.request_counts import COUNTS

logger = logging.getLogger(__name__)

GIVEN_ID = re.compile(r"^[A-Za-z0-9_.-]{8,64}$")


class RequestMiddleware:
    """Answers probes at once; counts, times and logs everything else."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if probe := probes.PROBES.get(request.path):
            return probe(request)
        given = request.headers.get("X-Request-ID", "")
        identifier = given if GIVEN_ID.match(given) else secrets.token_hex(8)
        with working_for(REQUEST_ID, identifier), tracing.request_span(request) as span:
            started = time.perf_counter()
            response = self.get_response(request)
            seconds = time.perf_counter() - started
            route = route_of(request.resolver_match)
            COUNTS.add(
                method=request.method, route=route, status=response.status_code, seconds=seconds
            )
            tracing.end_request(span, request, route, response.status_code)
            logger.info(
                "%s %s %s", request.method, request.path, response.status_code,
                extra={
                    "method": request.method, "path": request.path, "route": route,
                    "status": response.status_code, "milliseconds": round(1000 * seconds, 1),
                    "user_id": user_id(request),
                },
            )  # fmt: skip
        response["X-Request-ID"] = identifier
        return response


def route_of(match: ResolverMatch | None) -> str:
    """The pattern that answered, such as `projects/<uuid:pk>/`: few, and without ids of users."""
    return match.route if match else "none"


def user_id(request: HttpRequest) -> int | None:
    """Who asked, as far as the answer had to find out; nobody is looked up for the log."""
    if token := getattr(request, "api_token", None):
        return int(token.user_id)
    user = getattr(request, "_cached_user", None)  # set by Django once the session's user is read
    return getattr(user, "pk", None)
