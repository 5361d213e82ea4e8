"""Reviewing a complete test: a second person signs its verdicts off. Invalidating is a matter of
`verdicts`."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from curation.models import Registration, RegistrationState
from curation.services import audit


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
