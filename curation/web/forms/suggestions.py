"""The form that asks for suggested edits."""

from typing import Any
from uuid import UUID

from django import forms

from curation.models import Behaviour, Estimate
from curation.queries.influence_methods import title_of
from curation.queries.method_choices import candidate_name, choices_of
from curation.queries.predictions import DEFAULT_METHOD

TOLERANCE = "tolerance_"
MOST_TOLERANCES = 100


def chosen_method(behaviour: Behaviour, scored: list[str]) -> tuple[str, str]:
    """The method among `scored` that held-out evidence trusts most for this behaviour, and why;
    without evidence replay, else the first."""
    choice = choices_of(behaviour.baseline).get(behaviour.pk)
    if choice is not None:

        def trust(method: str) -> float:
            names = (candidate_name(method, estimate) for estimate in Estimate.values)
            return max(choice.weights.get(name, 0.0) for name in names)

        best = max(scored, key=trust)
        if trust(best) > 0:
            return best, choice.reason
    usual = DEFAULT_METHOD if DEFAULT_METHOD in scored else scored[0]
    return usual, "No retrain of the bank has compared the methods yet."


def tolerance_name(guard: Behaviour) -> str:
    return f"{TOLERANCE}{guard.pk}"


class SuggestionForm(forms.Form):
    number_of_edits = forms.IntegerField(label="Number of edits, at most", initial=40, min_value=1)
    new_weight = forms.FloatField(
        label="New weight",
        initial=0,
        min_value=0,
        max_value=100,
        help_text="0 removes the examples; 3 lets each count three times.",
        widget=forms.NumberInput(attrs={"step": 0.1}),
    )
    method = forms.ChoiceField(label="By which influence method", required=False)
    guards = forms.ModelMultipleChoiceField(
        Behaviour.objects.none(),
        required=False,
        label="Must not get worse",
        help_text="All edits together are predicted to harm each of these by no more than is "
        "tolerated: nothing, or what is said below.",
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, behaviour: Behaviour, data: Any = None) -> None:
        super().__init__(data)
        scored = list(
            behaviour.influences.exclude(method__startswith="control_")
            .order_by("created_at")
            .values_list("method", flat=True)
        )
        method = self.fields["method"]
        method.has_default = True  # type: ignore[attr-defined]
        method.choices = [(name, title_of(name)) for name in scored]  # type: ignore[attr-defined]
        if scored:
            method.initial, method.help_text = chosen_method(behaviour, scored)
        else:
            method.help_text = "Compute the behaviour's influence first."
        others = behaviour.baseline.behaviours.filter(archived_at=None, influences__isnull=False)
        guards = others.exclude(pk=behaviour.pk).distinct()
        self.fields["guards"].queryset = guards  # type: ignore[attr-defined]
        for guard in guards[:MOST_TOLERANCES]:
            self.fields[tolerance_name(guard)] = forms.FloatField(
                label=f"Harm tolerated to {guard.name}",
                required=False,
                min_value=0,
                max_value=1e12,
                help_text=f"In {guard.unit}; empty or 0 tolerates none. Counts where the behaviour "
                "is chosen above.",
                widget=forms.NumberInput(attrs={"step": "any"}),
            )

    def tolerances(self) -> dict[UUID, float]:
        """The largest predicted harm to each chosen guard, in its unit; 0 where nothing is said."""
        return {
            guard.pk: self.cleaned_data.get(tolerance_name(guard)) or 0.0
            for guard in self.cleaned_data["guards"]
        }

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        chosen = {tolerance_name(guard) for guard in cleaned.get("guards", [])}
        for name, value in list(cleaned.items()):
            if name.startswith(TOLERANCE) and value and name not in chosen:
                self.add_error(name, "Choose this behaviour above too, or leave this empty.")
        return cleaned

    def clean_method(self) -> str:
        return str(self.cleaned_data["method"] or self.fields["method"].initial or DEFAULT_METHOD)
