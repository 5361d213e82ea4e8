"""Probe sets: probe examples saved under a name, for behaviours to read."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import DatasetVersion, ProbeSet, VersionState
from curation.queries.examples import ExampleArrays, ExampleFilter, ExampleTable
from curation.services import audit

MAX_PROBE_EXAMPLES = 100_000
MAX_PROBE_SETS = 200
MOST_WORDS = 1000


@transaction.atomic
def save_probe_set(
    *,
    version: DatasetVersion,
    name: str,
    wanted: ExampleFilter,
    chosen: str,
    by: Any,
    values: ExampleArrays = {},  # noqa: B006 - never changed
) -> ProbeSet:
    """Freeze the probe examples that match `wanted`; train examples that match are passed over.
    `chosen` says in words how they were found; `values` are those that `wanted` bounds.

    Raises:
        ValidationError: no or too many probe examples, an unknown column, or a name that is
        empty or taken.
    """
    if version.state != VersionState.READY:
        raise ValidationError("The dataset version is not imported yet.")
    name = name.strip()
    if not name:
        raise ValidationError("Give the probe set a name.")
    DatasetVersion.objects.select_for_update().get(pk=version.pk)
    if version.probe_sets.filter(name=name).exists():
        raise ValidationError(f"This version has a probe set called “{name}” already.")
    if version.probe_sets.count() >= MAX_PROBE_SETS:
        raise ValidationError(f"A version holds at most {MAX_PROBE_SETS} probe sets.")
    with ExampleTable(version) as table:
        try:
            found = table.select(wanted, split="probe", values=values)
        except KeyError as error:
            raise ValidationError(f"The examples have no column or value {error}.") from error
    if not found:
        raise ValidationError("None of these examples is in the probe split.")
    if len(found) > MAX_PROBE_EXAMPLES:
        raise ValidationError(
            f"{len(found):,} probe examples match; the limit is {MAX_PROBE_EXAMPLES:,}."
        )
    saved = ProbeSet(
        dataset_version=version,
        name=name,
        probe_indices=[index for index, _ in found],
        chosen=chosen[:MOST_WORDS],
        created_by=by,
    )
    saved.full_clean()
    saved.save()
    audit.record(action="probe set saved", actor=by, project=version.project, target=saved)
    return saved


@transaction.atomic
def delete_probe_set(*, probe_set: ProbeSet, by: Any) -> None:
    """Behaviours that read the set keep its examples: they were copied when those were defined."""
    project = probe_set.dataset_version.project
    audit.record(action="probe set deleted", actor=by, project=project, target=probe_set)
    probe_set.delete()
