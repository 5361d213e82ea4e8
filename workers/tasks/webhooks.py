"""Periodic tasks of the API: send webhook events that are due, forget old keys and uploads."""

from curation.services import idempotency, uploads, webhooks
from workers.celery import app
from workers.tasks.watch import DATABASE_AWAY


@app.task(name="workers.tasks.webhooks.deliver_webhooks", throws=DATABASE_AWAY)
def deliver_webhooks() -> None:
    """One round; rounds may overlap, since each delivery is claimed under a lock."""
    webhooks.deliver_due(limit=20)


@app.task(name="workers.tasks.webhooks.forget_old")
def forget_old() -> None:
    idempotency.forget_old()
    uploads.forget_old()
