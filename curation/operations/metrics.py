"""Prometheus metrics: requests as all web servers counted them, and jobs, files, queues and workers
as database and broker know them when they are asked."""

from collections.abc import Iterable, Iterator

from django.db.models import Count, Min, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from curation.models import Job, JobState, StoredFile
from curation.operations import workers
from curation.operations.request_counts import BUCKETS, totals

MICROSECONDS = 1e6


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(SiteCollector())
    return generate_latest(registry)


class SiteCollector:
    """Asks database and broker at the time of the scrape; what cannot be asked is left out."""

    def collect(self) -> Iterable[Metric]:
        for part in (requests, jobs, files, queues):
            try:
                yield from list(part())
                up = 1
            except Exception:
                up = 0
            yield gauge(
                f"hunch_{part.__name__}_known", "Whether these numbers could be had.", [((), up)]
            )


Samples = Iterable[tuple[tuple[str, ...], float]]


def gauge(name: str, text: str, samples: Samples, labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def requests() -> Iterator[Metric]:
    found = totals()
    counts = CounterMetricFamily(
        "hunch_requests", "Requests answered.", labels=("method", "route", "status")
    )
    seconds = HistogramMetricFamily(
        "hunch_request_seconds", "Time to answer a request.", labels=("route",)
    )
    for field, number in found.items():
        if field[0] == "requests":
            counts.add_metric(field[1:], number)
        elif field[0] == "microseconds":
            route = field[1]
            buckets, sum_so_far = [], 0
            for place, bound in enumerate((*map(str, BUCKETS), "+Inf")):
                sum_so_far += found.get(("bucket", route, str(place)), 0)
                buckets.append((bound, sum_so_far))
            seconds.add_metric((route,), buckets, sum_value=number / MICROSECONDS)
    yield counts
    yield seconds


def jobs() -> Iterator[Metric]:
    counts = Job.objects.order_by().values_list("queue", "kind", "state").annotate(Count("pk"))
    yield gauge(
        "hunch_jobs", "Jobs by queue, kind and state.",
        [((queue, kind, state), number) for queue, kind, state, number in counts],
        ("queue", "kind", "state"),
    )  # fmt: skip
    now = timezone.now()
    waiting = Job.objects.filter(state=JobState.QUEUED).order_by().values_list("queue")
    yield gauge(
        "hunch_oldest_queued_job_seconds", "Age of the job that has waited longest.",
        [((queue,), (now - since).total_seconds())
         for queue, since in waiting.annotate(Min("created_at"))],
        ("queue",),
    )  # fmt: skip


def files() -> Iterator[Metric]:
    found = StoredFile.objects.aggregate(number=Count("pk"), size=Sum("size"))
    yield gauge("hunch_stored_files", "Files in storage.", [((), found["number"])])
    yield gauge("hunch_stored_bytes", "Bytes in storage.", [((), found["size"] or 0)])


def queues() -> Iterator[Metric]:
    yield gauge(
        "hunch_queue_depth", "Messages that wait at the broker.",
        [((queue,), depth) for queue, depth in workers.depths().items()], ("queue",),
    )  # fmt: skip
    yield gauge(
        "hunch_workers", "Workers whose heartbeat is fresh.",
        [((queue,), len(names)) for queue, names in workers.alive().items()], ("queue",),
    )  # fmt: skip
