"""What an owner deletes is hidden at once, comes back whole, and is gone after the grace time."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.http import Http404
from django.utils import timezone

from curation.models import (
    AuditEntry,
    Baseline,
    Dataset,
    DatasetVersion,
    Deletion,
    Edit,
    Job,
    JobState,
    Model,
    Project,
    Proposal,
    Registration,
    StoredFile,
)
from curation.queries.access import get_for, visible
from curation.queries.deletions import affected_by
from curation.queries.disk_usage import files_in_use
from curation.services import datasets, deletions, file_upkeep, proposals
from tests.api.conftest import people, world
from tests.api.world import World

__all__ = ["people", "world"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def idle(world: World) -> World:
    """The small world, whose jobs have ended."""
    Job.objects.update(state=JobState.SUCCEEDED)
    return world


@pytest.fixture
def untested(idle: World) -> World:
    """The small world without registered plans; the test's own proposal is left."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL hunch.purging = 'on'")
        Registration.objects.all().delete()
        cursor.execute("SET LOCAL hunch.purging = 'off'")
    return idle


def let_the_grace_time_pass() -> None:
    Deletion.objects.update(purge_after=timezone.now() - timedelta(seconds=1))


def kinds() -> dict[str, Callable[[World], Any]]:
    return {
        "project": lambda world: world.project,
        "dataset": lambda world: world.dataset,
        "version": lambda world: world.version,
        "model": lambda world: world.baseline.model,
        "baseline": lambda world: world.baseline,
    }


def test_what_goes_with_a_dataset_is_counted(untested: World) -> None:
    assert affected_by(untested.dataset).counts() == {
        "dataset versions": 1,
        "baselines": 1,
        "proposals": 3,
        "behaviours": 1,
    }


@pytest.mark.parametrize("kind", kinds())
def test_everything_below_is_hidden_and_comes_back(untested: World, kind: str) -> None:
    owner = untested.owner
    before = {model: set(visible(model, owner)) for model in (Project, Dataset, Model, Proposal)}
    deletion = deletions.delete(target=kinds()[kind](untested), by=owner)
    for model, one in ((Baseline, untested.baseline), (Proposal, untested.proposal)):
        with pytest.raises(Http404):
            get_for(model, one.pk, owner)
    with pytest.raises(Http404):
        get_for(type(untested.behaviour), untested.behaviour.pk, owner)
    assert not untested.project.baselines.exists()
    deletions.restore(deletion=deletion, by=owner)
    assert get_for(Proposal, untested.proposal.pk, owner).edits.count() == 2
    assert {model: set(visible(model, owner)) for model in before} == before


def test_files_stay_until_the_grace_time_has_passed_and_are_freed_after(untested: World) -> None:
    content = untested.version.examples_file_id
    deletions.delete(target=untested.dataset, by=untested.owner)
    deletions.purge_due()
    assert content in files_in_use()
    let_the_grace_time_pass()
    assert deletions.purge_due() >= 1
    assert content not in files_in_use()
    assert not DatasetVersion.everything.filter(pk=untested.version.pk).exists()
    file_upkeep.free_unreferenced(grace=timedelta(0))
    assert not StoredFile.objects.filter(pk=content).exists()


def test_a_frozen_proposal_without_a_plan_can_be_purged(untested: World) -> None:
    frozen = proposals.freeze(proposal=untested.proposal, by=untested.owner)
    deletions.delete(target=frozen, by=untested.owner)
    let_the_grace_time_pass()
    deletions.purge_due()
    assert not Proposal.everything.filter(pk=frozen.pk).exists()
    assert not Edit.objects.filter(proposal=frozen.pk).exists()


def test_a_purged_project_leaves_nothing_but_who_did_what(untested: World) -> None:
    key = untested.project.pk
    deletions.delete(target=untested.project, by=untested.owner)
    let_the_grace_time_pass()
    deletions.purge_due()
    assert not Project.everything.filter(pk=key).exists()
    assert not Dataset.everything.exists()
    assert not files_in_use()
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"project created", "project deleted", "project purged"} <= actions


def test_registered_plans_keep_what_they_stand_on(idle: World) -> None:
    locked = Registration.objects.first().proposal
    for kind in ("dataset", "version", "model", "baseline"):
        with pytest.raises(ValidationError, match="registered plans depend on it"):
            deletions.delete(target=kinds()[kind](idle), by=idle.owner)
    with pytest.raises(ValidationError, match="registered plan depends on it"):
        deletions.delete(target=locked, by=idle.owner)


def test_a_project_with_registered_plans_is_archived_and_never_purged(idle: World) -> None:
    deletion = deletions.delete(target=idle.project, by=idle.owner)
    assert deletion.is_archived
    assert not visible(Project, idle.owner).exists()
    assert not visible(Registration, idle.owner).exists()
    deletions.purge_due()
    assert Registration.objects.count() == 2
    deletions.restore(deletion=deletion, by=idle.owner)
    assert visible(Registration, idle.owner).count() == 2


@pytest.mark.parametrize("kind", kinds())
def test_nothing_is_deleted_under_a_job(world: World, kind: str) -> None:
    """The world's job waits to compute the influence of its baseline."""
    with pytest.raises(ValidationError, match="job"):
        deletions.delete(target=kinds()[kind](world), by=world.owner)
    draft = deletions.delete(target=world.proposal, by=world.owner)
    assert draft.object_kind == "proposal"


def test_a_version_that_another_one_was_made_from_stays(untested: World) -> None:
    datasets.apply_proposal(proposal=untested.proposal, by=untested.owner)
    Job.objects.update(state=JobState.SUCCEEDED)
    for target in (untested.version, untested.proposal):
        with pytest.raises(ValidationError, match="Version 2 of sentences was made from it"):
            deletions.delete(target=target, by=untested.owner)
    deletions.delete(target=untested.dataset, by=untested.owner)
    let_the_grace_time_pass()
    deletions.purge_due()
    assert not DatasetVersion.everything.exists()


def test_a_name_and_a_number_taken_meanwhile_do_not_clash(untested: World) -> None:
    deletion = deletions.delete(target=untested.dataset, by=untested.owner)
    datasets.create_dataset(project=untested.project, name="sentences", by=untested.owner)
    deletions.restore(deletion=deletion, by=untested.owner)
    names = set(untested.project.datasets.values_list("name", flat=True))
    assert names == {"sentences", "sentences (restored)"}
    source = untested.version.source_file
    second = deletions.delete(target=untested.version, by=untested.owner)
    made, _ = datasets.add_version(
        dataset=untested.dataset, source_file=source, file_name="b", by=untested.owner
    )
    assert made.number == 2
    deletions.restore(deletion=second, by=untested.owner)


def test_what_lies_in_something_deleted_is_restored_after_it(untested: World) -> None:
    first = deletions.delete(target=untested.proposal, by=untested.owner)
    second = deletions.delete(target=untested.dataset, by=untested.owner)
    third = deletions.delete(target=untested.project, by=untested.owner)
    with pytest.raises(ValidationError, match="Restore the project World first"):
        deletions.restore(deletion=second, by=untested.owner)
    deletions.restore(deletion=third, by=untested.owner)
    with pytest.raises(ValidationError, match="Restore the baseline first first"):
        deletions.restore(deletion=first, by=untested.owner)
    deletions.restore(deletion=second, by=untested.owner)
    deletions.restore(deletion=first, by=untested.owner)
    assert visible(Proposal, untested.owner).filter(pk=untested.proposal.pk).exists()


def test_a_deletion_is_restored_once(untested: World) -> None:
    deletion = deletions.delete(target=untested.dataset, by=untested.owner)
    deletions.restore(deletion=deletion, by=untested.owner)
    with pytest.raises(ValidationError, match="already"):
        deletions.restore(deletion=deletion, by=untested.owner)
