"""The form that makes an API token."""

from datetime import datetime, timedelta

from django import forms
from django.utils import timezone

from curation.models import Scope

LIFETIMES = [(30, "30 days"), (90, "90 days"), (365, "One year"), (0, "Until it is revoked")]

SCOPES = [
    (Scope.READ, "Read: all that you can see, and what-if predictions"),
    (Scope.WRITE, "Write: datasets, models, proposals, registrations"),
    (Scope.RUN, "Start computations: training, influence, retrains"),
    (Scope.REVIEW, "Review results: sign off, accept, invalidate"),
]


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=120, help_text="What will use it, such as “nightly pipeline”."
    )
    scopes = forms.MultipleChoiceField(
        choices=SCOPES,
        initial=[Scope.READ],
        widget=forms.CheckboxSelectMultiple,
        help_text="It can do no more than these, and never more than you.",
    )
    lifetime = forms.TypedChoiceField(choices=LIFETIMES, coerce=int, initial=90, label="Valid for")

    def expires_at(self) -> datetime | None:
        days = self.cleaned_data["lifetime"]
        return timezone.now() + timedelta(days=days) if days else None
