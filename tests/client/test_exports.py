"""What the client brings back is used as other tools use it: a sampler draws by its weights."""

import csv
import os
import subprocess
import sys
from collections import Counter

import pandas
import pyarrow.parquet as pq
import pytest
from django.contrib.auth import get_user_model

from curation.models import Scope
from curation.services import proposals, tokens
from hunch_client import Hunch
from tests.api.conftest import PEOPLE
from tests.api.world import PROBE, TRAIN, make_world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(db):
    users = get_user_model()
    return make_world({name: users.objects.create(username=name) for name in PEOPLE})


@pytest.fixture
def exported(world, live_server, tmp_path):
    """Examples 0 and 3 removed, example 7 tripled, and the files of all four exports."""
    proposals.set_weights(proposal=world.proposal, examples=[(7, "e7")], weight=3, by=world.owner)
    _, text = tokens.create_token(user=world.owner, name="t", scopes=[Scope.READ])
    with Hunch(live_server.url, text) as hunch:
        found = hunch.proposal(hunch.project("World"), "drop two")
        hunch.export(found, tmp_path / "weighted.parquet")
        hunch.export(found, tmp_path / "edits.csv", what="edits", file_format="csv")
        hunch.export(found, tmp_path / "issues.csv", what="issues", file_format="csv")
        hunch.export(found, tmp_path / "sampler.py", what="sampler")
    return tmp_path


def test_the_filtered_dataset_has_a_weights_column(exported):
    frame = pandas.read_parquet(exported / "weighted.parquet")
    assert len(frame) == TRAIN + PROBE - 2
    weights = frame.set_index("example_id")["weight"]
    assert weights["e7"] == 3
    assert set(weights.drop("e7")) == {1.0}


def test_the_issue_table_is_one_row_a_training_example(exported):
    frame = pandas.read_csv(exported / "issues.csv")
    assert len(frame) == TRAIN
    assert list(frame[frame["is_influence_issue"]]["example_id"]) == ["e0", "e3"]
    assert set(frame["given_label"]) == {"down", "up"}
    rows = list(csv.DictReader((exported / "edits.csv").open()))
    assert {row["example_id"]: float(row["weight"]) for row in rows} == {"e0": 0, "e3": 0, "e7": 3}


def test_the_sampler_draws_in_proportion_to_the_weights(exported):
    """The snippet as it stands, run by torch beside the exported dataset."""
    script = (exported / "sampler.py").read_text() + (
        "\ntorch.manual_seed(0)\n"
        "drawn = [i for _ in range(400) for i in sampler]\n"
        "loader = DataLoader(list(range(len(weights))), batch_size=16, sampler=sampler)\n"
        "assert sum(len(batch) for batch in loader) == len(weights)\n"
        "print(*drawn)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=exported, capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    table = pq.read_table(exported / "weighted.parquet", filters=[("split", "==", "train")])
    ids = table["example_id"].to_pylist()
    drawn = Counter(ids[int(number)] for number in done.stdout.split())
    others = [drawn[one] for one in ids if one != "e7"]
    assert len(ids) == TRAIN - 2
    assert min(others) > 0
    assert drawn["e7"] / (sum(others) / len(others)) == pytest.approx(3, rel=0.15)
