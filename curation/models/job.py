"""Job: one piece of work for a worker. The row comes first, the message second; states only move
forward."""

from django.conf import settings
from django.db import models

from curation.models.base import Identified
from curation.models.project import Project


class JobState(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


ENDED = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class JobKind(models.TextChoices):
    INSPECT_DATASET = "inspect_dataset", "Inspect a dataset"
    IMPORT_DATASET = "import_dataset", "Import a dataset"
    CHECK_MODEL = "check_model", "Check a model"
    TRAIN_BASELINE = "train_baseline", "Train a baseline"
    ATTRIBUTE = "attribute", "Compute influence"
    PREDICT = "predict", "Predict a proposal"
    EXTEND_BANK = "extend_bank", "Extend the bank"
    RETRAIN = "retrain", "Confirmatory retrains"
    LADDER = "ladder", "Explain a miss"
    TOKEN_INFLUENCE = "token_influence", "Score tokens"
    MEASURE_EXAMPLES = "measure_examples", "Measure examples"
    SUGGEST = "suggest", "Suggest edits"


class Job(Identified):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="jobs")
    kind = models.CharField(max_length=20, choices=JobKind.choices)
    queue = models.CharField(max_length=20)
    target_id = models.UUIDField(db_index=True, help_text="The object that the job works on.")
    payload = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.QUEUED)
    stage = models.CharField(max_length=120, blank=True)
    done = models.PositiveBigIntegerField(default=0)
    total = models.PositiveBigIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    worker = models.CharField(max_length=120, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.BooleanField(default=False)
    error = models.TextField(blank=True)
    estimate_seconds = models.FloatField(null=True, blank=True)
    retry_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries"
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )

    class Meta:
        indexes = [
            models.Index(fields=["state", "lease_until"], name="job_state_lease"),
            models.Index(fields=["project", "-created_at"], name="job_project_recent"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(state__in=JobState.values), name="job_state_is_known"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.get_state_display()}"

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


class JobLogLine(models.Model):
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="log_lines")
    created_at = models.DateTimeField(auto_now_add=True)
    text = models.CharField(max_length=1000)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text
