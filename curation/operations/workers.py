"""Workers as the broker knows them: who is alive for which queue, and what waits in each."""

import logging
from typing import Any

import redis

from curation.services.rate_limits import connection

logger = logging.getLogger(__name__)

PREFIX = "hunch:worker:"
FRESH_SECONDS = 30  # Celery's workers beat every 2 seconds


def beat(*, node: str, queues: list[str]) -> None:
    """Say that a worker is alive; called by the worker itself. A broker that is away is passed
    over."""
    try:
        connection().set(PREFIX + node, ",".join(queues), ex=FRESH_SECONDS)
    except redis.RedisError as error:
        logger.debug("no heartbeat could be left (%s)", type(error).__name__)


def alive() -> dict[str, list[str]]:
    """Queue to the names of the workers that beat for it in the last `FRESH_SECONDS`."""
    broker: Any = connection()
    names = [name.decode() for name in broker.scan_iter(PREFIX + "*", count=1000)]
    found: dict[str, list[str]] = {queue: [] for queue in _queues()}
    for name, queues in zip(names, broker.mget(names) if names else [], strict=True):
        for queue in (queues or b"").decode().split(","):
            if queue in found:
                found[queue].append(name.removeprefix(PREFIX))
    return found


def without_worker() -> list[str]:
    """The queues for which nobody works."""
    return [queue for queue, names in alive().items() if not names]


def depths() -> dict[str, int]:
    """Queue to the number of messages that no worker has taken."""
    return {queue: int(connection().llen(queue)) for queue in _queues()}


def _queues() -> tuple[str, ...]:
    from workers.celery import QUEUES

    return QUEUES
