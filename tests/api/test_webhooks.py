"""Webhooks: recorded with the change, signed, retried, and sent to public addresses only."""

import base64
import hashlib
import hmac
import ipaddress
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpcore
import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from curation.models import DeliveryState, Job, JobState, Registration, Webhook, WebhookDelivery
from curation.services import public_addresses, webhooks
from curation.services.public_addresses import RefusedAddress, check_url, is_public

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver():
    """A local server that keeps what it gets and answers as told."""
    received, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((dict(self.headers), body))
            status = answers.pop(0) if answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook", received, answers
    server.shutdown()
    server.server_close()


@pytest.fixture
def webhook(world, receiver, settings):
    settings.WEBHOOK_ALLOW_PRIVATE_ADDRESSES = True
    Webhook.objects.all().delete()
    return webhooks.create_webhook(
        project=world.project,
        url=receiver[0],
        events=["job.failed", "verdict.given", "ping"],
        by=world.owner,
    )


def test_the_end_of_a_job_is_told_once(world, webhook, receiver):
    Job.objects.filter(pk=world.job.pk).update(state=JobState.RUNNING)
    assert not WebhookDelivery.objects.exists()
    Job.objects.filter(pk=world.job.pk).update(state=JobState.FAILED)
    Job.objects.filter(pk=world.job.pk).update(error="again")
    assert webhooks.deliver_due() == 1
    (_, body), *more = receiver[1]
    assert not more
    message = json.loads(body)
    assert message["type"] == "job.failed"
    assert message["data"]["job"] == str(world.job.pk)
    assert webhooks.deliver_due() == 0


def test_events_nobody_asked_for_are_not_recorded(world, webhook):
    Job.objects.filter(pk=world.job.pk).update(state=JobState.SUCCEEDED)
    assert not WebhookDelivery.objects.exists()


def test_verdicts_are_told_when_the_test_is_complete(world, webhook):
    Registration.objects.filter(pk=world.registration.pk).update(state="running")
    assert not WebhookDelivery.objects.exists()
    Registration.objects.filter(pk=world.registration.pk).update(state="complete")
    assert WebhookDelivery.objects.get().event == "verdict.given"


def test_the_signature_proves_the_sender(webhook, receiver):
    webhooks.ping(webhook=webhook)
    webhooks.deliver_due()
    ((headers, body),) = receiver[1]
    headers = {name.lower(): value for name, value in headers.items()}
    key = base64.b64decode(webhooks.signing_secret(webhook).removeprefix("whsec_"))
    signed = b".".join(
        [headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body]
    )
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - timezone.now().timestamp()) < 60


def test_a_new_secret_signs_differently(world, webhook):
    old = webhooks.signing_secret(webhook)
    assert webhooks.signing_secret(webhooks.replace_secret(webhook=webhook, by=world.owner)) != old


def test_a_failing_receiver_is_tried_again_later_and_later(webhook, receiver):
    receiver[2].extend([500] * 20)
    delivery = webhooks.ping(webhook=webhook)
    pauses = []
    for _ in range(len(webhooks.BACK_OFF) + 1):
        WebhookDelivery.objects.update(next_attempt_at=timezone.now())
        assert webhooks.deliver_due() == 1
        delivery.refresh_from_db()
        pauses.append((delivery.next_attempt_at - timezone.now()).total_seconds())
    assert pauses[:-1] == sorted(pauses[:-1])
    assert pauses[:-1] == pytest.approx(webhooks.BACK_OFF, abs=5)
    assert delivery.state == DeliveryState.GIVEN_UP
    assert delivery.response_status == 500


def test_redirects_are_not_followed(webhook, receiver):
    receiver[2].append(302)
    delivery = webhooks.ping(webhook=webhook)
    webhooks.deliver_due()
    delivery.refresh_from_db()
    assert len(receiver[1]) == 1
    assert (delivery.state, delivery.response_status) == (DeliveryState.WAITING, 302)
    assert "redirects" in delivery.error


def test_a_receiver_that_is_gone_is_left_alone(webhook, receiver):
    receiver[2].append(410)
    webhooks.ping(webhook=webhook)
    webhooks.deliver_due()
    webhook.refresh_from_db()
    assert webhook.disabled_at is not None


def test_private_addresses_are_refused_when_sending_too(webhook, receiver, settings):
    """The operator's permission ended, or the name resolves to another address than before."""
    settings.WEBHOOK_ALLOW_PRIVATE_ADDRESSES = False
    Webhook.objects.update(url=receiver[0].replace("http://127.0.0.1", "https://localhost"))
    delivery = webhooks.ping(webhook=webhook)
    webhooks.deliver_due()
    delivery.refresh_from_db()
    assert delivery.state == DeliveryState.GIVEN_UP
    assert "private" in delivery.error
    assert receiver[1] == []


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch):
    """A name that resolves to a private address at any moment is caught at that moment."""
    answers = iter(["93.184.216.34", "127.0.0.1"])
    asked, connected = [], []

    def resolve(host, port, **options):
        asked.append(host)
        return [(2, 1, 6, "", (next(answers), port))]

    monkeypatch.setattr(public_addresses.socket, "getaddrinfo", resolve)
    backend = public_addresses.CheckedBackend(allow_private=False, seconds=5)
    monkeypatch.setattr(
        backend._sockets, "connect_tcp", lambda host, *rest: connected.append(host) or object()
    )
    backend.connect_tcp("example.com", 443)
    with pytest.raises(RefusedAddress):
        backend.connect_tcp("example.com", 443)
    assert connected == ["93.184.216.34"]
    assert len(asked) == 2


def test_a_name_with_one_private_address_is_refused_whole(monkeypatch):
    """Else a second attempt, or another resolver's order, could reach the private one."""
    found = [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("10.0.0.5", 443))]
    monkeypatch.setattr(public_addresses.socket, "getaddrinfo", lambda *of, **more: found)
    backend = public_addresses.CheckedBackend(allow_private=False, seconds=5)
    monkeypatch.setattr(backend._sockets, "connect_tcp", lambda *of: pytest.fail("connected"))
    with pytest.raises(RefusedAddress):
        backend.connect_tcp("example.com", 443)


def test_each_attempt_resolves_the_name_again_and_checks_it(webhook, settings, monkeypatch):
    """Public at the first attempt, which fails; private at the second, which is not made."""
    settings.WEBHOOK_ALLOW_PRIVATE_ADDRESSES = False
    Webhook.objects.update(url="https://example.com/hook")
    addresses = iter(["93.184.216.34", "169.254.169.254"])
    tried = []

    def refuse(backend, host, *more):
        tried.append(host)
        raise httpcore.ConnectError("refused")

    monkeypatch.setattr(
        public_addresses.socket,
        "getaddrinfo",
        lambda host, port, **more: [(2, 1, 6, "", (next(addresses), port))],
    )
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", refuse)
    delivery = webhooks.ping(webhook=webhook)
    states = []
    for _ in range(2):
        WebhookDelivery.objects.update(next_attempt_at=timezone.now())
        webhooks.deliver_due()
        delivery.refresh_from_db()
        states.append(delivery.state)
    assert states == [DeliveryState.WAITING, DeliveryState.GIVEN_UP]
    assert tried == ["93.184.216.34"]
    assert "private" in delivery.error


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_addresses_that_are_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "https://", "https://user@example.com/",
        "https://user:word@example.com/", "https://127.0.0.1/", "https://[::1]/",
        "https://10.0.0.1:8443/", "https://example.com:99999/", "javascript:alert(1)", "",
    ],
)  # fmt: skip
def test_urls_that_are_refused(url, world):
    with pytest.raises(RefusedAddress):
        check_url(url, allow_private=False)
    with pytest.raises(ValidationError):
        webhooks.create_webhook(project=world.project, url=url, events=["ping"], by=world.owner)


def test_the_secret_is_stored_nowhere(api, webhook):
    secret = api.get(f"/webhooks/{webhook.pk}/secret").data["secret"]
    assert secret == webhooks.signing_secret(webhook)
    assert secret.removeprefix("whsec_") not in str(Webhook.objects.filter(pk=webhook.pk).values())
