"""Projects for the operator: their quotas can be changed, nothing else."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest

from curation.models import Membership, Project
from curation.services import audit


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    can_delete = False
    fields = readonly_fields = ("user", "role", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):
    list_display = (
        "name", "number_of_members", "max_running_jobs", "disk_quota_bytes", "archived_at"
    )  # fmt: skip
    search_fields = ("name",)
    fields = ("name", "description", "disk_quota_bytes", "max_running_jobs", "archived_at")
    readonly_fields = ("name", "description", "archived_at")
    inlines = (MembershipInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        return super().get_queryset(request).annotate(members_counted=Count("memberships"))

    @admin.display(description="members", ordering="members_counted")
    def number_of_members(self, project: Any) -> int:
        return int(project.members_counted)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Project, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        audit.record(
            action="quotas set",
            actor=request.user,
            project=obj,
            target=obj,
            disk_quota_bytes=obj.disk_quota_bytes,
            max_running_jobs=obj.max_running_jobs,
        )
