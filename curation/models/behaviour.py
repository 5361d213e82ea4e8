"""Behaviour: a differentiable scalar of a trained model on probe examples, in the user's own
unit."""

from django.conf import settings
from django.db import models

from curation.models.base import Identified
from curation.models.baseline import Baseline
from curation.models.project import Project


class BehaviourKind(models.TextChoices):
    MEAN_LOSS = "mean_loss", "Mean loss"
    MEAN_MARGIN = "mean_margin", "Mean margin"
    LABEL_PROBABILITY = "label_probability", "Probability of a label"
    COMPLETION_LOG_PROBABILITY = "completion_log_probability", "Log-probability of a completion"
    COMPLETION_MEAN_LOG_PROBABILITY = (
        "completion_mean_log_probability",
        "Log-probability of a completion, a token",
    )
    COMPLETION_PREFERENCE = "completion_preference", "Preference between two completions"
    PERPLEXITY = "perplexity", "Perplexity"
    TOKEN_CLASS_PROBABILITY = "token_class_probability", "Probability of certain words next"


class Better(models.TextChoices):
    HIGHER = "higher", "Higher is better"
    LOWER = "lower", "Lower is better"


class Behaviour(Identified):
    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="behaviours")
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=40, choices=BehaviourKind.choices)
    definition = models.JSONField(
        help_text="How the probe examples were chosen: class, slice, example ids or pasted "
        "examples."
    )
    label = models.CharField(
        max_length=200, blank=True, help_text="For the probability of a label."
    )
    probe_indices = models.JSONField(default=list, blank=True)
    pasted_examples = models.JSONField(default=list, blank=True)
    unit = models.CharField(max_length=40)
    better = models.CharField(max_length=6, choices=Better.choices)
    position = models.PositiveIntegerField(default=0)
    values = models.JSONField(
        default=dict, blank=True, help_text="Seed to value on the baseline's runs."
    )
    prompt_values = models.JSONField(
        default=dict,
        blank=True,
        help_text="Seed to the value on each pasted example alone, in their order.",
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position", "created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["baseline", "name"], name="behaviour_name_once_per_baseline"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def project(self) -> Project:
        return self.baseline.project
