"""The Celery application: broker, queues and delivery rules. Tasks live in workers/tasks."""

import importlib
import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, heartbeat_sent, worker_process_init, worker_shutting_down
from kombu import Queue

from embedded.launch import end_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "curation.settings")

from django.conf import settings

from curation.operations import workers
from workers.shutdown import SHUTTING_DOWN

QUEUES = ("predict", "train", "maintenance")
TASKS = (
    "workers.tasks.run",
    "workers.tasks.shards",
    "workers.tasks.tidying",
    "workers.tasks.webhooks",
)

app = Celery("hunch")
app.conf.update(
    broker_url=settings.CELERY_BROKER_URL,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": settings.JOB_VISIBILITY_TIMEOUT,
        "socket_connect_timeout": 10,
        "socket_keepalive": True,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
    },
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    # Jobs end themselves at their limit; this is for what hangs in spite of that.
    task_time_limit=settings.JOB_TIME_LIMIT_SECONDS + 300,
    task_queues=[Queue(name) for name in QUEUES],
    task_default_queue="maintenance",
    task_create_missing_queues=False,
    beat_schedule={
        "sweep": {
            "task": "workers.tasks.run.sweep_jobs",
            "schedule": settings.JOB_SWEEP_SECONDS,
            "options": {"expires": settings.JOB_SWEEP_SECONDS},
        },
        "webhooks": {
            "task": "workers.tasks.webhooks.deliver_webhooks",
            "schedule": 5.0,
            "options": {"expires": 5},
        },
        "forget": {
            "task": "workers.tasks.webhooks.forget_old",
            "schedule": 3600.0,
            "options": {"expires": 3600},
        },
        "tidy": {
            "task": "workers.tasks.tidying.tidy_files",
            "schedule": 3600.0,
            "options": {"expires": 3600},
        },
    },
)


@heartbeat_sent.connect
def leave_heartbeat(sender: Any, **_: object) -> None:
    """The worker's main process says which queues it serves, every 2 seconds."""
    workers.beat(node=sender.eventer.hostname, queues=list(app.amqp.queues.consume_from))


@celeryd_init.connect
def import_tasks(**_: object) -> None:
    """Workers alone: the clock sends tasks by name and has no use for torch."""
    for name in TASKS:
        importlib.import_module(name)


@celeryd_init.connect
def count_shards(**_: object) -> None:
    """Results are kept for the shards of a job alone, whose chord counts them. With a place for
    results a web server would subscribe to that of every job that it sends: workers alone."""
    app.conf.update(result_backend=settings.CELERY_BROKER_URL, result_expires=86_400)


@worker_process_init.connect
def end_pool_process_with_worker(**_: object) -> None:
    """A pool process busy in torch would outlive a killed worker and go on computing."""
    end_with_parent()


@worker_shutting_down.connect
def hand_jobs_back(**_: object) -> None:
    """Running jobs stop at their next report and go back to the queue."""
    SHUTTING_DOWN.set()
