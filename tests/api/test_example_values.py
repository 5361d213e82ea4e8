"""Programs sort and filter examples by what a baseline measured, save probe sets and start
measuring, as people do."""

import json

import numpy as np
import pytest

from curation.models import Baseline, Behaviour, ExampleValues, JobKind
from tests.api.world import PROBE, TRAIN, stored_array

pytestmark = pytest.mark.django_db
LOSS = np.random.default_rng(0).permutation(TRAIN + PROBE).astype(np.float32)


@pytest.fixture
def measured(world):
    own = np.where(np.arange(len(LOSS)) < TRAIN, LOSS, np.nan)
    return ExampleValues.objects.create(
        baseline=world.baseline,
        loss_file=stored_array(LOSS),
        confidence_file=stored_array(np.exp(-LOSS)),
        self_influence_file=stored_array(own),
    )


def test_examples_are_sorted_and_bounded_by_values_that_are_given_too(api, world, measured):
    path = f"/versions/{world.version.pk}/examples?sort=loss&descending=true&loss_to=70"
    found = api.get(path + "&limit=5").data
    assert [row["loss"] for row in found["items"]] == [70, 69, 68, 67, 66]
    rest = api.get(f"{path}&limit=100&cursor={found['next']}").data["items"]
    assert [row["loss"] for row in rest] == [*range(65, -1, -1)]
    for row in found["items"]:
        place = int(row["example_id"][1:])
        assert row["confidence"] == pytest.approx(float(np.exp(-LOSS[place])))
        assert row["self_influence"] == (LOSS[place] if place < TRAIN else None)


def test_scored_examples_carry_the_values_of_their_own_baseline(api, world, measured):
    newer = Baseline.objects.get(pk=world.baseline.pk)
    newer.pk, newer.name, newer._state.adding = None, "newer", True
    newer.id = newer._meta.get_field("id").get_default()
    newer.save()
    ExampleValues.objects.create(baseline=newer, loss_file=stored_array(LOSS + 100))
    row = api.get(f"/influences/{world.influence.pk}/examples?limit=1").data["items"][0]
    assert row["loss"] == LOSS[0]
    here = f"/versions/{world.version.pk}/examples?limit=1"
    assert api.get(here).data["items"][0]["loss"] == LOSS[0] + 100
    older = api.get(f"{here}&baseline={world.baseline.pk}").data["items"][0]
    assert older["loss"] == LOSS[0]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("sort=loss", 409),
        ("self_influence_from=1", 409),
        ("loss_from=nan", 422),
        ("loss_from=x", 422),
        ("sort=unheard", 422),
        ("baseline=00000000-0000-0000-0000-000000000000", 404),
    ],
)
def test_what_is_not_measured_or_not_known_is_refused(api, world, query, status):
    answer = api.get(f"/versions/{world.version.pk}/examples?{query}")
    assert answer.status_code == status, answer.data


def test_probe_sets_are_saved_listed_read_and_deleted(api, world, measured):
    here = f"/versions/{world.version.pk}/probe-sets"
    named = api.post(here, {"name": "two", "example_ids": ["e3", f"e{TRAIN}", f"e{TRAIN + 4}"]})
    assert (named.status_code, named.data["size"]) == (201, 2)
    matching = api.post(f"{here}?label=up&loss_from=20", {"name": "hard and up"})
    rows = [k for k in range(PROBE) if (TRAIN + k) % 2 and LOSS[TRAIN + k] >= 20]
    assert matching.data["size"] == len(rows)
    listed = [one["name"] for one in api.get(here).data["items"]]
    assert {"two", "hard and up"} <= set(listed)
    definition = {"selection": "probe_set", "probe_set": matching.data["id"]}
    made = api.post(
        f"/baselines/{world.baseline.pk}/behaviours",
        {"name": "on them", "kind": "mean_loss", "definition": definition},
    )
    assert made.status_code == 201, made.data
    assert Behaviour.objects.get(pk=made.data["id"]).probe_indices == rows
    gone = api.send("DELETE", f"/probe-sets/{matching.data['id']}")
    assert gone.status_code == 204
    assert "hard and up" not in [one["name"] for one in api.get(here).data["items"]]


def test_a_probe_set_of_nothing_or_with_a_taken_name_is_refused(api, world):
    here = f"/versions/{world.version.pk}/probe-sets"
    assert api.post(here, {"name": "x", "example_ids": ["e3"]}).status_code == 422
    assert api.post(here, {"name": "all"}).status_code == 422
    assert api.post(f"{here}?loss_from=1", {"name": "x"}).status_code == 409


def test_measuring_starts_a_job_once(api, world):
    here = f"/baselines/{world.baseline.pk}/example-values"
    started = api.post(here, {})
    assert started.status_code == 202
    assert world.project.jobs.get(pk=started.data["job"]).kind == JobKind.MEASURE_EXAMPLES
    assert api.post(here, {}).status_code == 422


def test_the_table_of_issues_carries_the_values(api, world, measured):
    answer = api.get(f"/proposals/{world.proposal.pk}/export/issues?format=jsonl")
    rows = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
    assert [row["loss"] for row in rows] == LOSS[:TRAIN].tolist()
    assert [row["self_influence"] for row in rows] == LOSS[:TRAIN].tolist()
    assert rows[3]["confidence"] == pytest.approx(float(np.exp(-LOSS[3])))
