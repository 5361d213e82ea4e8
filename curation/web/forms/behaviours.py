"""The form that defines a behaviour: which probe examples it reads and which scalar it is."""

import csv
from typing import Any

from django import forms

from curation.models import Baseline, BehaviourKind, Better, Task

CLASSIFICATION = (
    Task.TEXT_CLASSIFICATION,
    Task.TABULAR_CLASSIFICATION,
    Task.IMAGE_CLASSIFICATION,
)
EXPLAINED_KINDS = {
    BehaviourKind.MEAN_LOSS: "Mean loss: how wrong the model is, in nats; lower is better",
    BehaviourKind.MEAN_MARGIN: "Mean margin: how far the right answer leads; higher is better",
    BehaviourKind.LABEL_PROBABILITY: "Probability of one label: how often the model would say it",
    BehaviourKind.COMPLETION_LOG_PROBABILITY: "Log-probability of the completions, in nats",
}
EXPLAINED_SELECTIONS = {
    "all": "All probe examples",
    "class": "Probe examples of one class",
    "slice": "A slice: probe examples with one value of a column, or holding some words",
    "pasted": "Examples that I paste",
}


def kinds_for(task: str) -> list[str]:
    if task in CLASSIFICATION:
        return [
            BehaviourKind.MEAN_MARGIN,
            BehaviourKind.MEAN_LOSS,
            BehaviourKind.LABEL_PROBABILITY,
        ]
    if task in (Task.TEXT, Task.PROMPT_COMPLETION):
        return [BehaviourKind.COMPLETION_LOG_PROBABILITY, BehaviourKind.MEAN_LOSS]
    return [BehaviourKind.MEAN_LOSS]


class BehaviourForm(forms.Form):
    name = forms.CharField(
        max_length=120, help_text="In your own words, such as “understands negation”."
    )
    selection = forms.ChoiceField(label="Which examples it reads", widget=forms.RadioSelect)
    class_label = forms.ChoiceField(label="Class", required=False)
    attribute = forms.ChoiceField(label="Column", required=False)
    value = forms.CharField(label="Value", required=False, max_length=1000)
    search = forms.CharField(label="Words that the example holds", required=False, max_length=200)
    pasted = forms.CharField(
        label="Examples",
        required=False,
        max_length=200_000,
        widget=forms.Textarea(attrs={"rows": 6, "placeholder": "positive, not bad at all"}),
        help_text="One a line: the label, a comma, the text.",
    )
    kind = forms.ChoiceField(label="What is measured", widget=forms.RadioSelect)
    label = forms.ChoiceField(label="Label whose probability is measured", required=False)
    better = forms.ChoiceField(
        label="Which direction is better",
        required=False,
        choices=[("", "As usual for what is measured"), *Better.choices],
    )

    def __init__(
        self, baseline: Baseline, attributes: list[str], data: Any = None, initial: Any = None
    ) -> None:
        version = baseline.dataset_version
        kinds = kinds_for(version.task)
        defaults = {"selection": "class" if version.classes else "all", "kind": kinds[0]}
        super().__init__(data, initial=defaults | (initial or {}))
        labels = [(label, label) for label in version.classes]
        selections = [
            name
            for name in EXPLAINED_SELECTIONS
            if (name != "class" or labels)
            and (name != "pasted" or version.task == Task.TEXT_CLASSIFICATION)
        ]
        self._choices("selection", [(name, EXPLAINED_SELECTIONS[name]) for name in selections])
        self._choices("class_label", labels)
        self._choices("label", labels)
        self._choices(
            "attribute",
            [("", "Any"), *((name, name.removeprefix("attribute_")) for name in attributes)],
        )
        self._choices("kind", [(kind, EXPLAINED_KINDS[BehaviourKind(kind)]) for kind in kinds])
        self.fields["selection"].widget.attrs["data-shows"] = "selection"
        self.fields["kind"].widget.attrs["data-shows"] = "kind"

    def _choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        self.fields[name].choices = choices  # type: ignore[attr-defined]

    def parts(self) -> list[dict[str, Any]]:
        """The fields that depend on the chosen selection."""
        return [
            {"field": self["class_label"], "shown_for": "class"},
            {"field": self["attribute"], "shown_for": "slice"},
            {"field": self["value"], "shown_for": "slice"},
            {"field": self["search"], "shown_for": "slice"},
            {"field": self["pasted"], "shown_for": "pasted"},
        ]

    def clean_pasted(self) -> list[dict[str, str]]:
        lines = [line for line in self.cleaned_data["pasted"].splitlines() if line.strip()]
        examples = []
        for number, line in enumerate(lines, start=1):
            cells = next(csv.reader([line], skipinitialspace=True))
            if len(cells) < 2:
                raise forms.ValidationError(f"Line {number}: write the label, a comma, the text.")
            text = line.split(",", 1)[1].strip() if len(cells) > 2 else cells[1]
            examples.append({"label": cells[0].strip(), "text": text})
        return examples

    def definition(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        selection = cleaned["selection"]
        if selection == "class":
            return {"selection": "class", "label": cleaned["class_label"]}
        if selection == "slice":
            return {
                "selection": "slice",
                "attribute": cleaned["attribute"],
                "value": cleaned["value"],
                "search": cleaned["search"],
            }
        if selection == "pasted":
            return {"selection": "pasted", "examples": cleaned["pasted"]}
        return {"selection": "all"}
