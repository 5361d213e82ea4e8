"""The method of each behaviour: chosen by held-out evidence, saved with its reason, used."""

from dataclasses import replace

import numpy as np
import pytest

from curation.models import (
    Baseline,
    Calibration,
    Estimate,
    Influence,
    MethodChoices,
    Prediction,
)
from curation.queries.method_choices import candidate_name, choices_of, preferred
from curation.services import behaviours, registrations
from curation.services.bank import load_edit
from tests.running import run_jobs
from workers.evidence.calibration import Calibration as Calibrated
from workers.evidence.selection import MethodChoice
from workers.influence.curvature import Curvature
from workers.influence.damped_method import STRENGTHS
from workers.influence.edit_aware import EditAware
from workers.tasks import combinations, damping_choice, edit_aware, method_choice
from workers.tasks.recalibration import recalibrate


@pytest.fixture
def baseline(small_sample):
    return Baseline.objects.get(project=small_sample)


def test_every_behaviour_has_a_choice_with_its_reason(baseline):
    choices = choices_of(baseline)
    assert set(choices) == set(baseline.behaviours.values_list("pk", flat=True))
    for choice in choices.values():
        assert "replay" in choice.errors
        assert choice.number_of_edits == baseline.bank_edits.count()
        assert f"On {choice.number_of_edits} held-out edits" in choice.reason


def test_a_second_method_is_compared_once_it_has_scores(baseline, owner, monkeypatch):
    monkeypatch.setattr(combinations, "FEWEST_EDITS", 2)
    behaviours.attribute(baseline=baseline, method="curvature", by=owner)
    run_jobs(baseline.project)
    newest = MethodChoices.objects.filter(baseline=baseline).latest()
    assert newest.methods[0] == "replay"
    assert "curvature" in newest.methods
    saved = Calibration.objects.get(method="combination", estimate=Estimate.FIRST_ORDER)
    combination = Calibrated.from_json(saved.parameters).combination
    assert set(combination.members) == {"replay", "curvature"}
    members = Calibration.objects.in_bulk(combination.calibrations)
    assert {one.method for one in members.values()} == {"replay", "curvature"}
    assert np.all(combination.weights.sum(axis=0) > 0)
    assert combination.weights.shape == (2, baseline.behaviours.count())


def test_an_influence_functions_damping_is_chosen_by_the_banks_edits(baseline, owner, monkeypatch):
    asked = []
    choose_strength = Curvature.choose_strength

    def recorded(method, runs, behaviours, edits, measured):
        asked.append((edits.toarray(), measured))
        return choose_strength(method, runs, behaviours, edits, measured)

    monkeypatch.setattr(Curvature, "choose_strength", recorded)
    monkeypatch.setattr(damping_choice, "FEWEST_EDITS", 3)
    behaviours.attribute(baseline=baseline, method="curvature", by=owner)
    run_jobs(baseline.project)
    (edits, measured), number = asked[0], baseline.bank_edits.count()
    indices, weights = load_edit(baseline.bank_edits.first())
    np.testing.assert_allclose(edits[0, indices], weights - 1)
    assert measured.shape == (number, baseline.behaviours.count())
    for influence in Influence.objects.filter(baseline=baseline, method="curvature"):
        choice = influence.diagnostics["damping_choice"]
        assert choice["strength"] in STRENGTHS
        assert choice["edits"] == number


def test_with_few_known_edits_the_damping_stays_at_its_default(baseline, owner, monkeypatch):
    monkeypatch.setattr(damping_choice, "FEWEST_EDITS", baseline.bank_edits.count() + 1)
    behaviours.attribute(baseline=baseline, method="ekfac", by=owner)
    run_jobs(baseline.project)
    choice = Influence.objects.filter(method="ekfac").first().diagnostics["damping_choice"]
    assert choice["strength"] == 1.0
    assert choice["by"].startswith("default")


def test_a_control_is_shown_beside_and_never_chosen(baseline, monkeypatch):
    """Even a control whose held-out predictions are the measured effects themselves."""
    for influence in Influence.objects.filter(baseline=baseline, method="replay"):
        influence.pk, influence.method = None, "control_perfect"
        influence.save(force_insert=True)
    held_out = method_choice._held_out
    evidence_of = method_choice.method_evidence

    def evidence(baseline, name, *further):
        found = evidence_of(baseline, "replay" if name.startswith("control_") else name, *further)
        return replace(found, predicted=found.retrains.actual) if "perfect" in name else found

    monkeypatch.setattr(method_choice, "method_evidence", evidence)
    monkeypatch.setattr(
        method_choice,
        "_held_out",
        lambda found: (
            found.predicted
            if np.array_equal(found.predicted, found.retrains.actual, equal_nan=True)
            else held_out(found)
        ),
    )
    saved = method_choice.choose_methods_of(baseline, method_choice.evidence_by_candidate(baseline))
    assert "control_perfect" not in saved.methods
    for choice in map(MethodChoice.from_json, saved.choices.values()):
        assert "control" not in choice.method + choice.reason
        assert not any(name.startswith("control_") for name in choice.weights)
        assert choice.errors["control_perfect"] <= min(choice.errors.values())


def test_the_banks_edits_are_followed_once_to_calibrate_and_to_choose(baseline, monkeypatch):
    monkeypatch.setattr(edit_aware, "SMALLEST_AGREEMENT", -1.0)
    followed = []
    predict_fresh = EditAware.predict_fresh

    def counted(estimator, edits):
        followed.append(len(edits))
        return predict_fresh(estimator, edits)

    monkeypatch.setattr(EditAware, "predict_fresh", counted)
    before = Calibration.objects.filter(baseline=baseline).count()
    recalibrate(baseline)
    assert followed == [baseline.bank_edits.count()]
    newest = Calibration.objects.filter(baseline=baseline).order_by("created_at")[before:]
    assert {(one.method, one.estimate) for one in newest} >= {
        ("replay", Estimate.FIRST_ORDER),
        ("replay", Estimate.EDIT_AWARE),
    }
    chosen = MethodChoices.objects.filter(baseline=baseline).latest().methods
    assert chosen[:2] == ["replay", candidate_name("replay", Estimate.EDIT_AWARE)]


def test_controls_alone_choose_nothing(baseline):
    Influence.objects.filter(baseline=baseline).update(method="control_loss")
    found = method_choice.evidence_by_candidate(baseline)
    assert method_choice.choose_methods_of(baseline, found) is None


def choice_of(**weights: float) -> MethodChoice:
    return MethodChoice(
        behaviour="b", method=max(weights, key=weights.__getitem__), weights=weights, errors={},
        advantages={}, advantage_errors={}, number_of_edits=9, reason="",
    )  # fmt: skip


def test_the_chosen_method_predicts_and_edit_aware_goes_first_without_a_choice():
    plain = Prediction(method="replay", estimate=Estimate.FIRST_ORDER)
    aware = Prediction(method="replay", estimate=Estimate.EDIT_AWARE)
    other = Prediction(method="curvature", estimate=Estimate.FIRST_ORDER)
    several = [plain, aware, other]
    assert preferred(several, None) is aware
    assert preferred(several, choice_of(replay=1.0)) is plain
    assert preferred(several, choice_of(replay=0.2, curvature=0.7)) is other
    edit_aware = candidate_name("replay", Estimate.EDIT_AWARE)
    assert preferred(several, choice_of(**{edit_aware: 1.0})) is aware
    assert preferred([plain], choice_of(curvature=1.0)) is plain


def test_a_test_registers_the_predictions_of_the_chosen_methods(baseline):
    proposal = baseline.proposals.order_by("created_at").first()
    choices = choices_of(baseline)
    for prediction in registrations.current_predictions(proposal):
        weights = choices[prediction.behaviour_id].weights
        rivals = proposal.predictions.filter(
            revision=proposal.revision, behaviour=prediction.behaviour
        )
        best = max(weights.get(candidate_name(one.method, one.estimate), 0.0) for one in rivals)
        own = weights.get(candidate_name(prediction.method, prediction.estimate), 0.0)
        assert own == best
