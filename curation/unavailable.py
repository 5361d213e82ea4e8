"""When database, cache or disk cannot be used for the moment: an answer that says so, nothing
half-done, and when to come back. Programs get it as problem details, see api/problems.py."""

import errno
import logging
from collections.abc import Callable

import redis
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

logger = logging.getLogger(__name__)

AWAY = (OperationalError, InterfaceError, redis.ConnectionError, redis.TimeoutError)
RETRY_AFTER = {"Retry-After": "2"}
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def reason_unavailable(error: Exception) -> str:
    """What to tell the caller; empty where the error is something else."""
    if isinstance(error, AWAY):
        return "The database or its cache is away for a moment; try again."
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return "The site's disk is full; nothing was kept. Tell the operator, then try again."
    return ""


class UnavailableMiddleware:
    """Answers 503 where a page fails because a part of the site is away."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        reason = reason_unavailable(error)
        if not reason:
            return None
        logger.warning("%s %s: %s", request.method, request.path, type(error).__name__)
        # No context processors: they would ask the database who is signed in.
        page = render_to_string("503.html", {"reason": reason})
        return HttpResponse(page, status=503, headers=RETRY_AFTER)
