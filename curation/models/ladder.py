"""Ladder: what lies between an influence estimate and the retrains of one complete test."""

from django.db import models

from curation.models.base import Identified
from curation.models.registration import Registration


class Ladder(Identified):
    """The measured rungs of workers.evidence.ladder, for every planned behaviour."""

    registration = models.OneToOneField(
        Registration, on_delete=models.CASCADE, related_name="ladder"
    )
    effects = models.JSONField(
        help_text="Behaviour id to rung name to the effect of each seed, in the behaviour's unit."
    )
    notes = models.JSONField(default=list, help_text="Rungs that had not converged, in words.")
    damping = models.JSONField(help_text="The damping of the influence function, a seed each.")

    def __str__(self) -> str:
        return f"ladder of {self.registration}"
