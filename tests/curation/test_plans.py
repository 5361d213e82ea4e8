"""What a test needs: seeds and time from the measured noise, or that it is not worth it."""

import math

import pytest
from django.test import Client

from curation.models import Membership, Role
from curation.queries.plans import paired_seed_noise, plans_of, seconds_per_retrain
from curation.services import registrations


def plan_of(prediction, **options):
    return plans_of(prediction.behaviour.baseline, [prediction], **options).get(
        prediction.behaviour_id
    )


@pytest.fixture
def prediction(small_sample):
    proposal = small_sample.proposals.order_by("created_at").first()
    return registrations.current_predictions(proposal)[0]


def test_a_plan_costs_three_retrains_a_seed_of_the_baselines_own_time(prediction):
    plan = plan_of(prediction, largest_number_of_seeds=10_000)
    assert plan.predicted_effect == prediction.value
    assert plan.seed_noise == paired_seed_noise(prediction)
    assert plan.seconds_needed == pytest.approx(
        3 * plan.seeds_needed * seconds_per_retrain(prediction.behaviour.baseline)
    )


def test_not_worth_testing_is_an_answer_with_its_reasons(prediction):
    plan = plan_of(
        prediction,
        largest_number_of_seeds=64,
        smallest_effect_of_interest=10 * abs(prediction.value),
    )
    assert plan.decision == "not worth testing"
    assert "below the smallest effect of interest" in plan.reasons[0]


def test_without_a_bank_the_noise_is_that_of_the_baselines_seeds(prediction):
    measured = paired_seed_noise(prediction)
    prediction.details = {}
    assert paired_seed_noise(prediction) > measured > 0
    prediction.behaviour.values = {"1": 0.5}
    assert paired_seed_noise(prediction) is None
    assert plan_of(prediction, largest_number_of_seeds=64) is None
    assert math.isfinite(measured)


def test_the_registration_page_says_what_each_test_needs(small_sample, owner, settings):
    settings.STORAGES = settings.STORAGES | {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    }
    Membership.objects.create(project=small_sample, user=owner, role=Role.EDITOR)
    browser = Client()
    browser.force_login(owner)
    proposal = small_sample.proposals.order_by("created_at").first()
    page = browser.get(f"/proposals/{proposal.pk}/register/").content.decode()
    assert "To see the predicted change" in page
    assert "seeds, about" in page or "Not worth testing" in page
