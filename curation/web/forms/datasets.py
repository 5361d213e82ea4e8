"""Forms of datasets: the upload and the column mapping of an inspected version."""

from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from curation.models import DatasetVersion, Task
from curation.web.formatting import file_size

ACCEPTED = ".csv,.tsv,.jsonl,.ndjson,.json,.parquet,.arrow,.feather,.gz"


class FileForm(forms.Form):
    file = forms.FileField(
        label="File",
        widget=forms.FileInput(attrs={"accept": ACCEPTED}),
        help_text="CSV, TSV, JSON Lines, a JSON array, Parquet or Arrow; text may be "
        "gzip-compressed. Exports of Label Studio and Argilla are recognised. One row is one "
        "example; the next page asks what each column means.",
    )

    def clean_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["file"]
        if (file.size or 0) > settings.UPLOAD_MAX_BYTES:
            raise forms.ValidationError(
                f"The file has {file_size(file.size)}; at most "
                f"{file_size(settings.UPLOAD_MAX_BYTES)} are accepted."
            )
        return file


class DatasetForm(FileForm):
    name = forms.CharField(max_length=120, label="Dataset name")
    description = forms.CharField(
        max_length=4000, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    licence = forms.CharField(max_length=200, required=False)
    citation = forms.CharField(
        max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    field_order = ["name", "file", "description", "licence", "citation"]


# Which parts each task needs, in the order in which they are shown.
PARTS: dict[str, tuple[str, ...]] = {
    Task.TEXT_CLASSIFICATION: ("text", "label", "probe_label"),
    Task.TABULAR_CLASSIFICATION: ("features", "label", "probe_label"),
    Task.TABULAR_REGRESSION: ("features", "target"),
    Task.IMAGE_CLASSIFICATION: ("image", "image_shape", "label", "probe_label"),
    Task.TEXT: ("text",),
    Task.PROMPT_COMPLETION: ("prompt", "completion", "messages"),
}
REQUIRED: dict[str, tuple[str, ...]] = {
    Task.TEXT_CLASSIFICATION: ("text", "label"),
    Task.TABULAR_CLASSIFICATION: ("features", "label"),
    Task.TABULAR_REGRESSION: ("features", "target"),
    Task.IMAGE_CLASSIFICATION: ("image", "image_shape", "label"),
    Task.TEXT: ("text",),
    Task.PROMPT_COMPLETION: (),
}
SINGLE_COLUMNS = {
    "text": ("Text", "The input that the model reads."),
    "image": ("Image", "A column of number lists."),
    "prompt": ("Prompt", ""),
    "completion": ("Completion", "What the model should answer."),
    "messages": ("Conversation", "A column of messages, instead of prompt and completion."),
    "label": ("Label", "The class that the model learns."),
    "target": ("Target", "The number that the model learns to predict."),
    "probe_label": (
        "Trusted label for probe examples",
        "When the probe split has better labels than the train split, such as a crowd's.",
    ),
    "example_id": ("Example id", "Unique and stable. Without it, ids follow the row number."),
    "split": (
        "Split",
        "Says which rows train the model and which are probe examples that behaviours read. "
        "Without it, a hash of the content decides.",
    ),
}


class ColumnMappingForm(forms.Form):
    """One select a part; which of them count depends on the task."""

    task = forms.ChoiceField(label="What the model learns", choices=Task.choices)
    features = forms.MultipleChoiceField(
        label="Feature columns",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Numeric columns, or one column of number lists.",
    )
    image_shape = forms.CharField(
        label="Image shape",
        required=False,
        help_text="Channels, height and width, as in 1, 28, 28.",
        widget=forms.TextInput(attrs={"inputmode": "numeric"}),
    )
    probe_fraction = forms.FloatField(
        label="Share of probe examples when there is no split column",
        min_value=0.01,
        max_value=0.9,
        initial=0.2,
        widget=forms.NumberInput(attrs={"step": 0.01}),
    )

    def __init__(self, version: DatasetVersion, data: Any = None) -> None:
        inspected = version.inspection.get("columns", [])
        self.column_names = [column["name"] for column in inspected]
        suggested = version.column_mapping or version.inspection.get("suggested_mapping") or {}
        super().__init__(data, initial=self._initial(suggested))
        for name, (title, help_text) in SINGLE_COLUMNS.items():
            self.fields[name] = forms.ChoiceField(
                label=title,
                help_text=help_text,
                required=False,
                choices=[("", "No column"), *((column, column) for column in self.column_names)],
            )
        numeric = [c for c in inspected if c["type"] in ("integer", "number", "boolean", "numbers")]
        self.fields["features"].choices = [(c["name"], c["name"]) for c in numeric]  # type: ignore[attr-defined]
        self.fields["task"].widget.attrs["data-shows"] = "task"

    @staticmethod
    def _initial(mapping: dict[str, Any]) -> dict[str, Any]:
        known = {key: value for key, value in mapping.items() if value not in (None, [])}
        if known.get("image_shape"):
            known["image_shape"] = ", ".join(map(str, known["image_shape"]))
        return known

    def parts(self) -> list[dict[str, Any]]:
        """The fields that depend on the task, each with the tasks that show it."""
        names = dict.fromkeys(name for parts in PARTS.values() for name in parts)
        return [
            {
                "field": self[name],
                "tasks": " ".join(task for task, parts in PARTS.items() if name in parts),
            }
            for name in names
        ]

    def general(self) -> list[Any]:
        return [self[name] for name in ("example_id", "split", "probe_fraction")]

    def clean_image_shape(self) -> list[int]:
        text = self.cleaned_data["image_shape"].replace("×", ",").replace("x", ",").strip()
        if not text:
            return []
        try:
            shape = [int(part) for part in text.split(",")]
        except ValueError:
            shape = []
        if len(shape) != 3 or min(shape) < 1:
            raise forms.ValidationError("Give three whole numbers: channels, height, width.")
        return shape

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        task = cleaned.get("task", "")
        for name in REQUIRED.get(task, ()):
            if not cleaned.get(name) and name not in self.errors:
                self.add_error(name, f"Choose this for {Task(task).label.lower()}.")
        if task == Task.PROMPT_COMPLETION and not cleaned.get("messages"):
            for name in ("prompt", "completion"):
                if not cleaned.get(name):
                    self.add_error(name, "Choose a prompt and a completion, or a conversation.")
        return cleaned

    def mapping(self) -> dict[str, Any]:
        """The mapping as the importer reads it, with the parts of the chosen task only."""
        cleaned = self.cleaned_data
        task = cleaned["task"]
        names = [*PARTS[task], "example_id", "split", "probe_fraction"]
        if task == Task.PROMPT_COMPLETION and cleaned.get("messages"):
            names = [name for name in names if name not in ("prompt", "completion")]
        return {"task": task} | {name: cleaned[name] for name in names if cleaned.get(name)}
