"""Probe examples are saved under a name, shown again, read by behaviours, and deleted."""

import pytest

from curation.models import Behaviour, ProbeSet
from curation.services import probe_sets
from tests.api.world import PROBE, TRAIN

pytestmark = pytest.mark.django_db


@pytest.fixture
def save(owner, world):
    world.version.probe_sets.all().delete()

    def post(**values):
        address = f"/versions/{world.version.pk}/probe-sets/save/"
        return owner.post(address, {"scope": "ticked", "name": "hard", **values}, follow=True)

    return post


def test_ticked_probe_examples_become_a_set_and_train_ones_are_passed_over(save, owner, world):
    page = save(example=["e3", f"e{TRAIN + 5}", f"e{TRAIN + 2}"])
    saved = ProbeSet.objects.get()
    assert (saved.name, saved.probe_indices, saved.chosen) == ("hard", [2, 5], "ticked one by one")
    assert [row["probe_index"] for row in page.context["rows"]] == [2, 5]
    assert "probe set hard" in page.content.decode()
    assert "hard" in owner.get(f"/versions/{world.version.pk}/").content.decode()


def test_all_matching_means_the_filter_and_stays_frozen(save):
    save(scope="all", label="up", attribute_source="s1", q="number")
    saved = ProbeSet.objects.get()
    rows = [k for k in range(PROBE) if (TRAIN + k) % 2 == 1 and (TRAIN + k) % 3 == 1]
    assert saved.probe_indices == rows
    assert saved.chosen == "holds “number”, label up, source: s1"


def test_a_set_narrows_the_list_and_a_further_set(save, owner, world):
    save(example=[f"e{TRAIN + 1}", f"e{TRAIN + 2}", f"e{TRAIN + 3}"])
    first = ProbeSet.objects.get()
    save(scope="all", probe_set=str(first.pk), label="up", name="harder")
    assert ProbeSet.objects.get(name="harder").probe_indices == [1, 3]


def test_a_behaviour_reads_the_set_and_keeps_it_when_it_is_deleted(save, owner, world):
    save(example=[f"e{TRAIN + 5}", f"e{TRAIN + 2}"])
    saved = ProbeSet.objects.get()
    address = f"/baselines/{world.baseline.pk}/behaviours/new/"
    values = {"selection": "probe_set", "probe_set": str(saved.pk), "kind": "mean_loss"}
    assert owner.post(address, {**values, "name": "on hard ones"}).status_code == 302
    behaviour = Behaviour.objects.get(name="on hard ones")
    assert behaviour.probe_indices == [2, 5]
    page = owner.post(f"/probe-sets/{saved.pk}/delete/", follow=True).content.decode()
    assert "was deleted" in page
    assert not ProbeSet.objects.exists()
    behaviour.refresh_from_db()
    assert behaviour.probe_indices == [2, 5]
    shown = owner.get(f"/behaviours/{behaviour.pk}/").content.decode()
    assert "the probe set “hard”" in shown


@pytest.mark.parametrize("key", ["", "no id", "00000000-0000-0000-0000-000000000000"])
def test_a_behaviour_of_no_known_set_is_refused(owner, world, save, key):
    save(example=[f"e{TRAIN}"])
    address = f"/baselines/{world.baseline.pk}/behaviours/new/"
    values = {"selection": "probe_set", "probe_set": key, "kind": "mean_loss", "name": "x"}
    assert owner.post(address, values).status_code == 422
    assert not Behaviour.objects.filter(name="x").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "None of these examples is in the probe split."),
        ({"example": "e3"}, "None of these examples is in the probe split."),
        ({"example": f"e{TRAIN}", "name": "  "}, "Give the probe set a name."),
        ({"example": f"e{TRAIN}", "name": "x" * 121}, "at most 120 characters"),
        ({"scope": "all", "q": "found nowhere"}, "None of these examples is in the probe split."),
        ({"scope": "all", "loss_from": "1"}, "no column or value"),
        ({"scope": "all", "attribute_none": "1"}, "no column or value"),
    ],
)
def test_what_cannot_be_saved_is_refused_in_words(save, values, message):
    assert message in save(**values).content.decode()
    assert not ProbeSet.objects.exists()


def test_a_name_is_taken_once_and_sets_are_bounded(save, monkeypatch):
    save(example=[f"e{TRAIN}"])
    assert "already" in save(example=[f"e{TRAIN + 1}"]).content.decode()
    monkeypatch.setattr(probe_sets, "MAX_PROBE_SETS", 1)
    assert "at most 1" in save(example=[f"e{TRAIN + 1}"], name="other").content.decode()
    monkeypatch.setattr(probe_sets, "MAX_PROBE_SETS", 2)
    monkeypatch.setattr(probe_sets, "MAX_PROBE_EXAMPLES", 3)
    assert "the limit is 3" in save(scope="all", name="other").content.decode()
    assert ProbeSet.objects.count() == 1


def test_a_set_of_another_version_is_not_found(save, owner, world):
    here = f"/versions/{world.version.pk}/examples/"
    for key in ("no id", "00000000-0000-0000-0000-000000000000"):
        assert owner.get(here, {"probe_set": key}).status_code == 404


def test_a_shown_set_leads_to_a_behaviour_that_reads_it(save, owner, world):
    page = save(example=[f"e{TRAIN + 5}"]).content.decode()
    saved = ProbeSet.objects.get()
    link = f"/behaviours/new/?selection=probe_set&amp;probe_set={saved.pk}"
    assert link in page
    form = owner.get(
        f"/baselines/{world.baseline.pk}/behaviours/new/?selection=probe_set&probe_set={saved.pk}"
    ).context["form"]
    assert (form["selection"].value(), form["probe_set"].value()) == ("probe_set", str(saved.pk))
    narrowed = owner.get(
        f"/versions/{world.version.pk}/examples/?probe_set={saved.pk}&label=up"
    ).content.decode()
    assert "behaviours/new/" not in narrowed
