"""Counts and times of requests, added up over all web processes and servers in Valkey.

A request only adds to a dictionary; a thread carries the sums over once a second, so that no page
waits for Valkey, and keeps them while it is away.
"""

import atexit
import json
import logging
import threading
from bisect import bisect_left
from collections import Counter

import redis

from curation.services.rate_limits import connection

logger = logging.getLogger(__name__)

KEY = "hunch:metrics"
BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)  # seconds
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
FLUSH_SECONDS = 1.0
Field = tuple[str, ...]


class RequestCounts:
    """The counts of this process that are not carried over yet."""

    def __init__(self) -> None:
        self._counts: Counter[Field] = Counter()
        self._lock = threading.Lock()
        self._waiting = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, *, method: str | None, route: str, status: int, seconds: float) -> None:
        known = method if method in METHODS else "other"
        bucket = bisect_left(BUCKETS, seconds)
        with self._lock:
            self._counts["requests", str(known), route, str(status)] += 1
            self._counts["bucket", route, str(bucket)] += 1
            self._counts["microseconds", route] += int(1e6 * seconds)
            if self._thread is None:  # here, not at import: a forked process has no threads
                self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
                self._thread.start()
                atexit.register(self.flush)
        self._waiting.set()

    def flush(self) -> None:
        """Carry everything over; what cannot be carried stays."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        if not taken:
            return
        try:
            with connection().pipeline(transaction=True) as pipeline:
                for field, number in taken.items():
                    pipeline.hincrby(KEY, json.dumps(field), number)
                pipeline.execute()
        except redis.RedisError as error:
            logger.debug("metrics wait for Valkey (%s)", type(error).__name__)
            with self._lock:
                self._counts.update(taken)

    def _run(self) -> None:
        pause = threading.Event()
        while self._waiting.wait():
            pause.wait(FLUSH_SECONDS)
            self._waiting.clear()
            self.flush()


COUNTS = RequestCounts()


def totals() -> dict[Field, int]:
    """Every sum so far, of all processes; raises redis.RedisError."""
    COUNTS.flush()
    return {
        tuple(json.loads(field)): int(number) for field, number in connection().hgetall(KEY).items()
    }
