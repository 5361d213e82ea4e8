"""Spans by OpenTelemetry, where `OTEL_EXPORTER_OTLP_ENDPOINT` is set and the SDK is installed: one
for each request and one for each attempt at a job."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from curation.operations.context import JOB_ID, REQUEST_ID

_tracers: list[Any] = []  # one at most: the tracer of this process


def trace_to(exporter: Any = None, *, release: str) -> None:
    """Start to send spans, to the endpoint that OpenTelemetry's own variables name.

    Raises:
        ImproperlyConfigured: the packages are missing.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    except ImportError as error:
        raise ImproperlyConfigured(
            "OTEL_EXPORTER_OTLP_ENDPOINT needs the packages opentelemetry-sdk and "
            "opentelemetry-exporter-otlp-proto-http."
        ) from error
    resource = Resource.create({"service.name": "hunch", "service.version": release})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(
        SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(OTLPSpanExporter())
    )
    _tracers[:] = [provider.get_tracer("hunch")]


@contextmanager
def request_span(request: HttpRequest) -> Iterator[Any]:
    """The span of a request, which goes on a trace that the caller began; None without a tracer."""
    if not _tracers:
        yield None
        return
    from opentelemetry import propagate, trace

    with _tracers[0].start_as_current_span(
        str(request.method),
        context=propagate.extract({k.lower(): v for k, v in request.headers.items()}),
        kind=trace.SpanKind.SERVER,
        attributes={"hunch.request_id": REQUEST_ID.get()},
        record_exception=False,
    ) as span:
        yield span


def end_request(span: Any, request: HttpRequest, route: str, status: int) -> None:
    """Name the span by its route: no id and no query string."""
    if span is not None:
        span.update_name(f"{request.method} {route}")
        span.set_attributes(
            {
                "http.request.method": str(request.method),
                "http.route": route,
                "http.response.status_code": status,
            }
        )


@contextmanager
def job_span(kind: str) -> Iterator[None]:
    """The span of one attempt at a job. It begins a trace: the message that woke the worker may
    have been another job's."""
    if not _tracers:
        yield
        return
    from opentelemetry import trace

    with _tracers[0].start_as_current_span(
        f"job {kind}",
        kind=trace.SpanKind.CONSUMER,
        attributes={"hunch.job_id": JOB_ID.get(), "hunch.job_kind": kind},
        record_exception=False,
    ):
        yield
