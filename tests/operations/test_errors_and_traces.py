"""Errors and spans that leave the site, by the real libraries: they name places, not contents."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from curation.operations import errors, tracing
from tests.api.world import World
from tests.running import run_jobs

SECRET = "the-secret-of-a-user"
DSN = "https://key@errors.example.com/1"


class Kept(Transport):
    """Keeps what would be sent."""

    sent: list[str] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        self.sent.append(envelope.serialize().decode())


@pytest.fixture
def reported() -> Iterator[list[str]]:
    Kept.sent = []
    errors.report_errors(DSN, release="0", transport=Kept)
    yield Kept.sent
    sentry_sdk.init()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.trace_to(exporter, release="0")
    yield exporter
    tracing._tracers.clear()


def test_a_reported_error_has_its_place_and_request_but_nothing_of_the_user(
    world: World, owner: Client, reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: Any, *_: Any, **__: Any) -> None:
        local = SECRET
        raise RuntimeError(local)

    monkeypatch.setattr("curation.web.views.projects.project_page", broken)
    owner.raise_request_exception = False
    address = f"/projects/{world.project.pk}/?q={SECRET}"
    headers = {"X-Request-ID": "request-1234", "Authorization": f"Bearer {SECRET}"}
    owner.get(address, headers=headers)
    sentry_sdk.flush()
    (event,) = [json.loads(one.splitlines()[2]) for one in reported]
    assert event["exception"]["values"][-1]["type"] == "RuntimeError"
    assert event["exception"]["values"][-1]["stacktrace"]["frames"][-1]["function"] == "broken"
    assert event["tags"]["request_id"] == "request-1234"
    assert SECRET not in json.dumps(event)
    assert "owner" not in json.dumps(event.get("user", {}))


def test_a_request_is_one_span_named_by_its_route(
    world: World, owner: Client, spans: InMemorySpanExporter
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    owner.get(
        f"/projects/{world.project.pk}/",
        {"q": SECRET},
        headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"},
    )
    (span,) = spans.get_finished_spans()
    assert span.name == "GET projects/<uuid:pk>/"
    assert f"{span.context.trace_id:032x}" == trace_id
    assert span.attributes["http.response.status_code"] == 200
    assert SECRET not in span.to_json()
    assert str(world.project.pk) not in span.to_json()


def test_an_attempt_at_a_job_is_one_span(world: World, spans: InMemorySpanExporter) -> None:
    (job,) = run_jobs(world.project)
    (span,) = spans.get_finished_spans()
    assert span.name == f"job {job.kind}"
    assert span.attributes["hunch.job_id"] == str(job.pk)


@pytest.mark.parametrize(
    ("package", "start"),
    [
        ("sentry_sdk", lambda: errors.report_errors(DSN, release="0")),
        (
            "opentelemetry.exporter.otlp.proto.http.trace_exporter",
            lambda: tracing.trace_to(release="0"),
        ),
    ],
)
def test_a_setting_without_its_package_stops_the_start(
    package: str, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImproperlyConfigured, match="needs the package"):
        start()


def test_without_settings_nothing_is_sent_anywhere() -> None:
    program = (
        "import sys, django; django.setup(); import curation.urls\n"
        "from curation.operations import tracing\n"
        "print('sentry_sdk' in sys.modules, tracing._tracers)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"DJANGO_SETTINGS_MODULE": "curation.settings", "SECRET_KEY": "k" * 50, **_servers()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False []"


def _servers() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL", "HUNCH_VAR", "PATH")}
