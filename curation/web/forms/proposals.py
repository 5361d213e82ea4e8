"""Forms of proposals, their edits and their registration."""

from typing import Any

from django import forms

from curation.models import Behaviour, Proposal


class ProposalForm(forms.Form):
    name = forms.CharField(max_length=120, label="Proposal name")
    hypothesis = forms.CharField(
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="What you expect and why, written before any retrain: “Removing mislabelled "
        "sarcasm raises the margin on negations and leaves the rest alone.”",
    )


class HypothesisForm(forms.Form):
    hypothesis = forms.CharField(max_length=4000, widget=forms.Textarea(attrs={"rows": 3}))


class MostInfluentialForm(forms.Form):
    """The examples that most harm or help one behaviour, and the weight they get."""

    behaviour = forms.ModelChoiceField(Behaviour.objects.none(), empty_label=None)
    which = forms.ChoiceField(
        label="Examples",
        choices=[("harmful", "most harmful to it"), ("helpful", "most helpful to it")],
    )
    count = forms.IntegerField(label="How many", initial=40, min_value=1, max_value=100_000)
    weight = forms.FloatField(
        label="New weight",
        initial=0,
        min_value=0,
        max_value=100,
        widget=forms.NumberInput(attrs={"step": 0.1}),
    )

    def __init__(self, proposal: Proposal, data: Any = None) -> None:
        super().__init__(data)
        self.fields["behaviour"].queryset = (  # type: ignore[attr-defined]
            proposal.baseline.behaviours.filter(
                archived_at=None, influences__isnull=False
            ).distinct()
        )
        most = proposal.baseline.dataset_version.train_count
        self.fields["count"].max_value = most  # type: ignore[attr-defined]
        self.fields["count"].widget.attrs["max"] = most


class WeightForm(forms.Form):
    weight = forms.FloatField(min_value=0, max_value=100)
    example = forms.CharField(max_length=200)
    train_index = forms.IntegerField(min_value=0)


class RegistrationForm(forms.Form):
    primary_behaviour = forms.ModelChoiceField(
        Behaviour.objects.none(),
        empty_label=None,
        help_text="The one behaviour that the verdict is about. The others are reported beside it.",
    )
    number_of_seeds = forms.IntegerField(
        label="Fresh seeds",
        initial=8,
        min_value=2,
        max_value=64,
        help_text="Each seed trains three arms: unedited, edited and placebo. More seeds can "
        "tell smaller effects from noise.",
    )
    smallest_effect = forms.FloatField(
        label="Smallest effect of interest",
        min_value=0,
        initial=0,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="In the primary behaviour's unit. A smaller change would not matter to you.",
    )
    level = forms.ChoiceField(
        label="Confidence level",
        choices=[("0.8", "80%"), ("0.9", "90%"), ("0.95", "95%"), ("0.99", "99%")],
        initial="0.9",
    )

    def __init__(self, proposal: Proposal, data: Any = None) -> None:
        super().__init__(data)
        self.fields["primary_behaviour"].queryset = proposal.baseline.behaviours.filter(  # type: ignore[attr-defined]
            archived_at=None
        )

    def clean_level(self) -> float:
        return float(self.cleaned_data["level"])


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=4000, widget=forms.Textarea(attrs={"rows": 2}))
