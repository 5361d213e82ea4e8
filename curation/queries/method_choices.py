"""Which method a behaviour's prediction should come from, and the held-out evidence for it."""

from collections.abc import Iterable
from uuid import UUID

from curation.models import Baseline, Estimate, MethodChoices, Prediction
from workers.evidence.selection import MethodChoice


def candidate_name(method: str, estimate: str = Estimate.FIRST_ORDER) -> str:
    """How a method and its estimate are named among the compared ones."""
    return method if estimate == Estimate.FIRST_ORDER else f"{method}, edit-aware"


def choices_of(baseline: Baseline) -> dict[UUID, MethodChoice]:
    """The newest choice for each behaviour; empty before influence was computed."""
    newest = MethodChoices.objects.filter(baseline=baseline).order_by("-created_at").first()
    if newest is None:
        return {}
    return {UUID(key): MethodChoice.from_json(value) for key, value in newest.choices.items()}


def preferred(predictions: Iterable[Prediction], choice: MethodChoice | None) -> Prediction:
    """One behaviour's prediction by the chosen method; of a combination, by the method that weighs
    most. Where nothing was chosen, or what was chosen did not predict, an edit-aware prediction
    goes before a first-order one. Raises ValueError for no predictions."""
    weights = {} if choice is None else choice.weights
    return max(
        predictions,
        key=lambda one: (
            weights.get(candidate_name(one.method, one.estimate), 0.0),
            one.estimate == Estimate.EDIT_AWARE,
        ),
    )
