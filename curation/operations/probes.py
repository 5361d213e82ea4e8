"""Liveness, readiness and metrics for load balancers, supervisors and Prometheus: no data of users.

They are answered before the check of the host and the redirect to https, since probes come by
address and by plain http. Metrics are for who knows the operator's token.
"""

import hmac
from collections.abc import Callable

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from curation.operations import metrics, workers


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """The web process answers."""
    return JsonResponse({"status": "ok"}, headers=HEADERS)


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Database, broker and storage answer, or 503 with the names of those that do not.

    Queues without a living worker are named too, but do not make the pages unavailable; with
    `?workers` they count.
    """
    checks = {"database": _database, "broker": _broker, "storage": _storage}
    failed = [name for name, check in checks.items() if not _holds(check)]
    idle = [] if "broker" in failed else workers.without_worker()
    unavailable = bool(failed or (idle and "workers" in request.GET))
    status = "unavailable" if unavailable else "degraded" if idle else "ok"
    said = {"status": status, "failed": failed, "queues_without_worker": idle}
    return JsonResponse(said, status=503 if unavailable else 200, headers=HEADERS)


@require_safe
def prometheus(request: HttpRequest) -> HttpResponse:
    """The metrics, for `Authorization: Bearer METRICS_TOKEN`; without such a setting nothing."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    token = settings.METRICS_TOKEN
    if not token:
        return HttpResponse(status=404, headers=HEADERS)
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
        return HttpResponse(status=401, headers=HEADERS | {"WWW-Authenticate": "Bearer"})
    kind = "text/plain; version=0.0.4; charset=utf-8"
    return HttpResponse(metrics.exposition(), content_type=kind, headers=HEADERS)


HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
PROBES: dict[str, Callable[[HttpRequest], HttpResponse]] = {
    "/healthz": healthz,
    "/readyz": readyz,
    "/metrics": prometheus,
}


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
    workers.depths()


def _storage() -> None:
    default_storage.exists("readyz")
