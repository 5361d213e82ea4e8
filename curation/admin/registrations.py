"""Registered tests and their verdicts: to be read, never changed."""

from django.contrib import admin

from curation.admin.read_only import ReadOnlyAdmin
from curation.models import Deviation, Registration, Verdict


@admin.register(Registration)
class RegistrationAdmin(ReadOnlyAdmin):
    list_display = ("proposal", "project", "state", "primary_behaviour", "locked_by", "created_at")
    list_filter = ("state",)
    list_select_related = ("proposal", "project", "primary_behaviour", "locked_by")
    search_fields = ("plan_sha256", "proposal__name", "project__name")
    date_hierarchy = "created_at"


@admin.register(Verdict)
class VerdictAdmin(ReadOnlyAdmin):
    list_display = (
        "behaviour", "registration", "outcome", "predicted", "actual", "placebo", "signed_off_by"
    )  # fmt: skip
    list_filter = ("outcome",)
    list_select_related = ("behaviour", "registration__proposal", "signed_off_by")


@admin.register(Deviation)
class DeviationAdmin(ReadOnlyAdmin):
    list_display = ("description", "registration", "recorded_by", "created_at")
    list_select_related = ("registration__proposal", "recorded_by")
