"""Errors sent to Sentry, where `SENTRY_DSN` is set and `sentry-sdk` is installed: their type and
place, never what users sent."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured

from curation.operations.context import JOB_ID, REQUEST_ID


def report_errors(dsn: str, *, release: str, transport: Any = None) -> None:
    """Start to send errors.

    Raises:
        ImproperlyConfigured: the package is missing.
    """
    try:
        import sentry_sdk
    except ImportError as error:
        raise ImproperlyConfigured("SENTRY_DSN needs the package sentry-sdk.") from error
    sentry_sdk.init(
        dsn=dsn,
        release=release,
        transport=transport,
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        traces_sample_rate=0.0,
        before_send=stripped,
    )


def stripped(event: Any, hint: dict[str, Any]) -> Any:
    """The event without messages of exceptions, log arguments, and most of the request."""
    for exception in event.get("exception", {}).get("values", []):
        exception.pop("value", None)
    for name in ("logentry", "message", "extra", "breadcrumbs", "user"):
        event.pop(name, None)
    request = event.pop("request", {})
    if "method" in request:
        event["request"] = {"method": request["method"]}
    event["tags"] = {"request_id": REQUEST_ID.get(), "job_id": JOB_ID.get()}
    return event
