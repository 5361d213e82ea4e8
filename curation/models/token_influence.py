"""TokenInfluence: how the influence of a language model's training examples on one behaviour is
split among their tokens."""

from django.db import models

from curation.models.base import Identified
from curation.models.behaviour import Behaviour


class TokenInfluence(Identified):
    """The scores of the tokens of the most helpful and most harmful examples, by replay."""

    behaviour = models.OneToOneField(
        Behaviour, on_delete=models.CASCADE, related_name="token_influence"
    )
    seeds = models.JSONField(default=list)
    examples = models.JSONField(
        help_text="For each example its train index, the tokens that count in its loss as text, "
        "and their scores in the behaviour's unit per unit of weight, mean over seeds."
    )

    def __str__(self) -> str:
        return f"tokens of {self.behaviour}"
