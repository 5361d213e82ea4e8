"""Forms of models, recipes and baselines."""

from typing import Any

from django import forms
from django.conf import settings

from curation.models import DatasetVersion, Model, ModelState, Project, Recipe, VersionState
from curation.web.formatting import file_size
from curation.web.forms.architectures import NETWORKS, Network, NetworkSetting, network_named

MOST_MODEL_FILES = 64
RECIPE_DEFAULTS = {"optimizer": "adamw", "learning_rate": 0.001, "batch_size": 32, "epochs": 10}


class ModelForm(forms.Form):
    """A built-in network: every network's settings are fields, of which the chosen one's count."""

    name = forms.CharField(max_length=120, label="Model name")
    network = forms.ChoiceField(
        label="Network",
        choices=[(network.name, network.title) for network in NETWORKS],
        widget=forms.RadioSelect(attrs={"data-shows": "network"}),
    )

    def __init__(self, data: Any = None, task: str = "") -> None:
        fitting = [network for network in NETWORKS if not task or task in network.tasks]
        super().__init__(data, initial={"network": fitting[0].name})
        for network in NETWORKS:
            for setting in network.settings:
                self.fields[f"{network.name}_{setting.name}"] = _field(setting)

    def networks(self) -> list[dict[str, Any]]:
        """Each network with its settings' fields, for the template."""
        return [
            {
                "network": network,
                "fields": [self[f"{network.name}_{setting.name}"] for setting in network.settings],
                "checked": self["network"].value() == network.name,
            }
            for network in NETWORKS
        ]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        network = network_named(cleaned.get("network", ""))
        for name in list(self.errors):
            of_network = name not in ("name", "network", "__all__")
            if network and of_network and not name.startswith(f"{network.name}_"):
                del self.errors[name]
        if network:
            self._check(network, cleaned)
        return cleaned

    def _check(self, network: Network, cleaned: dict[str, Any]) -> None:
        chosen = {
            setting.name: cleaned.get(f"{network.name}_{setting.name}") or setting.default
            for setting in network.settings
        }
        if "heads" in chosen and chosen["width"] % chosen["heads"]:
            self.add_error(f"{network.name}_heads", "The width must be a multiple of the heads.")
        if chosen.get("buckets", 1) & (chosen.get("buckets", 1) - 1):
            self.add_error(f"{network.name}_buckets", "Give a power of two, such as 4096.")

    def architecture(self) -> dict[str, Any]:
        network = network_named(self.cleaned_data["network"])
        assert network is not None
        chosen: dict[str, Any] = {"name": network.name}
        for setting in network.settings:
            value = self.cleaned_data[f"{network.name}_{setting.name}"]
            chosen[setting.name] = setting.default if value in (None, "", []) else value
        return chosen | {k: list(v) for k, v in chosen.items() if isinstance(v, tuple)}


class _Integers(forms.CharField):
    """Whole numbers separated by commas, each between bounds."""

    def __init__(self, minimum: int, maximum: int, **options: Any) -> None:
        self.minimum, self.maximum = minimum, maximum
        super().__init__(**options)

    def clean(self, value: Any) -> list[int]:
        text = super().clean(value)
        try:
            numbers = [int(part) for part in text.split(",") if part.strip()]
        except ValueError:
            numbers = [self.minimum - 1]
        if len(numbers) > 8 or not all(self.minimum <= n <= self.maximum for n in numbers):
            raise forms.ValidationError(
                f"Give up to 8 whole numbers between {self.minimum} and {self.maximum}, "
                "separated by commas."
            )
        return numbers


def _field(setting: NetworkSetting) -> forms.Field:
    """A field that may be left empty: its default stands in it."""
    field = _bare_field(setting)
    field.has_default = True  # type: ignore[attr-defined]
    return field


def _bare_field(setting: NetworkSetting) -> forms.Field:
    if setting.kind == "integer":
        return forms.IntegerField(
            label=setting.title,
            initial=setting.default,
            min_value=setting.minimum,
            max_value=setting.maximum,
            required=False,
        )
    if setting.kind == "integers":
        return _Integers(
            setting.minimum,
            setting.maximum,
            label=setting.title,
            initial=", ".join(map(str, setting.default)),
            help_text="Sizes separated by commas.",
            required=False,
        )
    return forms.ChoiceField(
        label=setting.title,
        initial=setting.default,
        choices=[(choice, choice) for choice in setting.choices],
        required=False,
    )


class ManyFiles(forms.FileField):
    """Several files of one input, each checked like a single one."""

    widget = forms.FileInput

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        files = data if isinstance(data, list) else [data] if data else []
        return [super(ManyFiles, self).clean(file, initial) for file in files or [None]]


class ManyFilesInput(forms.FileInput):
    allow_multiple_selected = True

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[Any]:
        return list(files.getlist(name))


class ModelUploadForm(forms.Form):
    name = forms.CharField(max_length=120, label="Model name")
    model_files = ManyFiles(
        label="Files of the model's folder",
        widget=ManyFilesInput(attrs={"multiple": True}),
        help_text="config.json, the weights as .safetensors, and the tokenizer's files. Pickled "
        "weights (.bin, .pt) and code are refused: Hunch never runs what is uploaded.",
    )
    use = forms.ChoiceField(
        label="What it is used for",
        choices=[
            ("classifier", "Classifying texts, with a new head on its encoder"),
            ("language_model", "Predicting the next token, as a causal language model"),
        ],
        initial="classifier",
        required=False,
        widget=forms.RadioSelect(attrs={"data-shows": "use"}),
    )
    trained_part = forms.ChoiceField(
        label="What is trained",
        required=False,
        choices=[
            ("head", "A new head; the encoder stays as it is (fast: features are computed once)"),
            ("last_layers", "The last layers and a new head"),
            ("all", "Everything"),
        ],
    )
    language_trained_part = forms.ChoiceField(
        label="What is trained",
        required=False,
        choices=[
            ("lora", "Low-rank adapters in every linear layer (LoRA); the model stays as it is"),
            ("last_layers", "The last layer"),
            ("all", "Everything"),
        ],
    )
    loss_on = forms.ChoiceField(
        label="Tokens that count",
        required=False,
        choices=[("completion", "Completions only"), ("all", "Prompts and completions")],
        help_text="Of datasets with prompts; plain texts count whole.",
    )
    lora_rank = forms.IntegerField(
        label="Rank of the adapters", required=False, initial=8, min_value=1, max_value=512
    )
    maximum_length = forms.IntegerField(
        label="Longest text, in tokens",
        required=False,
        initial=128,
        min_value=2,
        max_value=8_192,
        help_text="Longer ones lose the start of the prompt first. Each text is a sequence of its "
        "own: none are packed together.",
    )

    def parts(self) -> list[dict[str, Any]]:
        """The fields that depend on what the model is used for."""
        language = ("language_trained_part", "loss_on", "lora_rank", "maximum_length")
        return [
            {"field": self["trained_part"], "shown_for": "classifier"},
            *({"field": self[name], "shown_for": "language_model"} for name in language),
        ]

    def choices(self) -> dict[str, Any]:
        """What `training_setup.upload_model` takes beside name and files."""
        cleaned = self.cleaned_data
        if cleaned["use"] != "language_model":
            return {"trained_part": cleaned["trained_part"]}
        part = cleaned["language_trained_part"] or "lora"
        settings = {
            name: cleaned[name]
            for name in ("loss_on", "maximum_length", "lora_rank")
            if cleaned[name] and (name != "lora_rank" or part == "lora")
        }
        return {"use": "language_model", "trained_part": part, "settings": settings}

    def clean_model_files(self) -> list[Any]:
        files = self.cleaned_data["model_files"]
        if len(files) > MOST_MODEL_FILES:
            raise forms.ValidationError(f"At most {MOST_MODEL_FILES} files make one model.")
        size = sum(file.size for file in files)
        if size > settings.UPLOAD_MAX_BYTES:
            limit = file_size(settings.UPLOAD_MAX_BYTES)
            raise forms.ValidationError(f"The files have {file_size(size)}; at most {limit}.")
        names = [file.name for file in files]
        if len(set(names)) < len(names):
            raise forms.ValidationError("Two files have the same name.")
        return files


class RecipeForm(forms.Form):
    name = forms.CharField(max_length=120, label="Recipe name")
    optimizer = forms.ChoiceField(
        choices=[("adamw", "AdamW"), ("sgd", "SGD with momentum")],
        widget=forms.Select(attrs={"data-shows": "optimizer"}),
    )
    learning_rate = forms.FloatField(
        initial=0.001,
        min_value=1e-8,
        max_value=100,
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    schedule = forms.ChoiceField(
        label="Learning-rate schedule",
        choices=[("constant", "Constant"), ("linear", "Linear decay"), ("cosine", "Cosine decay")],
    )
    warmup_steps = forms.IntegerField(
        label="Warm-up steps",
        initial=10,
        min_value=0,
        max_value=10_000_000,
        help_text="A few keep the first steps small, which makes predictions more faithful.",
    )
    batch_size = forms.IntegerField(initial=32, min_value=1, max_value=65_536)
    epochs = forms.IntegerField(initial=10, min_value=1, max_value=10_000)
    weight_decay = forms.FloatField(
        initial=0.01, min_value=0, max_value=100, widget=forms.NumberInput(attrs={"step": "any"})
    )
    momentum = forms.FloatField(
        initial=0.9,
        min_value=0,
        max_value=0.9999,
        required=False,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="SGD only.",
    )
    beta1 = forms.FloatField(
        label="First beta",
        initial=0.9,
        min_value=0,
        max_value=0.9999,
        required=False,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="AdamW only.",
    )
    beta2 = forms.FloatField(
        label="Second beta",
        initial=0.999,
        min_value=0,
        max_value=0.999999,
        required=False,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="AdamW only.",
    )
    epsilon = forms.FloatField(
        initial=1e-6,
        min_value=1e-16,
        max_value=1,
        required=False,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="AdamW only, inside the square root. Very small values make training rough.",
    )
    dropout = forms.FloatField(
        initial=0,
        min_value=0,
        max_value=0.99,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="0 keeps training smooth, which replay needs most.",
    )

    micro_batch_size = forms.IntegerField(
        label="Micro-batch",
        initial=0,
        min_value=0,
        max_value=65_536,
        required=False,
        help_text="Examples that go through the network at once; 0 for the whole batch. A smaller "
        "number saves memory and changes nothing else.",
    )
    recompute_activations = forms.BooleanField(
        label="Compute activations again on the way back, to save memory", required=False
    )

    MAIN = ("optimizer", "learning_rate", "batch_size", "epochs", "weight_decay", "schedule")
    MEMORY = ("micro_batch_size", "recompute_activations")
    MORE = ("warmup_steps", "momentum", "beta1", "beta2", "epsilon", "dropout", *MEMORY)

    def main_fields(self) -> list[Any]:
        return [self[name] for name in self.MAIN]

    def more_fields(self) -> list[Any]:
        return [self[name] for name in self.MORE]

    def settings(self) -> dict[str, Any]:
        chosen = {k: v for k, v in self.cleaned_data.items() if k != "name" and v is not None}
        chosen = {k: v for k, v in chosen.items() if k not in self.MEMORY or v}
        unused = ("beta1", "beta2", "epsilon") if chosen["optimizer"] == "sgd" else ("momentum",)
        return {key: value for key, value in chosen.items() if key not in unused}


class BaselineForm(forms.Form):
    name = forms.CharField(max_length=120, label="Baseline name")
    dataset_version = forms.ModelChoiceField(DatasetVersion.objects.none(), empty_label=None)
    model = forms.ModelChoiceField(Model.objects.none(), empty_label=None)
    recipe = forms.ModelChoiceField(Recipe.objects.none(), empty_label=None)
    number_of_seeds = forms.IntegerField(
        label="Seeds",
        initial=4,
        min_value=1,
        max_value=32,
        help_text="How many times the model is trained with another data order and start. "
        "Four show how much of a change is only the seed; more make predictions steadier.",
    )

    def __init__(self, project: Project, data: Any = None, initial: Any = None) -> None:
        super().__init__(data, initial=initial)
        self.fields["dataset_version"].queryset = (  # type: ignore[attr-defined]
            DatasetVersion.objects.filter(dataset__project=project, state=VersionState.READY)
            .select_related("dataset")
            .order_by("-created_at")
        )
        self.fields["model"].queryset = project.models.filter(  # type: ignore[attr-defined]
            state=ModelState.READY
        ).order_by("-created_at")
        self.fields["recipe"].queryset = project.recipes.order_by("-created_at")  # type: ignore[attr-defined]
