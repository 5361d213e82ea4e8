"""The bank: calibration retrains of known edits on one baseline, shared by all behaviours and
methods."""

from django.db import models

from curation.models.base import Identified
from curation.models.baseline import Baseline
from curation.models.registration import Registration
from curation.models.stored_file import StoredFile


class BankEdit(Identified):
    """One known edit; its train indices and weights live in a file."""

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="bank_edits")
    registration = models.ForeignKey(
        Registration,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="bank_edits",
        help_text="Set when the edit was a confirmatory test that joined the bank.",
    )
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=20, help_text="removal, down_weighting or up_weighting")
    selection = models.CharField(max_length=20, help_text="random, harmful, helpful or mixed")
    size_fraction = models.FloatField()
    edits_file = models.ForeignKey(StoredFile, on_delete=models.PROTECT, related_name="+")
    edits_sha256 = models.CharField(max_length=64)
    seeds = models.JSONField(help_text="The seeds that this edit is retrained with.")

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["baseline", "position"], name="bank_position_once"),
            models.UniqueConstraint(fields=["baseline", "edits_sha256"], name="bank_edit_once"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.size_fraction:.1%} {self.selection}"


class BankRetrain(Identified):
    """Values of every behaviour after one retrain; edit null means unedited."""

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="bank_retrains")
    edit = models.ForeignKey(
        BankEdit, null=True, blank=True, on_delete=models.CASCADE, related_name="retrains"
    )
    seed = models.PositiveBigIntegerField()
    values = models.JSONField(help_text="Behaviour id to value.")
    parameters_file = models.ForeignKey(
        StoredFile,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Kept while small, so that later behaviours can be measured without retraining.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["baseline", "edit", "seed"], name="one_bank_retrain", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"bank retrain, seed {self.seed}"


class Calibration(Identified):
    """How one method's predictions on a baseline relate to what retraining did."""

    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="calibrations")
    method = models.CharField(max_length=40)
    estimate = models.CharField(max_length=12)
    parameters = models.JSONField(help_text="workers.evidence.calibration.Calibration as JSON.")
    number_of_edits = models.PositiveIntegerField()

    class Meta:
        get_latest_by = "created_at"

    def __str__(self) -> str:
        return f"{self.method} on {self.number_of_edits} edits"
