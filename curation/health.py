"""Liveness and readiness for load balancers and supervisors; no data, no sign-in."""

from collections.abc import Callable

from django.core.cache import cache
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpRequest, JsonResponse


def healthz(request: HttpRequest) -> JsonResponse:
    """The web process answers."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """Database, broker and storage answer; 503 names those that do not."""
    checks = {"database": _database, "broker": _broker, "storage": _storage}
    failed = [name for name, check in checks.items() if not _holds(check)]
    status = {"status": "unavailable" if failed else "ok", "failed": failed}
    return JsonResponse(status, status=503 if failed else 200)


def _holds(check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception:
        return False
    return True


def _database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _broker() -> None:
    cache.set("readyz", "1", 10)


def _storage() -> None:
    default_storage.exists("readyz")
