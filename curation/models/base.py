"""What every noun shares: an unguessable id and a creation time; and what those that an owner can
delete share: until they are purged they are hidden, not gone."""

import uuid
from typing import Any

from django.db import models


class Identified(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        abstract = True


class KeptManager(models.Manager[Any]):
    """The rows that nobody has deleted."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().filter(deletion=None)


class Deletable(Identified):
    """`objects` and the managers of parents leave deleted rows out; `everything` has them."""

    deletion = models.ForeignKey(
        "curation.Deletion",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="+",
    )

    objects = KeptManager()
    everything: models.Manager[Any] = models.Manager()

    class Meta:
        abstract = True


def name_once(noun: str, *, within: str) -> models.UniqueConstraint:
    """That no two rows of a `Deletable` called `noun` which are kept share their name within the
    parent that the field `within` names."""
    return models.UniqueConstraint(
        fields=[within, "name"],
        condition=models.Q(deletion=None),
        name=f"{noun}_name_once_per_{within}",
        violation_error_code="unique",
        violation_error_message=f"A {noun} with this name already exists.",
    )
