"""Jobs across all projects, the stuck ones first to find: cancel, try again, sweep."""

from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from curation.admin.actions import for_each
from curation.admin.read_only import ReadOnlyAdmin
from curation.models import Job, JobState
from curation.services import jobs

WAITING_TOO_LONG = timedelta(minutes=10)


class StuckFilter(admin.SimpleListFilter):
    title = "what holds it"
    parameter_name = "stuck"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("silent", "Its worker fell silent"), ("waiting", "Queued for over ten minutes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        now = timezone.now()
        if self.value() == "silent":
            return queryset.filter(state=JobState.RUNNING, lease_until__lt=now)
        if self.value() == "waiting":
            return queryset.filter(Q(state=JobState.QUEUED), created_at__lt=now - WAITING_TOO_LONG)
        return queryset


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = (
        "kind", "project", "state", "stage", "progress", "attempts", "worker", "lease_until",
        "created_at",
    )  # fmt: skip
    list_filter = (StuckFilter, "state", "kind", "queue")
    list_select_related = ("project",)
    search_fields = ("id", "project__name", "error")
    date_hierarchy = "created_at"
    actions = ("cancel", "retry", "sweep")

    @admin.display(description="progress")
    def progress(self, job: Job) -> str:
        return f"{job.done:,} of {job.total:,}" if job.total else ""

    @admin.action(description="Cancel", permissions=["view"])
    def cancel(self, request: HttpRequest, rows: QuerySet[Job]) -> None:
        for_each(request, rows, lambda job: jobs.cancel(job=job, by=request.user), "cancelled")

    @admin.action(description="Try again", permissions=["view"])
    def retry(self, request: HttpRequest, rows: QuerySet[Job]) -> None:
        for_each(request, rows, lambda job: jobs.retry(job=job, by=request.user), "queued again")

    @admin.action(description="Sweep now: send again what waits, end what fell silent",
                  permissions=["view"])  # fmt: skip
    def sweep(self, request: HttpRequest, rows: QuerySet[Job]) -> None:
        counts = jobs.sweep()
        messages.success(request, ", ".join(f"{number} {name}" for name, number in counts.items()))
