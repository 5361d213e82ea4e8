"""What a reviewer does: sign verdicts off, accept or invalidate the result of a retrain."""

from uuid import UUID

from django.http import HttpRequest
from pydantic import Field

from curation.api.pagination import Input
from curation.api.registrations import RetrainOut, VerdictOut, verdicts_of
from curation.api.router import ApiRouter
from curation.models import Registration, Retrain, Scope, Verdict
from curation.queries.access import Right, get_for
from curation.services import reviews

router = ApiRouter(tags=["Reviews"])


class RetrainReviewIn(Input):
    accepted: bool = Field(description="False invalidates the result.")
    reason: str = Field(min_length=1, max_length=reviews.LONGEST_REASON, pattern=r"\S")


@router.create(
    "/registrations/{registration_id}/sign-off", response=list[VerdictOut], scope=Scope.REVIEW
)
def sign_off_registration(request: HttpRequest, registration_id: UUID) -> list[Verdict]:
    """Confirm, as someone else than who registered it, that a test was run and decided as
    registered."""
    registration = get_for(Registration, registration_id, request.user, Right.REVIEW)
    reviews.sign_off(registration=registration, by=request.user)
    return list(verdicts_of(registration))


@router.create("/retrains/{retrain_id}/review", response=RetrainOut, scope=Scope.REVIEW)
def review_retrain(request: HttpRequest, retrain_id: UUID, body: RetrainReviewIn) -> Retrain:
    """Invalidate the result of one retrain, or accept it again. It stays in the report, and the
    verdict stays the registered rule's on every retrain; invalidated before the test is complete,
    it never joins the bank. To withdraw a verdict, invalidate the test."""
    retrain = get_for(Retrain, retrain_id, request.user, Right.REVIEW)
    return reviews.review_retrain(
        retrain=retrain, accepted=body.accepted, reason=body.reason, by=request.user
    )
