"""Asking how the influence of the most influential examples is split among their tokens."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import ENDED, Behaviour, Influence, Job, JobKind, Task, TokenInfluence
from curation.queries.predictions import DEFAULT_METHOD
from curation.services import audit, jobs

LANGUAGE_TASKS = (Task.TEXT, Task.PROMPT_COMPLETION)


def has_tokens(behaviour: Behaviour) -> bool:
    """Whether the training examples are texts whose tokens have a loss each."""
    return behaviour.baseline.dataset_version.task in LANGUAGE_TASKS


def token_job(behaviour: Behaviour) -> Job | None:
    """The job that splits this behaviour's influence, while it has not ended."""
    found = Job.objects.filter(target_id=behaviour.pk, kind=JobKind.TOKEN_INFLUENCE)
    return found.exclude(state__in=ENDED).order_by("-created_at").first()


@transaction.atomic
def request_token_influence(*, behaviour: Behaviour, by: Any) -> Job:
    """Split the influence of the behaviour's most helpful and most harmful examples.

    Raises:
        ValidationError: not a language model, no influence by replay, or done or under way.
    """
    behaviour = Behaviour.objects.select_for_update().get(pk=behaviour.pk)
    if not has_tokens(behaviour):
        raise ValidationError("Only the examples of a language model have tokens with a loss each.")
    if not Influence.objects.filter(behaviour=behaviour, method=DEFAULT_METHOD).exists():
        raise ValidationError("Compute influence first: the behaviour has no scores by replay.")
    if TokenInfluence.objects.filter(behaviour=behaviour).exists() or token_job(behaviour):
        raise ValidationError("The tokens of this behaviour are scored or being scored.")
    audit.record(
        action="token influence requested", actor=by, project=behaviour.project, target=behaviour
    )
    return jobs.enqueue(
        project=behaviour.project,
        kind=JobKind.TOKEN_INFLUENCE,
        target_id=behaviour.pk,
        created_by=by,
    )
