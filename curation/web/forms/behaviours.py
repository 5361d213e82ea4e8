"""The form that defines a behaviour: which probe examples it reads and which scalar it is."""

import csv
from typing import Any

from django import forms

from curation.models import Baseline, BehaviourKind, Better, Task
from curation.services.behaviours import LANGUAGE_TASKS, kinds_for
from curation.web.formatting import plural

EXPLAINED_KINDS = {
    BehaviourKind.MEAN_LOSS: "Mean loss: how wrong the model is, in nats; lower is better",
    BehaviourKind.MEAN_MARGIN: "Mean margin: how far the right answer leads; higher is better",
    BehaviourKind.LABEL_PROBABILITY: "Probability of one label: how often the model would say it",
    BehaviourKind.COMPLETION_LOG_PROBABILITY: "Log-probability of the completions, in nats",
    BehaviourKind.COMPLETION_MEAN_LOG_PROBABILITY: "The same, divided by the number of tokens",
    BehaviourKind.COMPLETION_PREFERENCE: "Preference: how much likelier the completion is than an "
    "alternative, in nats",
    BehaviourKind.TOKEN_CLASS_PROBABILITY: "Probability that the text goes on with one of some "
    "words",
    BehaviourKind.PERPLEXITY: "Perplexity of the completions, or of plain texts; lower is better",
}
EXPLAINED_SELECTIONS = {
    "all": "All probe examples",
    "class": "Probe examples of one class",
    "slice": "A slice: probe examples with one value of a column, or holding some words",
    "probe_set": "A probe set that was saved from the list of examples",
    "pasted": "Examples that I paste",
}


ARROW = "=>"
PASTED_HELP = {
    "text": "One a line: the label, a comma, the text.",
    "language": "One a line: the prompt, =>, the completion, with the space that belongs between "
    "the two before or after the arrow; for a preference a second => and the alternative; for the "
    "probability of words the prompt alone. A set of paraphrases is one behaviour with a spread.",
}
PLACEHOLDERS = {
    "text": "positive, not bad at all",
    "language": "The capital of France is => Paris",
}


class BehaviourForm(forms.Form):
    name = forms.CharField(
        max_length=120, help_text="In your own words, such as “understands negation”."
    )
    selection = forms.ChoiceField(label="Which examples it reads", widget=forms.RadioSelect)
    class_label = forms.ChoiceField(label="Class", required=False)
    attribute = forms.ChoiceField(label="Column", required=False)
    value = forms.CharField(label="Value", required=False, max_length=1000)
    search = forms.CharField(label="Words that the example holds", required=False, max_length=200)
    probe_set = forms.ChoiceField(label="Probe set", required=False)
    pasted = forms.CharField(
        label="Examples",
        required=False,
        max_length=200_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 6}),
    )
    words = forms.CharField(
        required=False,
        max_length=20_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": " yes"}),
        help_text="One a line, for the probability of words: each as the text would go on, with "
        "the space before it.",
    )
    ends = forms.BooleanField(
        label="A completion counts with the token that ends a text", required=False
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
        self.is_language = version.task in LANGUAGE_TASKS
        defaults = {"selection": "class" if version.classes else "all", "kind": kinds[0]}
        super().__init__(data, initial=defaults | (initial or {}))
        labels = [(label, label) for label in version.classes]
        probe_sets = [
            (str(one.pk), f"{one.name} ({plural(one.size, 'example')})")
            for one in version.probe_sets.all()
        ]
        selections = [
            name
            for name in EXPLAINED_SELECTIONS
            if (name != "class" or labels)
            and (name != "probe_set" or probe_sets)
            and (name != "pasted" or self.is_language or version.task == Task.TEXT_CLASSIFICATION)
        ]
        self._choices("selection", [(name, EXPLAINED_SELECTIONS[name]) for name in selections])
        self._choices("class_label", labels)
        self._choices("probe_set", probe_sets)
        self._choices("label", labels)
        self._choices(
            "attribute",
            [("", "Any"), *((name, name.removeprefix("attribute_")) for name in attributes)],
        )
        self._choices("kind", [(kind, EXPLAINED_KINDS[BehaviourKind(kind)]) for kind in kinds])
        form = "language" if self.is_language else "text"
        self.fields["pasted"].help_text = PASTED_HELP[form]
        self.fields["pasted"].widget.attrs["placeholder"] = PLACEHOLDERS[form]
        for name in ("class_label", "probe_set", "pasted", "label"):  # needed where they are shown
            self.fields[name].has_default = True  # type: ignore[attr-defined]
        self.fields["selection"].widget.attrs["data-shows"] = "selection"
        self.fields["kind"].widget.attrs["data-shows"] = "kind"

    def _choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        self.fields[name].choices = choices  # type: ignore[attr-defined]

    def parts(self) -> list[dict[str, Any]]:
        """The fields that depend on the chosen selection."""
        names = {"class_label": "class", "attribute": "slice", "value": "slice", "search": "slice"}
        names |= {"probe_set": "probe_set", "pasted": "pasted"}
        if self.is_language:
            names |= {"words": "pasted", "ends": "pasted"}
        return [{"field": self[name], "shown_for": part} for name, part in names.items()]

    def clean_pasted(self) -> list[dict[str, Any]]:
        """Each pasted line that is not blank as an example, which keeps the line's number."""
        read = _prompt_and_completion if self.is_language else _label_and_text
        lines = self.cleaned_data["pasted"].splitlines()
        return [
            read(line, number) | {"line": number}
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]

    def clean_words(self) -> list[str]:
        return [line for line in self.cleaned_data["words"].splitlines() if line.strip()]

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
        if selection == "probe_set":
            return {"selection": "probe_set", "probe_set": cleaned["probe_set"]}
        if selection == "pasted":
            pasted = {"selection": "pasted", "examples": cleaned["pasted"]}
            if self.is_language:
                pasted |= {"words": cleaned["words"], "ends": cleaned["ends"]}
            return pasted
        return {"selection": "all"}


def _label_and_text(line: str, number: int) -> dict[str, str]:
    cells = next(csv.reader([line], skipinitialspace=True))
    if len(cells) < 2:
        raise forms.ValidationError(f"Line {number}: write the label, a comma, the text.")
    text = line.split(",", 1)[1].strip() if len(cells) > 2 else cells[1]
    return {"label": cells[0].strip(), "text": text.strip()}


def _prompt_and_completion(line: str, number: int) -> dict[str, str]:
    """Prompt, completion and alternative between arrows. A space before an arrow and none after it,
    or the other way round, is the space between the two texts; spaces on both sides are one, and
    it begins the completion, as tokenizers split it."""
    cells = line.split(ARROW)
    if len(cells) > 3:
        raise forms.ValidationError(f"Line {number}: there are more than two arrows.")
    prompt, *rest = cells
    if not rest:
        return {"prompt": prompt}
    has_space = prompt.endswith(" ")
    if all(text.startswith(" ") for text in rest) and has_space:
        prompt = prompt[:-1]
    rest = [*(text.rstrip(" ") for text in rest)]
    return {"prompt": prompt} | dict(zip(("completion", "alternative"), rest, strict=False))
