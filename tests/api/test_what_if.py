"""Predictions of edits that are not saved: few queries, and never an old answer."""

import pytest
from django.utils import timezone

from curation.models import Behaviour
from curation.services import behaviours
from tests.api.world import add_scores
from tests.web.test_combinations import WEIGHTS, combine

pytestmark = pytest.mark.django_db
BODY = {"edits": [{"example_id": "e1", "weight": 0}, {"train_index": 3, "weight": 3}]}


@pytest.fixture
def ask(api, world):
    def asked(body=BODY):
        answer = api.post(f"/baselines/{world.baseline.pk}/what-if", body)
        assert answer.status_code == 200, answer.data
        return {effect["behaviour"]: effect for effect in answer.data}

    return asked


def test_a_process_that_has_answered_before_asks_the_database_four_times(
    ask, django_assert_max_num_queries
):
    ask()
    with django_assert_max_num_queries(4):  # token, baseline, which scores, which calibration
        ask()


def test_what_changes_shows_at_once(ask, world):
    assert list(ask()) == ["margin"]
    second = behaviours.add_behaviour(
        baseline=world.baseline, name="loss", kind="mean_loss",
        definition={"selection": "class", "label": "up"}, by=world.owner,
    )  # fmt: skip
    Behaviour.objects.filter(pk=second.pk).update(values={"0": 0.1, "1": 0.2, "2": 0.3})
    add_scores(world.baseline, second)
    assert list(ask()) == ["margin", "loss"]
    assert ask()["margin"]["seed_noise"] is not None
    Behaviour.objects.filter(name="margin").update(name="the margin", values={})
    assert list(ask()) == ["the margin", "loss"]
    assert ask()["the margin"]["seed_noise"] is None
    Behaviour.objects.filter(name="the margin").update(archived_at=timezone.now())
    assert list(ask()) == ["loss"]


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        ({"example_id": "e1", "weight": 0, "wieght": 1}, "body.edits.0.wieght"),
        ({"example_id": "e1", "weight": -1}, "body.edits.0.weight"),
        ({"example_id": "", "weight": 0}, "body.edits.0.example_id"),
        ({"train_index": -1, "weight": 0}, "body.edits.0.train_index"),
    ],
)
def test_a_wrong_edit_is_named(api, world, edit, field):
    answer = api.post(f"/baselines/{world.baseline.pk}/what-if", {"edits": [edit]})
    assert answer.status_code == 422
    assert field in {error["field"] for error in answer.data["errors"]}


def test_a_combination_answers_with_its_weights_unless_a_method_is_named(
    ask, world, django_assert_max_num_queries
):
    combine(world)
    ask()
    with django_assert_max_num_queries(5):  # one more, for the other method's scores
        found = ask()["margin"]
    assert (found["method"], found["combined"]) == ("combination", WEIGHTS)
    found = ask({**BODY, "method": "replay"})["margin"]
    assert (found["method"], found["combined"]) == ("replay", {})
