"""The audit log of all projects: to be read, never changed."""

from django.contrib import admin

from curation.admin.read_only import ReadOnlyAdmin
from curation.models import AuditEntry


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "actor", "action", "object_kind", "project", "detail")
    list_filter = ("action",)
    list_select_related = ("actor", "project")
    search_fields = ("action", "object_id", "actor__username")
    date_hierarchy = "created_at"
    show_full_result_count = False
