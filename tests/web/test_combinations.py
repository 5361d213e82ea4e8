"""Where held-out evidence chose a combination of methods, every prediction of a proposal is that
combination's, with its weights: on the page, by the API, in the plan of a test."""

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from curation.models import (
    Calibration,
    Estimate,
    Influence,
    MethodChoices,
    Prediction,
    Verdict,
)
from curation.queries.combinations import chosen_effects
from curation.queries.predictions import (
    RawPrediction,
    edits_of,
    first_order,
    interval_for_test,
    latest_calibration,
    predict_first_order,
)
from curation.queries.track_record import _scales
from curation.services import predictions, proposals, registrations
from tests.api.world import known_scores, stored_array
from workers.evidence.bank_evidence import empty_bank
from workers.evidence.calibration import Calibration as Calibrated
from workers.evidence.calibration import EditPart
from workers.evidence.combination import Combination
from workers.evidence.conformal import calibrate
from workers.evidence.selection import COMBINATION, MethodChoice
from workers.tasks.calibrations import fit_calibration
from workers.tasks.edit_aware import effects_of

pytestmark = pytest.mark.django_db
WEIGHTS = {"replay": 0.75, "curvature": 0.5}


def combine(world, weights=None, estimate=Estimate.FIRST_ORDER):
    """Save what the worker saves once the evidence chose these weights."""
    weights = weights or WEIGHTS
    if not Influence.objects.filter(method="curvature").exists():
        aggregate, per_seed = known_scores()
        Influence.objects.create(
            baseline=world.baseline, behaviour=world.behaviour, method="curvature",
            scores_file=stored_array(aggregate**2), per_seed_file=stored_array(per_seed**2),
            seeds=[0, 1, 2], diagnostics={"random_edit_scale": 3.0},
        )  # fmt: skip
        fit_calibration(world.baseline, "curvature")
    keys = {
        name: latest_calibration(
            world.baseline, name.split(",")[0],
            Estimate.EDIT_AWARE if "edit-aware" in name else Estimate.FIRST_ORDER,
        )
        for name in weights
    }  # fmt: skip
    names = (str(world.behaviour.pk),)
    fitted = replace(
        calibrate(empty_bank(names, np.array([2.0]), np.array([1.0]), np.array([0.1]))),
        combination=Combination(
            tuple(weights),
            tuple(map(str, keys.values())),
            np.array([[w] for w in weights.values()]),
        ),
    )
    choice = MethodChoice(
        behaviour=names[0], method=COMBINATION, weights=weights, errors={}, advantages={},
        advantage_errors={}, number_of_edits=30, reason="Together they miss least.",
    )  # fmt: skip
    MethodChoices.objects.create(
        baseline=world.baseline, methods=list(weights), number_of_edits=30,
        choices={names[0]: choice.to_json()},
    )  # fmt: skip
    return Calibration.objects.create(
        baseline=world.baseline, method=COMBINATION, estimate=estimate,
        parameters=fitted.to_json(), number_of_edits=30,
    )  # fmt: skip


def asked(proposal):
    indices, weights = edits_of(proposal)
    return {"baseline": proposal.baseline, "train_indices": indices, "weights": weights}


def test_the_prediction_is_the_weighted_sum_of_the_calibrated_ones(world):
    row = combine(world)
    (effect,) = chosen_effects(**asked(world.proposal))
    singles = {
        name: predict_first_order(**asked(world.proposal), method=name)[0] for name in WEIGHTS
    }
    raw = sum(weight * singles[name].value for name, weight in WEIGHTS.items())
    assert effect.method == COMBINATION
    assert effect.combined == WEIGHTS
    assert effect.uncalibrated == pytest.approx(raw)
    (part,) = effect.parts
    own = Calibrated.from_json(row.parameters).predict([raw], part.kind, part.size)
    assert [effect.value, effect.low, effect.high] == pytest.approx([one[0] for one in own])


def test_edits_of_several_kinds_add_up_by_kind(world):
    combine(world)
    proposals.set_weights(
        proposal=world.proposal, examples=[(5, "e5"), (9, "e9")], weight=3, by=world.owner
    )
    world.proposal.refresh_from_db()
    (effect,) = chosen_effects(**asked(world.proposal))
    singles = [predict_first_order(**asked(world.proposal), method=name)[0] for name in WEIGHTS]
    assert [part.kind for part in effect.parts] == ["removal", "up_weighting"]
    assert effect.uncalibrated == pytest.approx(
        sum(w * one.value for w, one in zip(WEIGHTS.values(), singles, strict=True))
    )


def test_one_other_method_predicts_by_its_own_calibration(world):
    combine(world, {"curvature": 1.0})
    (effect,) = chosen_effects(**asked(world.proposal))
    (alone,) = predict_first_order(**asked(world.proposal), method="curvature")
    assert effect == alone


def test_without_a_combination_and_with_old_calibrations_nothing_changes(world):
    for row in Calibration.objects.all():
        del row.parameters["combination"]
        row.save()
    (plain,) = predict_first_order(**asked(world.proposal))
    assert chosen_effects(**asked(world.proposal)) == [plain]
    assert plain.combined == {}


def test_a_behaviour_that_the_combination_does_not_know_keeps_the_default(world):
    row = combine(world)
    row.parameters["behaviours"] = [str(UUID(int=0))]
    row.pk = None
    row.save(force_insert=True)
    assert [one.method for one in chosen_effects(**asked(world.proposal))] == ["replay"]


def test_the_page_says_so_with_the_weights(world, client):
    combine(world)
    client.force_login(world.owner)
    page = client.get(f"/proposals/{world.proposal.pk}/").content.decode()
    assert "combination of 0.75 × replay + 0.50 × curvature" in page


def test_a_test_is_registered_with_the_combination_and_its_weights(world):
    combine(world)
    world.proposal.refresh_from_db()
    saved = predictions.predict(proposal=world.proposal, by=world.owner)
    assert [one.method for one in saved] == [COMBINATION]
    assert world.proposal.predictions.filter(method="replay").exists()
    low, high = interval_for_test(saved[0], 4)
    assert low < saved[0].low < saved[0].high < high
    registration = registrations.register(
        proposal=world.proposal, primary_behaviour=world.behaviour, number_of_seeds=4,
        smallest_effect=0.0, by=world.owner,
    )  # fmt: skip
    (planned,) = registration.plan["predictions"]
    assert (planned["method"], planned["value"]) == (COMBINATION, saved[0].value)
    assert (planned["low"], planned["high"]) == (low, high)
    for name, weight in WEIGHTS.items():
        scores = Influence.objects.get(method=name).scores_file_id
        assert planned["combined"][name] == {"weight": weight, "scores_sha256": scores}


def test_an_edit_aware_member_speaks_of_the_edit_as_a_whole(world):
    fit_calibration(world.baseline, "replay", Estimate.EDIT_AWARE)
    weights = {"replay, edit-aware": 0.5, "curvature": 0.25}
    combine(world, weights, Estimate.EDIT_AWARE)
    proposals.set_weights(proposal=world.proposal, examples=[(5, "e5")], weight=3, by=world.owner)
    world.proposal.refresh_from_db()
    indices, edited = edits_of(world.proposal)
    plain = first_order(world.baseline, "replay", indices, edited)
    followed = RawPrediction(
        plain.influences, [EditPart("mixed", 0.1, np.array([-0.4]))], plain.per_seed
    )
    alone, together = effects_of(world.baseline, followed, indices, edited)
    (curvature,) = predict_first_order(**asked(world.proposal), method="curvature")
    assert [part.kind for part in together.parts] == ["mixed"]
    assert together.uncalibrated == pytest.approx(0.5 * alone.value + 0.25 * curvature.value)
    predictions.save_effects(
        proposal=world.proposal, effects=[alone, together], estimate=Estimate.EDIT_AWARE
    )
    (current,) = registrations.current_predictions(world.proposal)
    assert (current.method, current.estimate) == (COMBINATION, Estimate.EDIT_AWARE)
    assert Prediction.objects.get(pk=current.pk).details["combined"] == weights


def test_the_track_record_measures_a_combination_in_the_unit_of_the_default_method(world):
    pairs = [
        Verdict(behaviour=world.behaviour, registration=world.registration, method=method)
        for method in ("replay", COMBINATION)
    ]
    own, combined = _scales(pairs, {world.registration.pk: world.registration})
    assert combined == own != 1.0
