"""MethodChoices: which method, or combination of methods, predicts each behaviour of a baseline,
and the held-out evidence for it."""

from django.db import models

from curation.models.base import Identified
from curation.models.baseline import Baseline


class MethodChoices(Identified):
    """One set of choices; the newest of a baseline holds."""

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="method_choices")
    methods = models.JSONField(help_text="The methods compared, in the order that breaks ties.")
    choices = models.JSONField(
        help_text="Behaviour id to workers.evidence.selection.MethodChoice as JSON."
    )
    number_of_edits = models.PositiveIntegerField()

    class Meta:
        get_latest_by = "created_at"
        verbose_name_plural = "method choices"

    def __str__(self) -> str:
        return f"choice of {', '.join(self.methods)} on {self.number_of_edits} edits"
