"""Rate limits that hold under parallel calls: one atomic script in Valkey for each decision."""

import logging
import math
from dataclasses import dataclass
from functools import cache

import redis
from django.conf import settings

logger = logging.getLogger(__name__)

# Generic cell rate algorithm: the key holds the time when the bucket would be empty again.
# ARGV: seconds between two calls at the steady rate, burst in seconds. Returns the wait in
# microseconds, 0 when the call may pass. The time is the server's, so that clocks cannot disagree.
SCRIPT = """
local now = redis.call('TIME')
local microseconds = now[1] * 1000000 + now[2]
local interval = tonumber(ARGV[1])
local burst = tonumber(ARGV[2])
local empty_at = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), microseconds)
local wait = empty_at + interval - burst - microseconds
if wait > 0 then return math.ceil(wait) end
local next_empty = empty_at + interval
local lifetime = math.ceil((next_empty - microseconds) / 1000) + 1
redis.call('SET', KEYS[1], string.format('%.0f', next_empty), 'PX', lifetime)
return 0
"""

# Moves the same key one call back. ARGV: microseconds between two calls at the steady rate.
GIVE_BACK = """
local now = redis.call('TIME')
local microseconds = now[1] * 1000000 + now[2]
local empty_at = tonumber(redis.call('GET', KEYS[1]) or '0') - tonumber(ARGV[1])
if empty_at <= microseconds then return redis.call('DEL', KEYS[1]) end
local lifetime = math.ceil((empty_at - microseconds) / 1000) + 1
redis.call('SET', KEYS[1], string.format('%.0f', empty_at), 'PX', lifetime)
return 1
"""


@dataclass(frozen=True)
class Limit:
    """At most `calls` at once, refilled evenly over `seconds`."""

    name: str
    calls: int
    seconds: float


class RateLimited(Exception):
    """The caller has to wait; `retry_after` is in whole seconds."""

    def __init__(self, limit: Limit, retry_after: int) -> None:
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(
            f"More than {limit.calls} {limit.name} in {limit.seconds:g} seconds; "
            f"wait {retry_after} second{'s' if retry_after != 1 else ''}."
        )


@cache
def connection() -> redis.Redis:
    return redis.Redis.from_url(settings.CACHES["default"]["LOCATION"], socket_timeout=2)


def take(*, limit: Limit, identity: str, fail_open: bool = True) -> None:
    """Count one call of `identity`. `fail_open` decides what happens while Valkey is away.

    Raises:
        RateLimited: the limit is reached; nothing is counted.
        redis.RedisError: Valkey is away and `fail_open` is false.
    """
    key, interval = _key(limit, identity), _interval(limit)
    try:
        wait = connection().eval(SCRIPT, 1, key, interval, limit.seconds * 1_000_000)
    except redis.RedisError as error:
        if not fail_open:
            raise
        logger.warning("rate limits are off while the cache is away (%s)", type(error).__name__)
        return
    if int(wait):
        raise RateLimited(limit, max(1, math.ceil(int(wait) / 1_000_000)))


def give_back(*, limit: Limit, identity: str) -> None:
    """Uncount one call that was taken. While Valkey is away nothing is given back."""
    try:
        connection().eval(GIVE_BACK, 1, _key(limit, identity), _interval(limit))
    except redis.RedisError as error:
        logger.warning("a limit could not be given back (%s)", type(error).__name__)


def _key(limit: Limit, identity: str) -> str:
    return f"hunch:limit:{limit.name}:{identity}"


def _interval(limit: Limit) -> float:
    """Microseconds between two calls at the steady rate."""
    return limit.seconds / limit.calls * 1_000_000
