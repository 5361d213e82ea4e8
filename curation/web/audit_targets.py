"""What the entries of an audit log are about: names and pages of the things, a query a kind."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import CharField, F, Value
from django.db.models.functions import Cast, Concat
from django.urls import reverse

from curation.models import (
    AuditEntry,
    Baseline,
    Behaviour,
    Dataset,
    DatasetVersion,
    Model,
    Proposal,
    Recipe,
    Registration,
)

VERSION_NAME = Concat(
    F("dataset__name"), Value(" v"), Cast("number", CharField()), output_field=CharField()
)
NAMED: dict[str, tuple[Any, str, Any]] = {
    str(model._meta.verbose_name): (model, page, name)
    for model, page, name in (
        (Dataset, "dataset", F("name")),
        (DatasetVersion, "version", VERSION_NAME),
        (Model, "model", F("name")),
        (Recipe, "recipe", F("name")),
        (Baseline, "baseline", F("name")),
        (Behaviour, "behaviour", F("name")),
        (Proposal, "proposal", F("name")),
        (Registration, "registration", F("proposal__name")),
    )
}


@dataclass(frozen=True)
class Target:
    name: str
    address: str


def targets_of(entries: Iterable[AuditEntry]) -> dict[int, Target]:
    """Entry id to what it is about, for those whose object still exists and has a page."""
    by_kind: dict[str, dict[str, list[int]]] = {}
    for entry in entries:
        if entry.object_kind in NAMED and entry.object_id:
            by_kind.setdefault(entry.object_kind, {}).setdefault(entry.object_id, []).append(
                entry.pk
            )
    found = {}
    for kind, ids in by_kind.items():
        model, page, name = NAMED[kind]
        for pk, shown in model.objects.filter(pk__in=ids).values_list("pk", name):
            target = Target(shown, reverse(page, args=[pk]))
            found.update(dict.fromkeys(ids[str(pk)], target))
    return found
