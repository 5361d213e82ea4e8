"""Reviewing: a second person signs the verdicts of a test off; results of single retrains are
accepted or invalidated. Invalidating a whole test is a matter of `verdicts`."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from curation.models import Registration, RegistrationState, Retrain
from curation.services import audit, registrations

LONGEST_REASON = 2000


@transaction.atomic
def sign_off(*, registration: Registration, by: Any) -> None:
    """Confirm that the test was run and decided as registered; once, by another person.

    Raises:
        ValidationError: the test is not complete, is signed off already, or `by` registered it.
    """
    registration = Registration.objects.select_for_update().get(pk=registration.pk)
    if registration.state != RegistrationState.COMPLETE:
        raise ValidationError("Only a complete test can be signed off.")
    if registration.locked_by_id == by.pk:
        raise ValidationError("A test is signed off by someone else than who registered it.")
    updated = registration.verdicts.filter(signed_off_by=None).update(
        signed_off_by=by, signed_off_at=timezone.now()
    )
    if not updated:
        raise ValidationError("This test has already been signed off.")
    audit.record(action="verdicts signed off", actor=by, project=registration.project,
                 target=registration)  # fmt: skip


@transaction.atomic
def review_retrain(*, retrain: Retrain, accepted: bool, reason: str, by: Any) -> Retrain:
    """Mark the result of a retrain invalid, or accept it again, with the reason.

    The result stays, and so does the verdict: the registered rule reads every retrain, since
    leaving some out after a look at their values would choose the outcome. What is invalidated
    before the test is complete does not join the bank.

    Raises:
        ValidationError: no reason or a too long one, nothing would change, or the test's verdicts
            are signed off.
    """
    reason = reason.strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise ValidationError({"reason": f"Say why, in at most {LONGEST_REASON:,} characters."})
    registration = Registration.objects.select_for_update().get(pk=retrain.registration_id)
    retrain = Retrain.objects.select_related("registration").get(pk=retrain.pk)
    if retrain.accepted == accepted:
        state = "accepted" if accepted else "invalidated"
        raise ValidationError(f"The result of this retrain is {state} already.")
    if registration.verdicts.exclude(signed_off_by=None).exists():
        raise ValidationError("The verdicts of this test are signed off.")
    retrain.accepted = accepted
    retrain.review_reason = reason
    retrain.save(update_fields=["accepted", "review_reason"])
    audit.record(
        action="retrain accepted" if accepted else "retrain invalidated",
        actor=by,
        project=registration.project,
        target=retrain,
        arm=retrain.arm,
        seed=retrain.seed,
        reason=reason,
    )
    return retrain


@transaction.atomic
def request_more_seeds(
    *, registration: Registration, number_of_seeds: int, reason: str, by: Any
) -> Registration:
    """Register a follow-up test of the same edits on so many fresh seeds, and start it.

    The first test keeps its plan and its verdict: adding seeds to it after a look would choose the
    outcome.

    Raises:
        ValidationError: no reason is given, the first test has not ended, or the number of seeds
            is out of bounds.
    """
    if not reason.strip():
        raise ValidationError({"reason": "Say why more seeds are needed."})
    if registration.state not in (RegistrationState.COMPLETE, RegistrationState.INVALIDATED):
        raise ValidationError("Only a test that has ended can be followed by another.")
    follow_up = registrations.register(
        proposal=registration.proposal,
        primary_behaviour=registration.primary_behaviour,
        number_of_seeds=number_of_seeds,
        smallest_effect=registration.smallest_effect,
        level=registration.level,
        by=by,
    )
    audit.record(
        action="more seeds requested",
        actor=by,
        project=registration.project,
        target=registration,
        follow_up=str(follow_up.pk),
        reason=reason.strip(),
    )
    registrations.start(registration=follow_up, by=by)
    return follow_up
