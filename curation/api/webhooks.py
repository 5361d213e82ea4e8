"""Webhooks of a project and the log of their deliveries."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from curation.api.pagination import Input, Page, PageQuery, newest_first
from curation.api.router import ApiRouter
from curation.models import DeliveryState, Project, Webhook, WebhookDelivery, WebhookEvent
from curation.queries.access import Right, get_for
from curation.services import webhooks

router = ApiRouter(tags=["Webhooks"])


class WebhookIn(Input):
    url: str = Field(min_length=1, max_length=500, examples=["https://example.com/hunch"])
    events: list[WebhookEvent] = Field(min_length=1, max_length=10)


class WebhookOut(Schema):
    id: UUID
    project_id: UUID
    url: str
    events: list[WebhookEvent]
    disabled_at: datetime | None
    disabled_reason: str
    created_at: datetime


class SecretOut(Schema):
    secret: str = Field(description="Verifies the signatures of what is sent.")


class DeliveryOut(Schema):
    id: UUID
    event: WebhookEvent
    object_id: UUID
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime
    response_status: int | None
    error: str
    created_at: datetime
    ended_at: datetime | None


@router.read("/projects/{project_id}/webhooks", response=Page[WebhookOut])
def list_webhooks(request: HttpRequest, project_id: UUID, page: Query[PageQuery]) -> dict[str, Any]:
    """The project's webhooks. Owners only, as for everything about webhooks."""
    project = get_for(Project, project_id, request.user, Right.MANAGE)
    return newest_first(project.webhooks.all(), page)


@router.create("/projects/{project_id}/webhooks", response={201: WebhookOut})
def create_webhook(request: HttpRequest, project_id: UUID, body: WebhookIn) -> Webhook:
    """Send events to an address of yours, signed as in the Standard Webhooks specification."""
    project = get_for(Project, project_id, request.user, Right.MANAGE)
    return webhooks.create_webhook(
        project=project, url=body.url, events=body.events, by=request.user
    )


@router.read("/webhooks/{webhook_id}", response=WebhookOut)
def show_webhook(request: HttpRequest, webhook_id: UUID) -> Webhook:
    return get_for(Webhook, webhook_id, request.user, Right.MANAGE)


@router.read("/webhooks/{webhook_id}/secret", response=SecretOut)
def show_webhook_secret(request: HttpRequest, webhook_id: UUID) -> dict[str, Any]:
    """The signing secret; it is derived when asked for and stored nowhere."""
    webhook = get_for(Webhook, webhook_id, request.user, Right.MANAGE)
    return {"secret": webhooks.signing_secret(webhook)}


@router.create("/webhooks/{webhook_id}/secret", response=WebhookOut)
def replace_webhook_secret(request: HttpRequest, webhook_id: UUID) -> Webhook:
    """Replace the signing secret at once; a disabled webhook is switched on again."""
    webhook = get_for(Webhook, webhook_id, request.user, Right.MANAGE)
    return webhooks.replace_secret(webhook=webhook, by=request.user)


@router.create("/webhooks/{webhook_id}/ping", response={202: DeliveryOut})
def ping_webhook(request: HttpRequest, webhook_id: UUID) -> WebhookDelivery:
    """Send a test message."""
    return webhooks.ping(webhook=get_for(Webhook, webhook_id, request.user, Right.MANAGE))


@router.remove("/webhooks/{webhook_id}")
def delete_webhook(request: HttpRequest, webhook_id: UUID) -> None:
    webhook = get_for(Webhook, webhook_id, request.user, Right.MANAGE)
    webhooks.delete_webhook(webhook=webhook, by=request.user)


@router.read("/webhooks/{webhook_id}/deliveries", response=Page[DeliveryOut])
def list_deliveries(
    request: HttpRequest,
    webhook_id: UUID,
    page: Query[PageQuery],
    state: DeliveryState | None = None,
) -> dict[str, Any]:
    """What was sent, when it is tried again, and what the receiver answered."""
    rows = get_for(Webhook, webhook_id, request.user, Right.MANAGE).deliveries.all()
    return newest_first(rows.filter(state=state) if state else rows, page)
