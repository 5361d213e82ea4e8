"""The queue of retrain results: accept, invalidate with a reason, ask for more seeds."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from curation.admin.actions import ReasonForm, ask, for_each
from curation.admin.read_only import ReadOnlyAdmin
from curation.models import RegistrationState, Retrain
from curation.services import reviews
from curation.services.registrations import MAX_SEEDS, MIN_SEEDS

SHOWN_AFTER = (RegistrationState.COMPLETE, RegistrationState.INVALIDATED)


class MoreSeedsForm(ReasonForm):
    number_of_seeds = forms.IntegerField(
        label="Fresh seeds of the follow-up test",
        min_value=MIN_SEEDS,
        max_value=MAX_SEEDS,
        initial=16,
    )


@admin.register(Retrain)
class RetrainAdmin(ReadOnlyAdmin):
    list_display = (
        "registration", "project", "arm", "seed", "state", "accepted", "review_reason", "created_at"
    )  # fmt: skip
    list_filter = ("accepted", "arm", "registration__state")
    list_select_related = ("registration__proposal", "registration__project")
    search_fields = ("registration__plan_sha256", "registration__proposal__name")
    date_hierarchy = "created_at"
    fields = (
        "registration", "arm", "seed", "shown_values", "job", "accepted", "review_reason",
        "created_at",
    )  # fmt: skip
    readonly_fields = ("shown_values",)
    actions = ("accept", "invalidate", "more_seeds")

    @admin.display(description="project", ordering="registration__project__name")
    def project(self, retrain: Retrain) -> str:
        return retrain.registration.project.name

    @admin.display(description="test", ordering="registration__state")
    def state(self, retrain: Retrain) -> str:
        return retrain.registration.get_state_display()

    @admin.display(description="values")
    def shown_values(self, retrain: Retrain) -> str:
        """Hidden here as everywhere while the plan is not complete."""
        if retrain.registration.state not in SHOWN_AFTER:
            return "Hidden until every planned retrain has finished."
        return "; ".join(f"{key}: {value:.6g}" for key, value in retrain.values.items())

    @admin.action(description="Accept the results", permissions=["view"])
    def accept(self, request: HttpRequest, rows: QuerySet[Retrain]) -> TemplateResponse | None:
        return self._review(request, rows, action="accept", accepted=True)

    @admin.action(description="Invalidate the results", permissions=["view"])
    def invalidate(self, request: HttpRequest, rows: QuerySet[Retrain]) -> TemplateResponse | None:
        return self._review(request, rows, action="invalidate", accepted=False)

    def _review(
        self, request: HttpRequest, rows: QuerySet[Retrain], *, action: str, accepted: bool
    ) -> TemplateResponse | None:
        title = "Accept the results" if accepted else "Invalidate the results"
        asked = ask(self, request, rows, action=action, title=title)
        if isinstance(asked, TemplateResponse):
            return asked
        reason = asked.cleaned_data["reason"]
        for_each(
            request,
            rows,
            lambda row: reviews.review_retrain(
                retrain=row, accepted=accepted, reason=reason, by=request.user
            ),
            "accepted" if accepted else "invalidated",
        )
        return None

    @admin.action(description="Ask for more seeds: a follow-up test", permissions=["view"])
    def more_seeds(self, request: HttpRequest, rows: QuerySet[Retrain]) -> TemplateResponse | None:
        asked = ask(
            self,
            request,
            rows,
            action="more_seeds",
            title="Register and start the follow-up tests",
            form_class=MoreSeedsForm,
        )
        if isinstance(asked, TemplateResponse):
            return asked
        chosen: dict[str, Any] = asked.cleaned_data
        tests = {row.registration for row in rows.select_related("registration__proposal")}
        for_each(
            request,
            tests,
            lambda test: reviews.request_more_seeds(
                registration=test,
                number_of_seeds=chosen["number_of_seeds"],
                reason=chosen["reason"],
                by=request.user,
            ),
            "followed by a new test",
        )
        return None
