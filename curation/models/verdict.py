"""Verdict: what the confirmatory retrains said of one behaviour's prediction."""

from django.conf import settings
from django.db import models

from curation.models.base import Identified
from curation.models.behaviour import Behaviour
from curation.models.registration import Registration


class Outcome(models.TextChoices):
    SUPPORTED = "supported", "Supported"
    DIRECTION_ONLY = "direction_only", "Direction only"
    CONTRADICTED = "contradicted", "Contradicted"
    INCONCLUSIVE = "inconclusive", "Inconclusive"
    INVALIDATED = "invalidated", "Invalidated"
    NOT_FINISHED = "not_finished", "Not finished"


class Verdict(Identified):
    registration = models.ForeignKey(
        Registration, on_delete=models.CASCADE, related_name="verdicts"
    )
    behaviour = models.ForeignKey(Behaviour, on_delete=models.PROTECT, related_name="verdicts")
    outcome = models.CharField(max_length=15, choices=Outcome.choices)
    method = models.CharField(max_length=40)
    predicted = models.FloatField()
    predicted_low = models.FloatField()
    predicted_high = models.FloatField()
    actual = models.FloatField(null=True)
    actual_low = models.FloatField(null=True)
    actual_high = models.FloatField(null=True)
    placebo = models.FloatField(null=True)
    placebo_low = models.FloatField(null=True)
    placebo_high = models.FloatField(null=True)
    p_value = models.FloatField(null=True)
    adjusted_p_value = models.FloatField(null=True)
    reason = models.TextField()
    details = models.JSONField(default=dict, blank=True)
    signed_off_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    signed_off_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["registration", "behaviour"], name="one_verdict_per_behaviour"
            )
        ]

    def __str__(self) -> str:
        return f"{self.behaviour}: {self.get_outcome_display()}"
