"""The bank of a baseline, retrains of known edits; the calibrations that were fitted to it, and the
methods that were chosen by it."""

import math
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from curation.api.behaviours import StartedJob
from curation.api.pagination import Input, Page, PageQuery, newest_first
from curation.api.router import ApiRouter
from curation.models import Baseline, Scope
from curation.queries.access import Right, get_for
from curation.queries.method_advice import advice_for
from curation.queries.method_choices import choices_of
from curation.services import bank

router = ApiRouter(tags=["Calibration"])


class BankIn(Input):
    number_of_edits: int = Field(48, ge=1, le=bank.MAX_EDITS)
    seeds_per_edit: int = Field(2, ge=2, le=bank.MAX_SEEDS_PER_EDIT)


class BankEstimate(Schema):
    number_of_retrains: int
    estimate_seconds: float | None = Field(description="One by one; batching is faster.")


class BankEditOut(Schema):
    id: UUID
    position: int
    kind: str = Field(description="removal, down_weighting or up_weighting")
    selection: str = Field(description="How its examples were chosen; `proposal` for a test.")
    size_fraction: float
    registration_id: UUID | None
    created_at: datetime


class CalibrationOut(Schema):
    id: UUID
    method: str
    estimate: str
    number_of_edits: int
    created_at: datetime


class MethodChoiceOut(Schema):
    behaviour_id: UUID
    method: str = Field(description="A method, or `combination` of several by `weights`.")
    weights: dict[str, float]
    errors: dict[str, float | None] = Field(
        description="Error on held-out edits by method; `nothing` predicts no change. Null where "
        "there is too little evidence."
    )
    advantages: dict[str, float | None] = Field(
        description="Error saved against the method that is best overall."
    )
    advantage_errors: dict[str, float | None] = Field(
        description="Standard errors of the advantages."
    )
    number_of_edits: int = Field(description="Held-out edits that the choice was made on.")
    reason: str


@router.read("/baselines/{baseline_id}/bank", response=Page[BankEditOut])
def list_bank_edits(
    request: HttpRequest, baseline_id: UUID, page: Query[PageQuery]
) -> dict[str, Any]:
    """The known edits that the baseline was retrained with."""
    return newest_first(get_for(Baseline, baseline_id, request.user).bank_edits.all(), page)


@router.ask("/baselines/{baseline_id}/bank/estimate", response=BankEstimate)
def estimate_bank(request: HttpRequest, baseline_id: UUID, body: BankIn) -> dict[str, Any]:
    """What extending the bank would cost."""
    baseline = get_for(Baseline, baseline_id, request.user)
    size = {"number_of_edits": body.number_of_edits, "seeds_per_edit": body.seeds_per_edit}
    return {
        "number_of_retrains": bank.number_of_retrains(**size),
        "estimate_seconds": bank.estimate_seconds(baseline=baseline, **size),
    }


@router.create("/baselines/{baseline_id}/bank", response={202: StartedJob}, scope=Scope.RUN)
def extend_bank(request: HttpRequest, baseline_id: UUID, body: BankIn) -> dict[str, Any]:
    """Retrain with further known edits, so that predictions are calibrated on more evidence."""
    baseline = get_for(Baseline, baseline_id, request.user, Right.WRITE)
    job = bank.extend_bank(
        baseline=baseline,
        number_of_edits=body.number_of_edits,
        seeds_per_edit=body.seeds_per_edit,
        by=request.user,
    )
    return {"job": job.pk}


@router.read("/baselines/{baseline_id}/calibrations", response=Page[CalibrationOut])
def list_calibrations(
    request: HttpRequest, baseline_id: UUID, page: Query[PageQuery]
) -> dict[str, Any]:
    """Calibrations of the baseline, the newest first: the newest of a method is in use."""
    return newest_first(get_for(Baseline, baseline_id, request.user).calibrations.all(), page)


class MethodCostOut(Schema):
    method: str
    seconds: float = Field(description="For all seeds and behaviours; rough.")
    bytes: int = Field(description="Of memory beside the network and the data.")


class MethodAdviceOut(Schema):
    method: str = Field(description="The most faithful one that is affordable.")
    reason: str
    costs: list[MethodCostOut]


@router.read("/baselines/{baseline_id}/method-advice", response=MethodAdviceOut)
def show_method_advice(request: HttpRequest, baseline_id: UUID) -> Any:
    """Which influence method suits the baseline's size, before any is computed."""
    advice = advice_for(get_for(Baseline, baseline_id, request.user))
    if advice is None:
        raise ValidationError("The baseline is not trained yet.")
    return advice


@router.read("/baselines/{baseline_id}/method-choices", response=list[MethodChoiceOut])
def list_method_choices(request: HttpRequest, baseline_id: UUID) -> list[dict[str, Any]]:
    """Which method predicts each behaviour best, and the held-out evidence for it."""
    baseline = get_for(Baseline, baseline_id, request.user)
    return [
        {
            "behaviour_id": behaviour_id,
            "method": choice.method,
            "weights": choice.weights,
            "errors": _finite(choice.errors),
            "advantages": _finite(choice.advantages),
            "advantage_errors": _finite(choice.advantage_errors),
            "number_of_edits": choice.number_of_edits,
            "reason": choice.reason,
        }
        for behaviour_id, choice in choices_of(baseline).items()
    ]


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no number that is not finite: null stands for it."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
