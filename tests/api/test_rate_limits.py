"""Limits hold when calls come in parallel, and say when to come back."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from curation.services import rate_limits
from curation.services.rate_limits import Limit, RateLimited
from tests.api.conftest import Api

LIMIT = Limit("tests", calls=10, seconds=3600)


def attempt(_):
    try:
        rate_limits.take(limit=LIMIT, identity="someone")
    except RateLimited as error:
        return error.retry_after
    return 0


def test_parallel_calls_share_one_limit():
    with ThreadPoolExecutor(16) as pool:
        waits = list(pool.map(attempt, range(100)))
    assert waits.count(0) == LIMIT.calls
    assert all(0 <= wait <= 360 for wait in waits)


def test_each_identity_has_its_own_limit():
    for identity in ("a", "b"):
        for _ in range(LIMIT.calls):
            rate_limits.take(limit=LIMIT, identity=identity)
        with pytest.raises(RateLimited):
            rate_limits.take(limit=LIMIT, identity=identity)


def test_calls_come_back_evenly():
    fast = Limit("fast", calls=2, seconds=0.2)
    for _ in range(2):
        rate_limits.take(limit=fast, identity="a")
    with pytest.raises(RateLimited) as refused:
        rate_limits.take(limit=fast, identity="a")
    assert refused.value.retry_after == 1


def test_without_valkey_only_limits_that_may_be_skipped_are(monkeypatch):
    away = redis.Redis(port=1, host="127.0.0.1")
    monkeypatch.setattr(rate_limits, "connection", lambda: away)
    rate_limits.take(limit=LIMIT, identity="a")
    with pytest.raises(redis.RedisError):
        rate_limits.take(limit=LIMIT, identity="a", fail_open=False)


@pytest.mark.django_db
def test_the_api_answers_429_with_retry_after(api, settings):
    settings.API_REQUESTS_PER_MINUTE = 3
    answers = [api.get("/me") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert 1 <= int(answers[-1]["Retry-After"]) <= 60
    assert answers[-1]["Content-Type"] == "application/problem+json"


@pytest.mark.django_db
def test_starting_computations_has_a_limit_of_its_own(api, world, settings):
    settings.API_STARTS_PER_MINUTE = 1
    path = f"/baselines/{world.baseline.pk}/influence"
    assert [api.post(path).status_code for _ in range(2)] == [202, 429]
    assert api.get("/me").status_code == 200


@pytest.mark.django_db
def test_guessing_tokens_is_slowed_down(settings):
    # The allowance refills by one a second, so a slow machine may be let in a few times more.
    statuses = [Api("hunch_abcdef_guess").get("/me").status_code for _ in range(150)]
    assert statuses[:60] == [401] * 60
    assert statuses.count(429) > 30
