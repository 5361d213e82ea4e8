"""Suggestion: edits that should help one behaviour; LabelCheck: which labels are likely wrong.
Both are hypotheses for a person to look at, never changes."""

from django.conf import settings
from django.db import models

from curation.models.base import Identified
from curation.models.baseline import Baseline
from curation.models.behaviour import Behaviour
from curation.models.model import Model
from curation.models.stored_file import StoredFile


class Suggestion(Identified):
    behaviour = models.ForeignKey(Behaviour, on_delete=models.CASCADE, related_name="suggestions")
    method = models.CharField(max_length=40)
    number_of_edits = models.PositiveIntegerField(help_text="The most edits asked for.")
    new_weight = models.FloatField()
    guards = models.JSONField(
        default=dict, help_text="Behaviour id to the largest predicted harm allowed."
    )
    result = models.JSONField(
        null=True, help_text="workers.evidence.suggestions.Suggestion as JSON; null until found."
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"at most {self.number_of_edits} edits for {self.behaviour}"


class LabelCheck(Identified):
    """The ranking of all train examples of a baseline by how likely their label is wrong."""

    baseline = models.OneToOneField(Baseline, on_delete=models.CASCADE, related_name="label_check")
    encoder = models.ForeignKey(
        Model,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="The uploaded encoder whose features were looked at besides; null for none.",
    )
    score_file = models.ForeignKey(
        StoredFile, on_delete=models.PROTECT, related_name="+", help_text="(N,) larger is worse."
    )
    worst = models.JSONField(
        help_text="The most suspicious examples: train index, score, reasons, suggested label."
    )

    def __str__(self) -> str:
        return f"label check of {self.baseline}"
