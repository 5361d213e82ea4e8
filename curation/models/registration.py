"""Registration: the locked plan of a confirmatory test; its retrains; what deviated from the
plan."""

from django.conf import settings
from django.db import models

from curation.models.base import Identified
from curation.models.behaviour import Behaviour
from curation.models.project import Project
from curation.models.proposal import Proposal


class RegistrationState(models.TextChoices):
    LOCKED = "locked", "Locked, not started"
    RUNNING = "running", "Retraining"
    COMPLETE = "complete", "Complete"
    ABANDONED = "abandoned", "Abandoned"
    INVALIDATED = "invalidated", "Invalidated"


class Registration(Identified):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="registrations")
    proposal = models.ForeignKey(Proposal, on_delete=models.PROTECT, related_name="registrations")
    primary_behaviour = models.ForeignKey(Behaviour, on_delete=models.PROTECT, related_name="+")
    plan = models.JSONField(
        help_text="The canonical plan: hashes, predictions, seeds, decision rule."
    )
    plan_text = models.TextField(help_text="The canonical JSON whose SHA-256 is plan_sha256.")
    plan_sha256 = models.CharField(max_length=64)
    seeds = models.JSONField()
    smallest_effect = models.FloatField(
        help_text="The smallest effect of interest on the primary behaviour."
    )
    level = models.FloatField(default=0.9)
    decision_rule = models.TextField()
    state = models.CharField(
        max_length=12, choices=RegistrationState.choices, default=RegistrationState.LOCKED
    )
    ended_reason = models.TextField(blank=True)
    locked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(smallest_effect__gte=0), name="smallest_effect_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.proposal} · {self.plan_sha256[:12]}"


class Arm(models.TextChoices):
    UNEDITED = "unedited", "Unedited"
    EDITED = "edited", "Edited"
    PLACEBO = "placebo", "Placebo"


class Retrain(Identified):
    """One finished training run of one arm with one seed."""

    registration = models.ForeignKey(
        Registration, on_delete=models.CASCADE, related_name="retrains"
    )
    arm = models.CharField(max_length=10, choices=Arm.choices)
    seed = models.PositiveBigIntegerField()
    values = models.JSONField(help_text="Behaviour id to value.")
    job = models.ForeignKey("curation.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    accepted = models.BooleanField(default=True)
    review_reason = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["registration", "arm", "seed"], name="one_retrain_per_arm_and_seed"
            )
        ]

    def __str__(self) -> str:
        return f"{self.registration} · {self.arm} · seed {self.seed}"


class Deviation(Identified):
    """A departure from the locked plan: recorded, never edited away."""

    registration = models.ForeignKey(
        Registration, on_delete=models.CASCADE, related_name="deviations"
    )
    description = models.TextField(max_length=4000)
    recorded_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return self.description[:80]
