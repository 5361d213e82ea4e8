"""The list of examples sorts and filters by loss, confidence and self-influence, says why where it
cannot, and offers to measure what is missing."""

import re

import numpy as np
import pytest

from curation.models import Edit, ExampleValues, Job, JobKind
from tests.api.world import PROBE, TRAIN, World, stored_array

pytestmark = pytest.mark.django_db
ROWS = TRAIN + PROBE
LOSS = np.random.default_rng(0).permutation(ROWS).astype(np.float32) / 10
SELF = np.where(np.arange(ROWS) < TRAIN, LOSS[::-1], np.nan)


def measure(world: World, *, confidence: bool = True, own: bool = True) -> ExampleValues:
    return ExampleValues.objects.create(
        baseline=world.baseline,
        loss_file=stored_array(LOSS),
        confidence_file=stored_array(np.exp(-LOSS)) if confidence else None,
        self_influence_file=stored_array(SELF) if own else None,
        seeds=world.baseline.seeds,
    )


def ids(answer) -> list[str]:
    return [row["example_id"] for row in answer.context["rows"]]


@pytest.mark.parametrize(
    ("sort", "values"), [("loss", LOSS), ("confidence", np.exp(-LOSS)), ("self_influence", SELF)]
)
@pytest.mark.parametrize("order", ["up", "down"])
def test_it_sorts_by_a_value_with_missing_ones_last(owner, world, sort, values, order):
    measure(world)
    here = f"/versions/{world.version.pk}/examples/?sort={sort}&order={order}"
    found = ids(owner.get(here)) + ids(owner.get(here + "&page=2"))
    sign = -1 if order == "down" else 1
    expected = sorted(range(ROWS), key=lambda row: (np.isnan(values[row]), sign * values[row], row))
    present = [f"e{row}" for row in expected if np.isfinite(values[row])]
    assert found[: len(present)] == present
    assert len(found) == ROWS


def test_the_sorted_value_stands_in_a_column_with_its_unit(owner, world):
    measure(world)
    page = owner.get(f"/versions/{world.version.pk}/examples/?sort=confidence").content.decode()
    assert re.search(r'data-name="Confidence">[\d.]+%<', page)


def test_bounds_filter_edits_and_probe_sets_alike(owner, world):
    measure(world)
    bounds = {"loss_from": "2", "loss_to": "5", "split": "train"}
    here = f"/versions/{world.version.pk}/examples/"
    wanted = [row for row in range(TRAIN) if np.float32(2) <= LOSS[row] <= np.float32(5)]
    page = owner.get(here, bounds)
    assert page.context["total"] == len(wanted)
    assert "loss ≥ 2" in page.content.decode() and "loss ≤ 5" in page.content.decode()
    carried = dict(page.context["carried"])
    owner.post(
        f"{here}edit/",
        {**carried, "proposal": world.proposal.pk, "scope": "all", "action": "weight", "weight": 5},
    )
    edits = Edit.objects.filter(proposal=world.proposal, weight=5)
    assert sorted(edits.values_list("train_index", flat=True)) == wanted
    owner.post(
        f"/versions/{world.version.pk}/probe-sets/save/",
        {"loss_from": "2", "scope": "all", "name": "hard"},
    )
    saved = world.version.probe_sets.get(name="hard")
    assert saved.probe_indices == [k for k in range(PROBE) if LOSS[TRAIN + k] >= np.float32(2)]
    assert saved.chosen == "loss ≥ 2"


@pytest.mark.parametrize("bad", ["abc", "nan", "inf", "1e999", ""])
def test_a_bound_that_is_no_number_bounds_nothing(owner, world, bad):
    measure(world)
    page = owner.get(f"/versions/{world.version.pk}/examples/", {"loss_from": bad})
    assert page.context["total"] == ROWS


def test_a_bound_on_what_was_never_measured_is_not_found(owner, world):
    page = owner.get(f"/versions/{world.version.pk}/examples/?loss_from=1")
    assert page.status_code == 404


def test_what_is_missing_is_named_and_measured_by_a_button(owner, world):
    measure(world, own=False)
    here = f"/versions/{world.version.pk}/examples/?sort=self_influence"
    page = owner.get(here)
    assert page.context["sort"] == "position"
    text = page.content.decode()
    assert "Self-influence has not been measured yet." in text
    assert f"/baselines/{world.baseline.pk}/measure/" in text
    answer = owner.post(f"/baselines/{world.baseline.pk}/measure/", {"next": here})
    assert answer.url == here
    job = Job.objects.get(kind=JobKind.MEASURE_EXAMPLES)
    assert job.target_id == world.baseline.pk
    running = owner.get(here).content.decode()
    assert "are being measured" in running
    assert f"/jobs/{job.pk}/progress/" in running
    again = owner.post(f"/baselines/{world.baseline.pk}/measure/", follow=True)
    assert "measured or being measured" in again.content.decode()


def test_a_baseline_that_measured_nothing_offers_all_three(owner, world):
    page = owner.get(f"/versions/{world.version.pk}/examples/").content.decode()
    assert "Measure loss, confidence and self-influence" in page


def test_a_regression_says_why_it_has_no_confidence(owner, world):
    measure(world, confidence=False)
    page = owner.get(f"/versions/{world.version.pk}/examples/?sort=confidence").content.decode()
    assert "A regression gives no probability" in page


def test_a_viewer_sees_the_values_and_no_button(browser_of, world):
    measure(world, own=False)
    page = browser_of("viewer").get(f"/versions/{world.version.pk}/examples/?sort=loss")
    assert page.context["sort"] == "loss"
    assert "/measure/" not in page.content.decode()


@pytest.mark.parametrize(("row", "split"), [(7, "train"), (TRAIN + 4, "probe")])
def test_the_panel_tells_where_an_example_stands_in_its_split(owner, world, row, split):
    measure(world)
    page = owner.get(f"/versions/{world.version.pk}/examples/one/?id=e{row}")
    found = {one["name"]: one for one in page.context["standings"]}
    others = LOSS[:TRAIN] if split == "train" else LOSS[TRAIN:]
    assert found["loss"]["value"] == pytest.approx(LOSS[row])
    assert found["loss"]["rank"] == 1 + (others > LOSS[row]).sum()
    assert ("self_influence" in found) == (split == "train")


def test_the_list_stays_within_its_budget_of_queries(owner, world, django_assert_max_num_queries):
    measure(world)
    with django_assert_max_num_queries(25):
        owner.get(
            f"/versions/{world.version.pk}/examples/?sort=loss&behaviour={world.behaviour.pk}"
        )
