"""The workbench shows the instant prediction, and a worker's edit-aware one once it is there."""

import pytest

from curation.models import Baseline, Estimate, Job, JobKind, JobState, MethodChoices
from curation.queries.predictions import edits_of, predict_first_order
from curation.services import predictions, proposals
from tests.api.world import make_world
from workers.evidence.selection import MethodChoice

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(people):
    world = make_world(people)
    Baseline.objects.filter(pk=world.baseline.pk).update(summary={"edit_aware": {"usable": True}})
    world.proposal.baseline.refresh_from_db()
    return world


@pytest.fixture
def show(client, world):
    client.force_login(world.owner)

    def shown(part=""):
        answer = client.get(f"/proposals/{world.proposal.pk}/{part}")
        assert answer.status_code == 200
        return answer.content.decode()

    return shown


def follow(proposal, factor=2.0):
    """What a worker saves: here, so many times the instant prediction."""
    indices, weights = edits_of(proposal)
    found = predict_first_order(baseline=proposal.baseline, train_indices=indices, weights=weights)
    effects = [
        type(one)(**{**vars(one), "value": one.value * factor, "warnings": []}) for one in found
    ]
    return predictions.save_effects(
        proposal=proposal, effects=effects, estimate=Estimate.EDIT_AWARE
    )


def jobs_of(proposal):
    return Job.objects.filter(kind=JobKind.PREDICT, target_id=proposal.pk)


def change(world, weight):
    return proposals.set_weights(
        proposal=world.proposal, examples=[(5, "e5")], weight=weight, by=world.owner
    )


def test_a_change_of_the_edits_asks_a_worker_once(world):
    change(world, 0)
    change(world, 3)
    job = jobs_of(world.proposal).get()
    assert job.queue == "predict"
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING)  # with the edits as they were
    change(world, 2)
    assert jobs_of(world.proposal).count() == 2


def test_nobody_is_asked_where_nothing_could_come_of_it(world):
    proposals.clear(proposal=world.proposal, by=world.owner)
    assert not jobs_of(world.proposal).exists()
    Baseline.objects.filter(pk=world.baseline.pk).update(summary={"edit_aware": {"usable": False}})
    change(world, 0)
    assert not jobs_of(world.proposal).exists()


def test_the_page_waits_for_the_worker_and_then_marks_its_figure(world, show):
    world.proposal = change(world, 0)
    waiting = show()
    assert f'hx-get="/proposals/{world.proposal.pk}/effects/"' in waiting
    assert "edit-aware</span>" not in waiting
    (saved,) = follow(world.proposal)
    jobs_of(world.proposal).update(state=JobState.SUCCEEDED)
    for page in (show(), show("effects/")):
        assert "edit-aware</span>" in page
        assert 'hx-trigger="every 2s"' not in page
        assert f"{saved.value:.2f}".lstrip("-") in page


def test_where_evidence_speaks_for_the_instant_figure_both_are_shown(world, show):
    world.proposal = change(world, 0)
    choice = MethodChoice(
        behaviour=world.behaviour.name, method="replay", weights={"replay": 1.0}, errors={},
        advantages={}, advantage_errors={}, number_of_edits=12, reason="It misses least.",
    )  # fmt: skip
    MethodChoices.objects.create(
        baseline=world.baseline, methods=["replay", "replay, edit-aware"], number_of_edits=12,
        choices={str(world.behaviour.pk): choice.to_json()},
    )  # fmt: skip
    follow(world.proposal)
    page = show()
    assert "edit-aware</span>" not in page
    assert "held-out edits speak for the first-order figure" in page


def test_the_figure_of_other_edits_is_not_shown(world, show):
    world.proposal = change(world, 0)
    follow(world.proposal)
    change(world, 2)
    assert "edit-aware</span>" not in show()


def test_a_what_if_is_always_instant(world, show):
    world.proposal = change(world, 0)
    follow(world.proposal)
    asked = f"what-if/?behaviour={world.behaviour.pk}&which=harmful&count=3&weight=0"
    page = show(asked)
    assert "Not saved" in page
    assert "edit-aware</span>" not in page


def test_a_comparison_shows_what_the_pages_show(world, client):
    client.force_login(world.owner)
    world.proposal = change(world, 0)

    def cell():
        address = f"/projects/{world.project.pk}/proposals/compare/?proposal={world.proposal.pk}"
        (row,) = client.get(address).context["rows"]
        return row["cells"][0]

    before = cell()
    follow(world.proposal)
    assert cell().value == pytest.approx(2 * before.value)
    assert (before.edit_aware, cell().edit_aware) == (False, True)
