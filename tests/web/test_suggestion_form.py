"""The form for suggested edits offers the methods that have scores, first the one that held-out
evidence trusts."""

from dataclasses import replace

import pytest

from curation.models import Behaviour, Influence, MethodChoices, Suggestion
from curation.services import behaviours
from tests.api.world import World, add_scores
from workers.evidence.selection import MethodChoice

pytestmark = pytest.mark.django_db
CHOICE = MethodChoice(
    behaviour="margin", method="ekfac", weights={"replay": 0.2, "ekfac": 0.8}, errors={},
    advantages={}, advantage_errors={}, number_of_edits=24, reason="EK-FAC is clearly better here.",
)  # fmt: skip


@pytest.fixture
def second(world: World) -> Influence:
    """The same scores under another method's name."""
    copy = Influence.objects.get(pk=world.influence.pk)
    copy.pk, copy.method, copy._state.adding = None, "ekfac", True
    copy.id = copy._meta.get_field("id").get_default()
    copy.save()
    return copy


def choose(world: World, choice: MethodChoice) -> None:
    MethodChoices.objects.create(
        baseline=world.baseline,
        methods=["replay", "ekfac"],
        choices={str(world.behaviour.pk): choice.to_json()},
        number_of_edits=24,
    )


def test_without_evidence_replay_comes_first_and_the_form_says_so(owner, world, second):
    page = owner.get(f"/behaviours/{world.behaviour.pk}/suggest/")
    method = page.context["form"]["method"]
    assert [name for name, _ in method.field.choices] == ["replay", "ekfac"]
    assert method.value() == "replay"
    assert "No retrain of the bank" in page.content.decode()


@pytest.mark.parametrize("weight", [{"ekfac": 0.8}, {"replay, edit-aware": 0.9, "ekfac": 0.8}])
def test_the_most_trusted_method_is_the_default_with_its_reason(owner, world, second, weight):
    choose(world, replace(CHOICE, weights=weight))
    page = owner.get(f"/behaviours/{world.behaviour.pk}/suggest/")
    most = max(weight, key=weight.__getitem__).removesuffix(", edit-aware")
    assert page.context["form"]["method"].value() == most
    assert CHOICE.reason in page.content.decode()


def test_the_chosen_method_makes_the_suggestion_and_stands_on_its_page(owner, world, second):
    choose(world, CHOICE)
    address = f"/behaviours/{world.behaviour.pk}/suggest/"
    values = {"number_of_edits": 5, "new_weight": 0}
    for method, expected in (("replay", "replay"), ("", "ekfac")):
        answer = owner.post(address, {**values, "method": method}, follow=True)
        assert Suggestion.objects.latest("created_at").method == expected
    assert "by EK-FAC" in answer.content.decode()


@pytest.mark.parametrize("method", ["curvature", "unheard of", "control_random"])
def test_a_method_without_scores_is_refused_at_its_field(owner, world, method):
    values = {"number_of_edits": 5, "new_weight": 0, "method": method}
    before = Suggestion.objects.count()
    page = owner.post(f"/behaviours/{world.behaviour.pk}/suggest/", values)
    assert page.status_code == 422
    assert "method" in page.context["form"].errors
    assert Suggestion.objects.count() == before


@pytest.fixture
def guard(world: World) -> Behaviour:
    """Another behaviour with scores."""
    other = behaviours.add_behaviour(
        baseline=world.baseline, name="loss", kind="mean_loss",
        definition={"selection": "all"}, by=world.owner,
    )  # fmt: skip
    Behaviour.objects.filter(pk=other.pk).update(values={"0": 0.5, "1": 0.6, "2": 0.4})
    add_scores(world.baseline, other)
    return other


def test_the_form_asks_how_much_harm_to_a_guard_is_tolerated_in_its_unit(owner, world, guard):
    address = f"/behaviours/{world.behaviour.pk}/suggest/"
    page = owner.get(address).content.decode()
    assert "Harm tolerated to loss" in page
    assert f"In {guard.unit}; empty or 0 tolerates none." in page
    values = {"number_of_edits": 5, "new_weight": 0, "guards": [str(guard.pk)]}
    for given, expected in (("", 0.0), ("0", 0.0), ("0.25", 0.25)):
        answer = owner.post(address, {**values, f"tolerance_{guard.pk}": given}, follow=True)
        assert Suggestion.objects.latest("created_at").guards == {str(guard.pk): expected}
    assert f"without more than 0.250 {guard.unit} of harm to loss" in answer.content.decode()


@pytest.mark.parametrize(
    ("chosen", "given", "words"),
    [(True, "-1", "greater than or equal to 0"), (True, "nan", "number"), (False, "0.5", "above")],
)
def test_a_tolerance_that_cannot_be_meant_is_refused_at_its_field(
    owner, world, guard, chosen, given, words
):
    name = f"tolerance_{guard.pk}"
    values = {"number_of_edits": 5, "new_weight": 0, name: given}
    if chosen:
        values["guards"] = [str(guard.pk)]
    before = Suggestion.objects.count()
    page = owner.post(f"/behaviours/{world.behaviour.pk}/suggest/", values)
    assert page.status_code == 422
    assert words in str(page.context["form"].errors[name])
    assert Suggestion.objects.count() == before


def test_a_stranger_finds_no_form(browser_of, world):
    address = f"/behaviours/{world.behaviour.pk}/suggest/"
    assert browser_of("stranger").get(address).status_code == 404
