"""Registered tests: the locked plan, retrains, deviations, verdicts; and the track record."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from pydantic import Field

from curation.api.behaviours import StartedJob
from curation.api.pagination import Input, Page, PageQuery, newest_first
from curation.api.router import ApiRouter
from curation.models import (
    Arm,
    Baseline,
    Behaviour,
    Deviation,
    Ladder,
    Outcome,
    Project,
    Proposal,
    Registration,
    RegistrationState,
    Retrain,
    Scope,
    Verdict,
)
from curation.queries.access import Right, get_for
from curation.queries.track_record import checked_verdicts, summary_of
from curation.services import registrations, verdicts
from curation.services.ladders import request_ladder

router = ApiRouter(tags=["Registrations"])
track_record_router = ApiRouter(tags=["Track record"])
OPEN = (RegistrationState.LOCKED, RegistrationState.RUNNING, RegistrationState.ABANDONED)


class RegistrationIn(Input):
    primary_behaviour: UUID
    number_of_seeds: int = Field(8, ge=registrations.MIN_SEEDS, le=registrations.MAX_SEEDS)
    smallest_effect: float = Field(
        0.0,
        ge=0,
        le=1e12,
        description="Smallest effect of interest on the primary behaviour, in its unit.",
    )
    level: float = Field(0.9, ge=0.5, le=0.999)
    placebo_must_differ: bool = Field(
        False, description="Support also asks that a random edit of the same size did less."
    )


class ChecklistOut(Schema):
    name: str
    met: bool
    explanation: str


class RegistrationOut(Schema):
    id: UUID
    project_id: UUID
    proposal_id: UUID
    primary_behaviour_id: UUID
    plan: dict[str, Any]
    plan_text: str = Field(description="The canonical JSON whose SHA-256 is `plan_sha256`.")
    plan_sha256: str
    seeds: list[int]
    smallest_effect: float
    level: float
    decision_rule: str
    state: RegistrationState
    ended_reason: str
    started_at: datetime | None
    ended_at: datetime | None
    created_at: datetime


class StartedRetrains(Schema):
    registration: RegistrationOut
    jobs: list[UUID]


class RetrainOut(Schema):
    id: UUID
    arm: Arm
    seed: int
    values: dict[str, float | None] | None = Field(
        description="Behaviour id to value; null until the plan is complete: early numbers are "
        "not taken for results."
    )
    accepted: bool
    review_reason: str
    created_at: datetime

    @staticmethod
    def resolve_values(retrain: Retrain) -> Any:
        return None if retrain.registration.state in OPEN else retrain.values


class ReasonIn(Input):
    reason: str = Field(min_length=1, max_length=4000, pattern=r"\S")


class DeviationIn(Input):
    description: str = Field(min_length=1, max_length=4000, pattern=r"\S")


class DeviationOut(Schema):
    id: UUID
    description: str
    recorded_by: str
    created_at: datetime

    @staticmethod
    def resolve_recorded_by(deviation: Deviation) -> str:
        return deviation.recorded_by.get_username()


class VerdictOut(Schema):
    id: UUID
    registration_id: UUID
    behaviour_id: UUID
    behaviour: str
    unit: str
    is_primary: bool
    outcome: Outcome
    reason: str
    method: str
    predicted: float
    predicted_low: float
    predicted_high: float
    actual: float | None
    actual_low: float | None
    actual_high: float | None
    placebo: float | None
    placebo_low: float | None
    placebo_high: float | None
    p_value: float | None
    adjusted_p_value: float | None
    signed_off_by: str | None
    signed_off_at: datetime | None
    created_at: datetime

    @staticmethod
    def resolve_signed_off_by(verdict: Verdict) -> str | None:
        return verdict.signed_off_by.get_username() if verdict.signed_off_by else None

    @staticmethod
    def resolve_behaviour(verdict: Verdict) -> str:
        return verdict.behaviour.name

    @staticmethod
    def resolve_unit(verdict: Verdict) -> str:
        return verdict.behaviour.unit

    @staticmethod
    def resolve_is_primary(verdict: Verdict) -> bool:
        return verdict.registration.primary_behaviour_id == verdict.behaviour_id


class LadderOut(Schema):
    id: UUID
    effects: dict[str, Any] = Field(
        description="Behaviour id to rung name to the effect of each seed, in the behaviour's unit."
    )
    notes: list[str] = Field(description="Rungs that had not converged.")
    damping: Any = Field(description="Damping of the influence function, for each seed.")
    created_at: datetime


class UnitRecord(Schema):
    pairs: int
    slope: float | None = Field(
        description="Actual on predicted through zero; 1 when sizes were right."
    )
    rank: float | None = Field(
        description="Spearman's correlation; null for fewer than three pairs."
    )


class TrackRecordOut(Schema):
    """How predictions fared against retraining."""

    tests_by_state: dict[str, int] = Field(description="Every registered test, however it ended.")
    pairs: int = Field(description="Predictions that a complete test has checked.")
    sign_rate: float | None = Field(description="Share of pairs with the predicted direction.")
    coverage: float | None = Field(
        description="Share of predicted intervals that hold the actual effect."
    )
    units: dict[str, UnitRecord]


@router.read("/projects/{project_id}/registrations", response=Page[RegistrationOut])
def list_registrations(
    request: HttpRequest,
    project_id: UUID,
    page: Query[PageQuery],
    state: RegistrationState | None = None,
) -> dict[str, Any]:
    rows = get_for(Project, project_id, request.user).registrations.all()
    return newest_first(rows.filter(state=state) if state else rows, page)


@router.read("/proposals/{proposal_id}/checklist", response=list[ChecklistOut])
def show_checklist(
    request: HttpRequest, proposal_id: UUID, primary_behaviour: UUID | None = None
) -> Any:
    """What must hold before the plan can be locked."""
    proposal = get_for(Proposal, proposal_id, request.user)
    return registrations.checklist(
        proposal=proposal, primary_behaviour=_behaviour(request, proposal, primary_behaviour)
    )


@router.create("/proposals/{proposal_id}/registrations", response={201: RegistrationOut})
def register(request: HttpRequest, proposal_id: UUID, body: RegistrationIn) -> Registration:
    """Freeze the proposal and lock the plan of its test. It can never be changed afterwards."""
    proposal = get_for(Proposal, proposal_id, request.user, Right.WRITE)
    primary = _behaviour(request, proposal, body.primary_behaviour)
    assert primary is not None
    return registrations.register(
        proposal=proposal,
        primary_behaviour=primary,
        number_of_seeds=body.number_of_seeds,
        smallest_effect=body.smallest_effect,
        level=body.level,
        placebo_must_differ=body.placebo_must_differ,
        by=request.user,
    )


def _behaviour(
    request: HttpRequest, proposal: Proposal, behaviour_id: UUID | None
) -> Behaviour | None:
    if behaviour_id is None:
        return None
    return get_for(Behaviour, behaviour_id, request.user, baseline_id=proposal.baseline_id)


@router.read("/registrations/{registration_id}", response=RegistrationOut)
def show_registration(request: HttpRequest, registration_id: UUID) -> Registration:
    return get_for(Registration, registration_id, request.user)


@router.create(
    "/registrations/{registration_id}/start", response={202: StartedRetrains}, scope=Scope.RUN
)
def start_retrains(request: HttpRequest, registration_id: UUID) -> dict[str, Any]:
    """Start the confirmatory retrains of every arm and seed of the plan."""
    registration = get_for(Registration, registration_id, request.user, Right.WRITE)
    started = registrations.start(registration=registration, by=request.user)
    registration.refresh_from_db()
    return {"registration": registration, "jobs": [job.pk for job in started]}


@router.create("/registrations/{registration_id}/abandon", response=RegistrationOut)
def abandon_registration(
    request: HttpRequest, registration_id: UUID, body: ReasonIn
) -> Registration:
    """Give a test up. It stays in the track record, counted as abandoned."""
    registration = get_for(Registration, registration_id, request.user, Right.WRITE)
    registrations.abandon(registration=registration, reason=body.reason, by=request.user)
    registration.refresh_from_db()
    return registration


@router.create(
    "/registrations/{registration_id}/invalidate", response=list[VerdictOut], scope=Scope.REVIEW
)
def invalidate_registration(
    request: HttpRequest, registration_id: UUID, body: ReasonIn
) -> list[Verdict]:
    """Declare a test invalid, as a reviewer. It stays in the track record, as invalidated."""
    registration = get_for(Registration, registration_id, request.user, Right.REVIEW)
    verdicts.invalidate(registration=registration, reason=body.reason, by=request.user)
    return list(verdicts_of(registration))


@router.read("/registrations/{registration_id}/retrains", response=list[RetrainOut])
def list_retrains(request: HttpRequest, registration_id: UUID) -> Any:
    """The retrains that have finished. Their values are hidden until the plan is complete."""
    registration = get_for(Registration, registration_id, request.user)
    return registration.retrains.select_related("registration").order_by("seed", "arm")


@router.read("/registrations/{registration_id}/verdicts", response=list[VerdictOut])
def list_verdicts(request: HttpRequest, registration_id: UUID) -> Any:
    """Predicted beside actual, one verdict a behaviour; empty until the plan is complete."""
    return verdicts_of(get_for(Registration, registration_id, request.user))


@router.read("/registrations/{registration_id}/deviations", response=list[DeviationOut])
def list_deviations(request: HttpRequest, registration_id: UUID) -> Any:
    registration = get_for(Registration, registration_id, request.user)
    return registration.deviations.select_related("recorded_by")[:1000]


@router.create("/registrations/{registration_id}/deviations", response={201: DeviationOut})
def record_deviation(request: HttpRequest, registration_id: UUID, body: DeviationIn) -> Deviation:
    """Write down a departure from the plan; it can never be edited or taken back."""
    registration = get_for(Registration, registration_id, request.user, Right.WRITE)
    return registrations.record_deviation(
        registration=registration, description=body.description, by=request.user
    )


def verdicts_of(registration: Registration) -> QuerySet[Verdict]:
    """The verdicts of one test in the order of its behaviours."""
    return registration.verdicts.select_related(
        "behaviour", "registration", "signed_off_by"
    ).order_by("behaviour__position", "behaviour__created_at")


@router.create(
    "/registrations/{registration_id}/ladder", response={202: StartedJob}, scope=Scope.RUN
)
def measure_ladder(request: HttpRequest, registration_id: UUID) -> dict[str, Any]:
    """Measure every rung between the influence estimate and the retrains of a complete test."""
    registration = get_for(Registration, registration_id, request.user, Right.WRITE)
    return {"job": request_ladder(registration=registration, by=request.user).pk}


@router.read("/registrations/{registration_id}/ladder", response=LadderOut | None)
def show_ladder(request: HttpRequest, registration_id: UUID) -> Ladder | None:
    """Why the prediction missed: the effect on each rung, a seed each; null until measured."""
    registration = get_for(Registration, registration_id, request.user)
    return Ladder.objects.filter(registration=registration).first()


@track_record_router.read("/projects/{project_id}/track-record", response=TrackRecordOut)
def show_project_track_record(request: HttpRequest, project_id: UUID) -> dict[str, Any]:
    """Predicted against actual over all registered tests of a project."""
    project = get_for(Project, project_id, request.user)
    return _track_record(project.registrations.all(), checked_verdicts(project))


@track_record_router.read("/baselines/{baseline_id}/track-record", response=TrackRecordOut)
def show_baseline_track_record(request: HttpRequest, baseline_id: UUID) -> dict[str, Any]:
    """Predicted against actual over all registered tests of a baseline."""
    baseline = get_for(Baseline, baseline_id, request.user)
    tests = Registration.objects.filter(proposal__baseline=baseline)
    return _track_record(tests, checked_verdicts(baseline.project, baseline))


def _track_record(tests: QuerySet[Registration], verdicts: list[Verdict]) -> dict[str, Any]:
    states = tests.order_by().values_list("state").annotate(number=Count("pk"))
    return {"tests_by_state": dict(states), **summary_of(verdicts)}


@track_record_router.read("/projects/{project_id}/verdicts", response=Page[VerdictOut])
def list_project_verdicts(
    request: HttpRequest,
    project_id: UUID,
    page: Query[PageQuery],
    outcome: Outcome | None = None,
) -> dict[str, Any]:
    """Every verdict of a project, the newest first."""
    project = get_for(Project, project_id, request.user)
    rows = Verdict.objects.filter(registration__project=project).select_related(
        "behaviour", "registration", "signed_off_by"
    )
    return newest_first(rows.filter(outcome=outcome) if outcome else rows, page)
