"""Webhooks: where events go, how they are signed and sent, and when sending is given up.

Events are recorded by database triggers (migration 0003). Signatures follow the Standard Webhooks
specification: HMAC-SHA-256 over `id.timestamp.body`.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import httpcore
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from curation.models import (
    DeliveryState,
    Job,
    Project,
    Registration,
    Webhook,
    WebhookDelivery,
    WebhookEvent,
)
from curation.models.webhook import new_salt
from curation.services import audit
from curation.services.public_addresses import RefusedAddress, check_url, post

# Seconds between attempts: quick at first, then for about a day and a half.
BACK_OFF = (10, 60, 300, 1800, 7200, 21600, 86400)
MAX_WEBHOOKS = 20
IN_FLIGHT = timedelta(minutes=2)
GONE = 410


@transaction.atomic
def create_webhook(*, project: Project, url: str, events: Iterable[str], by: Any) -> Webhook:
    """A webhook that is told of these events of the project.

    Raises:
        ValidationError: an address that is not allowed, an unknown event, or too many webhooks.
    """
    wanted = [event for event in WebhookEvent.values if event in set(events)]
    if not wanted or set(events) - set(WebhookEvent.values):
        raise ValidationError({"events": f"Choose among {', '.join(WebhookEvent.values)}."})
    try:
        check_url(url, allow_private=settings.WEBHOOK_ALLOW_PRIVATE_ADDRESSES)
    except (RefusedAddress, ValueError) as error:
        raise ValidationError({"url": str(error)}) from error
    Project.objects.select_for_update().get(pk=project.pk)
    if project.webhooks.count() >= MAX_WEBHOOKS:
        raise ValidationError(f"A project has at most {MAX_WEBHOOKS} webhooks.")
    webhook = Webhook(project=project, url=url, events=wanted, created_by=by)
    webhook.clean_fields(exclude=["url"])  # Django's URL rule refuses plain host names
    webhook.save()
    audit.record(action="webhook created", actor=by, project=project, target=webhook, events=wanted)
    return webhook


@transaction.atomic
def replace_secret(*, webhook: Webhook, by: Any) -> Webhook:
    """A new signing secret; the old one stops being used at once."""
    webhook.salt = new_salt()
    webhook.disabled_at, webhook.disabled_reason = None, ""
    webhook.save(update_fields=["salt", "disabled_at", "disabled_reason"])
    audit.record(
        action="webhook secret replaced", actor=by, project=webhook.project, target=webhook
    )
    return webhook


@transaction.atomic
def delete_webhook(*, webhook: Webhook, by: Any) -> None:
    audit.record(action="webhook deleted", actor=by, project=webhook.project, target=webhook)
    webhook.delete()


def ping(*, webhook: Webhook) -> WebhookDelivery:
    """A test message, to be sent with the next round."""
    return WebhookDelivery.objects.create(
        webhook=webhook, event=WebhookEvent.PING, object_id=webhook.pk
    )


def signing_secret(webhook: Webhook) -> str:
    """`whsec_…`, derived from the site's key: a copy of the database does not hold it."""
    key = salted_hmac("hunch.webhook", webhook.salt, algorithm="sha256").digest()
    return "whsec_" + base64.b64encode(key).decode()


def signature(*, secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def payload(delivery: WebhookDelivery) -> dict[str, Any]:
    """What is sent: ids, states and outcomes, never example text."""
    data: dict[str, Any] = {"project": str(delivery.webhook.project_id)}
    if delivery.event.startswith("job."):
        job = Job.objects.filter(pk=delivery.object_id).first()
        data["job"] = str(delivery.object_id)
        if job is not None:
            data |= {"kind": job.kind, "state": job.state, "target": str(job.target_id)}
    elif delivery.event == WebhookEvent.VERDICT_GIVEN:
        data["registration"] = str(delivery.object_id)
        registration = Registration.objects.filter(pk=delivery.object_id).first()
        if registration is not None:
            data["state"] = registration.state
            data["verdicts"] = [
                {"behaviour": str(verdict.behaviour_id), "outcome": verdict.outcome}
                for verdict in registration.verdicts.order_by("behaviour__position")
            ]
    return {"type": delivery.event, "timestamp": delivery.created_at.isoformat(), "data": data}


def deliver_due(*, limit: int = 50) -> int:
    """Send deliveries whose time has come; returns how many were tried. Safe to run in parallel."""
    tried = 0
    while tried < limit and (delivery := _claim(timezone.now())) is not None:
        _deliver(delivery)
        tried += 1
    return tried


@transaction.atomic
def _claim(now: datetime) -> WebhookDelivery | None:
    """The next due delivery, pushed into the future: a crash while sending only delays it."""
    delivery = (
        WebhookDelivery.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("webhook__project")
        .filter(state=DeliveryState.WAITING, next_attempt_at__lte=now)
        .order_by("next_attempt_at")
        .first()
    )
    if delivery is not None:
        delivery.attempts += 1
        delivery.next_attempt_at = now + IN_FLIGHT
        delivery.save(update_fields=["attempts", "next_attempt_at"])
    return delivery


def _deliver(delivery: WebhookDelivery) -> None:
    webhook = delivery.webhook
    body = json.dumps(payload(delivery), separators=(",", ":")).encode()
    timestamp = int(timezone.now().timestamp())
    headers = {
        "content-type": "application/json",
        "user-agent": "Hunch-Webhooks/1",
        "webhook-id": str(delivery.pk),
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(
            secret=signing_secret(webhook),
            message_id=str(delivery.pk),
            timestamp=timestamp,
            body=body,
        ),
    }
    try:
        status = post(
            url=webhook.url,
            content=body,
            headers=headers,
            allow_private=settings.WEBHOOK_ALLOW_PRIVATE_ADDRESSES,
        )
    except RefusedAddress as error:
        _give_up(delivery, None, str(error))
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        _try_again(delivery, None, f"It could not be sent: {type(error).__name__}.")
    except ValueError:
        _give_up(delivery, None, "The address is not valid.")
    else:
        _answered(delivery, status)


def _answered(delivery: WebhookDelivery, status: int) -> None:
    if 200 <= status < 300:
        _save(delivery, status, "", state=DeliveryState.DELIVERED, ended_at=timezone.now())
    elif 300 <= status < 400:
        _try_again(delivery, status, "The receiver redirects; redirects are not followed.")
    elif status == GONE:
        _give_up(delivery, status, "The receiver says that the address is gone for good.")
        Webhook.objects.filter(pk=delivery.webhook_id).update(
            disabled_at=timezone.now(), disabled_reason="The receiver answered 410 Gone."
        )
    else:
        _try_again(delivery, status, f"The receiver answered {status}.")


def _try_again(delivery: WebhookDelivery, status: int | None, error: str) -> None:
    if delivery.attempts > len(BACK_OFF):
        _give_up(delivery, status, error)
        return
    pause = timedelta(seconds=BACK_OFF[delivery.attempts - 1])
    _save(delivery, status, error, next_attempt_at=timezone.now() + pause)


def _give_up(delivery: WebhookDelivery, status: int | None, error: str) -> None:
    _save(delivery, status, error, state=DeliveryState.GIVEN_UP, ended_at=timezone.now())


def _save(delivery: WebhookDelivery, status: int | None, error: str, **changes: Any) -> None:
    WebhookDelivery.objects.filter(pk=delivery.pk, attempts=delivery.attempts).update(
        response_status=status, error=error[:300], **changes
    )
