"""Changing many edits of a proposal at once, each with its own weight, as one step of undo."""

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import Proposal
from curation.services import proposals

MAX_EDITS_AT_ONCE = 100_000


@transaction.atomic
def set_edits(
    *, proposal: Proposal, weights: Mapping[int, tuple[str, float]], by: Any, description: str = ""
) -> Proposal:
    """Give each train index in `weights` its (example id, weight); weight 1 takes the edit away.

    Raises:
        ValidationError: the proposal is frozen, nothing is given, or a weight is out of bounds.
    """
    if not weights:
        raise ValidationError({"edits": "Choose at least one training example."})
    if not all(0 <= weight <= proposals.MAX_WEIGHT for _, weight in weights.values()):
        raise ValidationError(
            {"edits": f"A weight lies between 0 and {proposals.MAX_WEIGHT:g}; 0 removes, 1 leaves."}
        )
    text = (
        description
        or f"Set the weights of {len(weights):,} example{'s' if len(weights) != 1 else ''}"
    )
    return proposals._change(proposal, weights, by=by, description=text)
