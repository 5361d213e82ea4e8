"""Influence: the scores of one method for one behaviour of a baseline; the numbers live in
files."""

from django.db import models

from curation.models.base import Identified
from curation.models.baseline import Baseline
from curation.models.behaviour import Behaviour
from curation.models.stored_file import StoredFile


class Influence(Identified):
    """A column of scores: float32 .npy, in the behaviour's unit per unit of weight."""

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="influences")
    behaviour = models.ForeignKey(Behaviour, on_delete=models.CASCADE, related_name="influences")
    method = models.CharField(max_length=40)
    scores_file = models.ForeignKey(
        StoredFile,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="(N,) aggregated over seeds.",
    )
    per_seed_file = models.ForeignKey(
        StoredFile, on_delete=models.PROTECT, related_name="+", help_text="(S, N), one row a seed."
    )
    seeds = models.JSONField(default=list)
    left_out = models.JSONField(default=list, blank=True)
    diagnostics = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["behaviour", "method"], name="one_influence_per_behaviour_and_method"
            )
        ]

    def __str__(self) -> str:
        return f"{self.method} · {self.behaviour}"
