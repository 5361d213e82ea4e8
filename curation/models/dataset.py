"""Dataset and its immutable, content-hashed versions. The examples themselves live in Parquet."""

from django.conf import settings
from django.db import models

from curation.models.base import Deletable, name_once
from curation.models.project import Project
from curation.models.stored_file import StoredFile


class Task(models.TextChoices):
    TEXT_CLASSIFICATION = "text_classification", "Text classification"
    TABULAR_CLASSIFICATION = "tabular_classification", "Tabular classification"
    TABULAR_REGRESSION = "tabular_regression", "Tabular regression"
    IMAGE_CLASSIFICATION = "image_classification", "Image classification"
    TEXT = "text", "Plain text"
    PROMPT_COMPLETION = "prompt_completion", "Prompt and completion"


class Dataset(Deletable):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=120)
    description = models.TextField(max_length=4000, blank=True)
    licence = models.CharField(max_length=200, blank=True)
    citation = models.TextField(max_length=2000, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [name_once("dataset", within="project")]

    def __str__(self) -> str:
        return self.name


class VersionState(models.TextChoices):
    UPLOADED = "uploaded", "Uploaded, being inspected"
    INSPECTED = "inspected", "Waiting for the column mapping"
    IMPORTING = "importing", "Being imported"
    READY = "ready", "Ready"
    REFUSED = "refused", "Refused"


class DatasetVersion(Deletable):
    """An upload on its way to, and then, one immutable Parquet of examples."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )
    from_proposal = models.ForeignKey(
        "curation.Proposal",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="applied_versions",
    )
    state = models.CharField(
        max_length=10, choices=VersionState.choices, default=VersionState.UPLOADED
    )
    file_name = models.CharField(
        max_length=255, help_text="As the user named it; shown, never used as a path."
    )
    source_file = models.ForeignKey(
        StoredFile, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    inspection = models.JSONField(default=dict, blank=True)
    column_mapping = models.JSONField(default=dict, blank=True)
    examples_file = models.ForeignKey(
        StoredFile, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    task = models.CharField(max_length=30, choices=Task.choices, blank=True)
    classes = models.JSONField(default=list, blank=True)
    content_sha256 = models.CharField(max_length=64, blank=True)
    train_count = models.PositiveIntegerField(default=0)
    probe_count = models.PositiveIntegerField(default=0)
    summary = models.JSONField(default=dict, blank=True)
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "number"], name="version_number_once_per_dataset"
            ),
            models.CheckConstraint(
                condition=~models.Q(state=VersionState.READY)
                | (models.Q(examples_file__isnull=False) & ~models.Q(content_sha256="")),
                name="ready_version_has_examples",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.dataset.name} v{self.number}"

    @property
    def project(self) -> Project:
        return self.dataset.project
