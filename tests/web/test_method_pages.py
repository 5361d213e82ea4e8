"""On a baseline's page every method and control can be computed; a behaviour's page compares how
they did on held-out retrains of the bank."""

import pytest
from django.urls import reverse

from curation.models import Job, JobKind, JobState, MethodChoices
from curation.queries.influence_methods import KNOWN_METHODS
from workers.evidence.selection import MethodChoice

pytestmark = pytest.mark.django_db


def test_the_baselines_page_lists_every_method_with_what_it_answers(world, owner):
    Job.objects.filter(target_id=world.baseline.pk).update(state=JobState.SUCCEEDED)
    page = owner.get(reverse("baseline", args=[world.baseline.pk])).content.decode()
    for one in KNOWN_METHODS:
        assert f'name="method" value="{one.name}"' in page or one.name == "replay"
        assert one.title in page
    assert "0 of 1" in page
    assert "1 of 1" in page


def test_a_method_is_computed_at_the_press_of_its_button(world, owner):
    address = reverse("attribute", args=[world.baseline.pk])
    answer = owner.post(address, {"method": "ekfac"}, follow=True)
    assert "Influence is being computed." in answer.content.decode()
    job = Job.objects.filter(kind=JobKind.ATTRIBUTE).latest("created_at")
    assert job.payload == {"method": "ekfac"}


def test_an_unknown_method_is_refused_in_words(world, owner):
    before = Job.objects.count()
    address = reverse("attribute", args=[world.baseline.pk])
    answer = owner.post(address, {"method": "../x<b>"}, follow=True)
    assert "There is no method “../x&lt;b&gt;”" in answer.content.decode()
    assert Job.objects.count() == before


def test_a_viewer_reads_the_methods_and_cannot_start_them(world, browser_of):
    viewer = browser_of("viewer")
    page = viewer.get(reverse("baseline", args=[world.baseline.pk])).content.decode()
    assert "Replay shrunk over seeds" in page
    assert 'name="method"' not in page


def test_the_behaviours_page_shows_methods_and_controls_by_their_held_out_errors(world, owner):
    choice = MethodChoice(
        behaviour=str(world.behaviour.pk),
        method="replay, edit-aware",
        weights={"replay, edit-aware": 1.0},
        errors={"replay": 0.8, "replay, edit-aware": 0.5, "control_random": 1.04, "nothing": 1.0},
        advantages={},
        advantage_errors={},
        number_of_edits=12,
        reason="On 12 held-out edits it errs least.",
    )
    MethodChoices.objects.create(
        baseline=world.baseline,
        methods=["replay"],
        number_of_edits=12,
        choices={str(world.behaviour.pk): choice.to_json()},
    )
    page = owner.get(reverse("behaviour", args=[world.behaviour.pk])).content.decode()
    assert "Predicted by Replay, edit-aware. On 12 held-out edits it errs least." in page
    places = [
        page.index(f'<th scope="row">{title}')
        for title in ("Replay, edit-aware", "Replay<", "No change", "Control: random")
    ]
    assert places == sorted(places)
