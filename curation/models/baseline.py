"""Baseline: one dataset version, model and recipe, trained for several seeds and kept
replayable."""

from django.conf import settings
from django.db import models

from curation.models.base import Deletable, Identified, name_once
from curation.models.dataset import DatasetVersion
from curation.models.model import Model
from curation.models.project import Project
from curation.models.recipe import Recipe
from curation.models.stored_file import StoredFile


class BaselineState(models.TextChoices):
    WAITING = "waiting", "Waiting"
    TRAINING = "training", "Training"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"


class Baseline(Deletable):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="baselines")
    name = models.CharField(max_length=120)
    dataset_version = models.ForeignKey(
        DatasetVersion, on_delete=models.PROTECT, related_name="baselines"
    )
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="baselines")
    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="baselines")
    seeds = models.JSONField(default=list)
    next_seed = models.PositiveBigIntegerField(
        help_text="The first seed that no baseline, bank or registration of this baseline has used."
    )
    state = models.CharField(
        max_length=10, choices=BaselineState.choices, default=BaselineState.WAITING
    )
    replayable = models.BooleanField(default=True)
    warnings = models.JSONField(default=list, blank=True)
    summary = models.JSONField(default=dict, blank=True)
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)

    class Meta:
        constraints = [name_once("baseline", within="project")]

    def __str__(self) -> str:
        return self.name


class BaselineRun(Identified):
    """One finished training run of a baseline with one seed."""

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="runs")
    seed = models.PositiveBigIntegerField()
    parameters_file = models.ForeignKey(StoredFile, on_delete=models.PROTECT, related_name="+")
    trajectory_files = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict)
    learning_curve = models.JSONField(default=list)
    seconds = models.FloatField()

    class Meta:
        ordering = ["seed"]
        constraints = [
            models.UniqueConstraint(fields=["baseline", "seed"], name="one_run_per_baseline_seed")
        ]

    def __str__(self) -> str:
        return f"{self.baseline} seed {self.seed}"
