"""Upload: a file that arrives in parts and can be resumed; once complete it is one stored file."""

from django.conf import settings
from django.db import models

from curation.models.base import Identified
from curation.models.project import Project
from curation.models.stored_file import StoredFile


class Upload(Identified):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="uploads")
    file_name = models.CharField(
        max_length=255, help_text="As the user named it; shown, never used as a path."
    )
    size = models.BigIntegerField(help_text="Bytes, as announced.")
    sha256 = models.CharField(
        max_length=64, blank=True, help_text="As announced; checked at the end."
    )
    part_size = models.PositiveIntegerField()
    stored_file = models.ForeignKey(
        StoredFile, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(size__gt=0), name="upload_is_not_empty"),
        ]

    def __str__(self) -> str:
        return self.file_name

    @property
    def number_of_parts(self) -> int:
        return -(-self.size // self.part_size)

    def size_of_part(self, number: int) -> int:
        """Bytes of part `number`, counted from 1; only the last one is shorter."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)


class UploadPart(models.Model):
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    stored_file = models.ForeignKey(StoredFile, on_delete=models.PROTECT, related_name="+")

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["upload", "number"], name="one_part_per_number")
        ]

    def __str__(self) -> str:
        return f"part {self.number}"
