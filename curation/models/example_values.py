"""ExampleValues: what a baseline says of every single example, a file for each kind of value."""

from django.db import models

from curation.models.base import Identified
from curation.models.baseline import Baseline
from curation.models.stored_file import StoredFile


class ExampleValues(Identified):
    """Loss, confidence and self-influence, each a float32 .npy (rows of the upload,), mean over
    seeds, not a number where an example has no such value. Never changed but to add
    self-influence."""

    baseline = models.OneToOneField(
        Baseline, on_delete=models.CASCADE, related_name="example_values"
    )
    loss_file = models.ForeignKey(StoredFile, on_delete=models.PROTECT, related_name="+")
    confidence_file = models.ForeignKey(
        StoredFile,
        on_delete=models.PROTECT,
        related_name="+",
        null=True,
        help_text="The probability of the labelled class, or the mean of an example's tokens; "
        "null for regression.",
    )
    self_influence_file = models.ForeignKey(
        StoredFile,
        on_delete=models.PROTECT,
        related_name="+",
        null=True,
        help_text="TracIn's, of train examples; null until it was asked for.",
    )
    seeds = models.JSONField(default=list)
    left_out = models.JSONField(
        default=list, blank=True, help_text="Seeds without usable self-influence."
    )

    class Meta:
        verbose_name_plural = "example values"

    def __str__(self) -> str:
        return f"values of the examples of {self.baseline}"
