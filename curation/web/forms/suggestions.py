"""The form that asks for suggested edits, and the one that makes a proposal of them."""

from typing import Any

from django import forms

from curation.models import Behaviour


class SuggestionForm(forms.Form):
    number_of_edits = forms.IntegerField(label="At most so many edits", initial=40, min_value=1)
    new_weight = forms.FloatField(
        label="New weight",
        initial=0,
        min_value=0,
        max_value=100,
        help_text="0 removes the examples; 3 lets each count three times.",
        widget=forms.NumberInput(attrs={"step": 0.1}),
    )
    guards = forms.ModelMultipleChoiceField(
        Behaviour.objects.none(),
        required=False,
        label="Must not get worse",
        help_text="Edits that are predicted to harm one of these are left out.",
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, behaviour: Behaviour, data: Any = None) -> None:
        super().__init__(data)
        others = behaviour.baseline.behaviours.filter(archived_at=None, influences__isnull=False)
        self.fields["guards"].queryset = (  # type: ignore[attr-defined]
            others.exclude(pk=behaviour.pk).distinct()
        )
