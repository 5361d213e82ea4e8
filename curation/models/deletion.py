"""Deletion: what an owner deleted, with all that went with it, until it is restored or purged."""

from django.conf import settings
from django.db import models

from curation.models.base import Identified
from curation.models.project import Project


class Deletion(Identified):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="deletions")
    object_kind = models.CharField(max_length=40)
    object_id = models.UUIDField()
    name = models.CharField(max_length=255)
    counts = models.JSONField(
        default=dict, blank=True, help_text="What went with it, such as {'baselines': 2}."
    )
    deleted_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    purge_after = models.DateTimeField(
        null=True,
        blank=True,
        db_index=True,
        help_text="Null: archived and never purged, since registered plans are kept.",
    )

    def __str__(self) -> str:
        return f"{self.object_kind} {self.name}"

    @property
    def is_archived(self) -> bool:
        return self.purge_after is None
