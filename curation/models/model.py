"""Model: starting weights and architecture, built in or uploaded."""

from django.conf import settings
from django.db import models

from curation.models.base import Deletable, name_once
from curation.models.project import Project


class ModelState(models.TextChoices):
    CHECKING = "checking", "Being checked"
    READY = "ready", "Ready"
    REFUSED = "refused", "Refused"


class Model(Deletable):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="models")
    name = models.CharField(max_length=120)
    architecture = models.JSONField(
        help_text='The network and its settings, such as {"name": "mlp", "hidden": [64]}.'
    )
    files = models.JSONField(
        default=dict,
        blank=True,
        help_text="Uploaded models: file name to the SHA-256 of its content.",
    )
    state = models.CharField(max_length=10, choices=ModelState.choices, default=ModelState.READY)
    summary = models.JSONField(default=dict, blank=True)
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)

    class Meta:
        constraints = [name_once("model", within="project")]

    def __str__(self) -> str:
        return self.name
