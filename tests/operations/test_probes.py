"""What load balancers and Prometheus learn, and who may ask."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.db import OperationalError
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from curation.operations import metrics, probes, request_counts, workers
from curation.operations.request_counts import COUNTS, RequestCounts, totals
from curation.services import rate_limits
from tests.api.world import World

TOKEN = "a-token-of-the-operator"


@pytest.fixture
def scraper(settings: Any) -> dict[str, str]:
    settings.METRICS_TOKEN = TOKEN
    return {"Authorization": f"Bearer {TOKEN}"}


def scraped(headers: dict[str, str]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = Client().get("/metrics", headers=headers)
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.content.decode())
        for sample in family.samples
    }


def with_workers() -> None:
    workers.beat(node="train@a", queues=["train"])
    workers.beat(node="predict@a", queues=["predict", "maintenance"])


@pytest.mark.django_db
class TestReadiness:
    def test_everything_is_there(self) -> None:
        with_workers()
        answer = Client().get("/readyz")
        assert answer.json() == {"status": "ok", "failed": [], "queues_without_worker": []}

    def test_a_queue_without_worker_is_named_but_the_pages_stay_available(self) -> None:
        workers.beat(node="predict@a", queues=["predict", "maintenance"])
        answer = Client().get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["queues_without_worker"] == ["train"]
        assert Client().get("/readyz?workers").status_code == 503

    def test_a_heartbeat_goes_stale(self) -> None:
        with_workers()
        key = f"{workers.PREFIX}train@a"
        assert 0 < rate_limits.connection().ttl(key) <= workers.FRESH_SECONDS
        rate_limits.connection().pexpire(key, 0)
        assert workers.alive()["train"] == []

    @pytest.mark.parametrize("part", ["database", "broker", "storage"])
    def test_a_part_that_fails_is_named(self, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise OperationalError

        monkeypatch.setattr(probes, f"_{part}", fail)
        answer = Client().get("/readyz")
        assert (answer.status_code, answer.json()["failed"]) == (503, [part])

    def test_without_a_broker_it_still_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        away = redis.Redis(port=1, host="127.0.0.1")
        monkeypatch.setattr(rate_limits, "connection", lambda: away)
        monkeypatch.setattr(workers, "connection", lambda: away)
        workers.beat(node="a", queues=["train"])
        assert Client().get("/readyz").status_code == 503


def test_probes_come_by_address_without_tls_and_change_nothing(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    answer = Client().get("/healthz", headers={"Host": "10.1.2.3:8000"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert Client().post("/healthz").status_code == 405


class TestMetrics:
    def test_without_the_operator_s_token_there_is_nothing(self, settings: Any) -> None:
        settings.METRICS_TOKEN = ""
        assert Client().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404
        settings.METRICS_TOKEN = TOKEN
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            assert Client().get("/metrics", headers=wrong).status_code == 401

    def test_requests_are_counted_by_route_and_never_by_id(
        self, world: World, owner: Client, scraper: dict[str, str]
    ) -> None:
        labels = frozenset(
            {"method": "GET", "route": "projects/<uuid:pk>/", "status": "200"}.items()
        )
        before = scraped(scraper).get(("hunch_requests_total", labels), 0)
        for _ in range(3):
            owner.get(f"/projects/{world.project.pk}/")
        owner.get("/no-such-page/")
        after = scraped(scraper)
        assert after["hunch_requests_total", labels] == before + 3
        assert str(world.project.pk) not in str(after)
        assert "no-such-page" not in str(after)

    def test_jobs_files_queues_and_workers_are_as_they_are_now(
        self, world: World, scraper: dict[str, str]
    ) -> None:
        with_workers()
        found = scraped(scraper)
        job = {"queue": "train", "kind": "attribute", "state": "queued"}
        assert found["hunch_jobs", frozenset(job.items())] == 1
        train = frozenset({("queue", "train")})
        assert found["hunch_oldest_queued_job_seconds", train] >= 0
        assert found["hunch_workers", train] == 1
        assert ("hunch_queue_depth", train) in found
        assert found["hunch_stored_bytes", frozenset()] > 0

    @pytest.mark.django_db
    def test_what_cannot_be_asked_is_left_out(
        self, scraper: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        away = redis.Redis(port=1, host="127.0.0.1")
        monkeypatch.setattr(workers, "connection", lambda: away)
        found = scraped(scraper)
        assert found["hunch_queues_known", frozenset()] == 0
        assert found["hunch_jobs_known", frozenset()] == 1
        assert not [name for name, _ in found if name == "hunch_workers"]

    @pytest.mark.django_db
    def test_an_unknown_method_makes_no_new_series(self) -> None:
        COUNTS.add(method="BREW", route="none", status=405, seconds=0.1)
        assert b'method="BREW"' not in metrics.exposition()

    def test_counts_of_parallel_requests_add_up_and_outlast_an_absent_valkey(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        field = ("requests", "GET", "tests", "200")
        before = totals().get(field, 0)
        with monkeypatch.context() as patch:
            away = redis.Redis(port=1, host="127.0.0.1")
            patch.setattr(request_counts, "connection", lambda: away)
            own = RequestCounts()
            with ThreadPoolExecutor(8) as pool:
                for _ in range(200):
                    pool.submit(own.add, method="GET", route="tests", status=200, seconds=0.03)
            own.flush()
        own.flush()
        assert totals()[field] == before + 200

    @pytest.mark.django_db
    def test_times_fall_into_the_buckets_that_hold_them(self, scraper: dict[str, str]) -> None:
        for seconds in (0.001, 0.02, 0.3, 99.0):
            COUNTS.add(method="GET", route="times", status=200, seconds=seconds)
        found = scraped(scraper)
        counted = {
            bound: found[
                "hunch_request_seconds_bucket", frozenset({("route", "times"), ("le", bound)})
            ]
            for bound in ("0.005", "0.02", "0.2", "0.5", "20.0", "+Inf")
        }
        assert list(counted.values()) == [1, 2, 2, 3, 3, 4]
        times = frozenset({("route", "times")})
        assert found["hunch_request_seconds_sum", times] == pytest.approx(99.321, abs=1e-3)
