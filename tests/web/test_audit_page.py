"""The audit log says what each entry is about, by name and with a way there."""

import pytest

from curation.models import AuditEntry
from curation.services import audit
from curation.web.audit_targets import targets_of

pytestmark = pytest.mark.django_db


def test_entries_name_what_they_are_about(owner, world, django_assert_max_num_queries):
    things = {
        world.dataset: "sentences", world.version: "sentences v1", world.baseline: "first",
        world.behaviour: "margin", world.proposal: "drop two", world.registration: "locked",
        world.baseline.model: "bag", world.baseline.recipe: "short",
    }  # fmt: skip
    for thing in things:
        for _ in range(2):
            audit.record(action="looked at", actor=world.owner, project=world.project, target=thing)
    audit.record(action="swept", actor=None, project=world.project)
    with django_assert_max_num_queries(25):
        page = owner.get(f"/projects/{world.project.pk}/audit/")
    shown = page.context["targets"]
    for thing, name in things.items():
        for entry in AuditEntry.objects.filter(action="looked at", object_id=str(thing.pk)):
            target = shown[entry.pk]
            assert target.name == name
            assert owner.get(target.address).status_code == 200
    assert AuditEntry.objects.get(action="swept").pk not in shown


def test_what_is_gone_has_no_address():
    missing = AuditEntry(object_kind="recipe", object_id="6b0f2a4e-3d53-4c0e-9a59-8f1d2c7b5e10")
    assert targets_of([missing]) == {}
