"""Proposal: a set of edits with a written hypothesis. Once frozen it never changes."""

from django.conf import settings
from django.db import models

from curation.models.base import Deletable, name_once
from curation.models.baseline import Baseline
from curation.models.project import Project


class ProposalState(models.TextChoices):
    DRAFT = "draft", "Draft"
    FROZEN = "frozen", "Frozen"


class Proposal(Deletable):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="proposals")
    baseline = models.ForeignKey(Baseline, on_delete=models.PROTECT, related_name="proposals")
    name = models.CharField(max_length=120)
    hypothesis = models.TextField(max_length=4000, blank=True)
    state = models.CharField(
        max_length=10, choices=ProposalState.choices, default=ProposalState.DRAFT
    )
    revision = models.PositiveIntegerField(default=0, help_text="Counts changes of the edits.")
    edits_sha256 = models.CharField(max_length=64, blank=True, help_text="Set when frozen.")
    frozen_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            name_once("proposal", within="baseline"),
            models.CheckConstraint(
                condition=~models.Q(state=ProposalState.FROZEN) | ~models.Q(edits_sha256=""),
                name="frozen_proposal_has_hash",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Edit(models.Model):
    """One training example's new weight: 0 removes, 1 leaves, 3 triples."""

    proposal = models.ForeignKey(Proposal, on_delete=models.CASCADE, related_name="edits")
    example_id = models.CharField(max_length=200)
    train_index = models.PositiveIntegerField()
    weight = models.FloatField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["proposal", "train_index"], name="one_edit_per_example"
            ),
            models.CheckConstraint(
                condition=models.Q(weight__gte=0) & models.Q(weight__lte=100),
                name="edit_weight_between_0_and_100",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.example_id} → {self.weight:g}"


class EditBatch(models.Model):
    """What one change of the edits did, so that it can be undone."""

    proposal = models.ForeignKey(Proposal, on_delete=models.CASCADE, related_name="edit_batches")
    revision = models.PositiveIntegerField()
    description = models.CharField(max_length=300)
    previous = models.JSONField(
        help_text="[[train_index, example_id, weight or null], ...] before the change."
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-revision"]
        constraints = [
            models.UniqueConstraint(fields=["proposal", "revision"], name="one_batch_per_revision")
        ]

    def __str__(self) -> str:
        return self.description
