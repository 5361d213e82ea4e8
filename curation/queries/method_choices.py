"""Which method a behaviour's prediction should come from, and the held-out evidence for it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from curation.models import Baseline, Estimate, MethodChoices, Prediction
from curation.queries.influence_methods import title_of
from workers.evidence.selection import COMBINATION, NOTHING, MethodChoice

UNNAMED = {COMBINATION: "Combination of methods", NOTHING: "No change"}
"""What is compared and is no method."""


@dataclass(frozen=True)
class ComparedMethod:
    """What held-out retrains of the bank say of one candidate. `error` is the root of the mean
    squared error about the fresh-seed mean, in standard deviations of a random edit's effect."""

    name: str
    error: float
    is_chosen: bool


def candidate_name(method: str, estimate: str = Estimate.FIRST_ORDER) -> str:
    """How a method and its estimate are named among the compared ones."""
    return method if estimate == Estimate.FIRST_ORDER else f"{method}, edit-aware"


def parse_candidate(name: str) -> tuple[str, str]:
    """(method, estimate) of a compared one."""
    method, _, edit_aware = name.partition(", ")
    return method, Estimate.EDIT_AWARE if edit_aware else Estimate.FIRST_ORDER


def candidate_title(name: str) -> str:
    """A compared one for people."""
    if name in UNNAMED:
        return UNNAMED[name]
    method, estimate = parse_candidate(name)
    title = title_of(method)
    return title if estimate == Estimate.FIRST_ORDER else f"{title}, edit-aware"


def errors_of(choice: MethodChoice) -> list[ComparedMethod]:
    """The compared methods, controls and the prediction of no change, the best first."""
    return [
        ComparedMethod(name, error, name == choice.method)
        for name, error in sorted(choice.errors.items(), key=lambda item: item[1])
    ]


def choices_of(baseline: Baseline) -> dict[UUID, MethodChoice]:
    """The newest choice for each behaviour; empty before influence was computed."""
    newest = MethodChoices.objects.filter(baseline=baseline).order_by("-created_at").first()
    if newest is None:
        return {}
    return {UUID(key): MethodChoice.from_json(value) for key, value in newest.choices.items()}


def preferred(
    predictions: Iterable[Prediction], choice: MethodChoice | None, at_once: str | None = None
) -> Prediction:
    """One behaviour's prediction by the chosen method or combination; of a combination that did not
    predict, by the method that weighs most. Where nothing was chosen, or what was chosen did not
    predict, an edit-aware prediction goes before a first-order one, and of these the one by
    `at_once`, the method chosen among those that answer at once. Raises ValueError for no
    predictions."""

    def trust(one: Prediction) -> float:
        if choice is None:
            return 0.0
        if one.method == choice.method == COMBINATION:
            return math.inf
        return choice.weights.get(candidate_name(one.method, one.estimate), 0.0)

    return max(
        predictions,
        key=lambda one: (trust(one), one.estimate == Estimate.EDIT_AWARE, one.method == at_once),
    )
