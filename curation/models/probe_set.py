"""ProbeSet: probe examples of one dataset version that were chosen once and have a name; behaviours
read them."""

from django.conf import settings
from django.db import models

from curation.models.base import Identified
from curation.models.dataset import DatasetVersion


class ProbeSet(Identified):
    dataset_version = models.ForeignKey(
        DatasetVersion, on_delete=models.CASCADE, related_name="probe_sets"
    )
    name = models.CharField(max_length=120)
    probe_indices = models.JSONField(help_text="Ascending, frozen when the set was saved.")
    chosen = models.CharField(max_length=1000, help_text="How the examples were found, in words.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["dataset_version", "name"], name="probe_set_name_once_per_version"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def size(self) -> int:
        return len(self.probe_indices)
