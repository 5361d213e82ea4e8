"""Prediction: what a proposal should change of one behaviour, by one method. A hypothesis, never
a guarantee."""

from django.db import models

from curation.models.base import Identified
from curation.models.behaviour import Behaviour
from curation.models.proposal import Proposal


class Question(models.TextChoices):
    FRESH_SEED = "fresh_seed", "Retraining from scratch with fresh seeds"
    SAME_SEED = "same_seed", "Retraining from scratch with the same seeds"
    WARM_START = "warm_start", "Training on from the trained weights"
    PROXIMAL = "proximal", "The proximal Bregman response"


class Estimate(models.TextChoices):
    FIRST_ORDER = "first_order", "First order"
    EDIT_AWARE = "edit_aware", "Edit-aware"


class Prediction(Identified):
    proposal = models.ForeignKey(Proposal, on_delete=models.CASCADE, related_name="predictions")
    behaviour = models.ForeignKey(Behaviour, on_delete=models.CASCADE, related_name="predictions")
    method = models.CharField(max_length=40)
    estimate = models.CharField(max_length=12, choices=Estimate.choices)
    question = models.CharField(
        max_length=12, choices=Question.choices, default=Question.FRESH_SEED
    )
    revision = models.PositiveIntegerField(help_text="The proposal's revision that was predicted.")
    value = models.FloatField()
    low = models.FloatField()
    high = models.FloatField()
    level = models.FloatField(default=0.9)
    calibrated = models.BooleanField(default=False)
    details = models.JSONField(default=dict, blank=True)
    warnings = models.JSONField(default=list, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["proposal", "behaviour", "method", "estimate", "revision"],
                name="one_prediction_per_question",
            ),
            models.CheckConstraint(
                condition=models.Q(low__lte=models.F("value"))
                & models.Q(high__gte=models.F("value")),
                name="prediction_lies_in_its_interval",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.behaviour}: {self.value:+.4g}"
