"""The whole job by the command line, from sign-in to verdict, on a live site with real training."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hunch_client.command_line import app
from hunch_client.proposal_commands import EXIT_CODES

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(live_server, token, tmp_path, monkeypatch, jobs_run_at_once):
    monkeypatch.setenv("HUNCH_CONFIG", str(tmp_path / "hunch.json"))
    monkeypatch.setenv("HUNCH_PROJECT", "nightly")
    runner = CliRunner()

    def call(*words, code=0, text=None):
        result = runner.invoke(app, [str(word) for word in words], input=text)
        assert result.exit_code == code, (result.output, result.stderr, result.exception)
        return json.loads(result.stdout) if "--json" in words else result.stdout

    call("login", live_server.url, text=f"{token}\n")
    call("project", "create", "nightly")
    return call


def test_from_dataset_to_verdict(run, sentences, tmp_path):
    version = run("dataset", "push", sentences, "--name", "sentences", "--json")
    assert (version["state"], version["train_count"], version["probe_count"]) == ("ready", 120, 60)
    run("model", "push", "bag", "--built-in", "bag_of_embeddings")
    run("recipe", "create", "short", "--set", "epochs=3", "--set", "learning_rate=0.05")
    options = ["--dataset", "sentences", "--model", "bag", "--recipe", "short", "--seeds", "2"]
    assert run("baseline", "train", "first", *options, "--json")["state"] == "ready"
    run("behaviour", "add", "margin", "--baseline", "first", "--compute")
    harmful = ["--remove-most-harmful", "5", "--behaviour", "margin"]
    run("propose", "cleaner", "--baseline", "first", "--hypothesis", "Wrong labels hurt.", *harmful)
    (effect,) = run("predict", "cleaner", "--json")
    assert effect["value"] > 0
    assert effect["low"] <= effect["value"] <= effect["high"]
    registered = run("register", "cleaner", "--primary", "margin", "--seeds", "2", "--json")
    run("verdict", registered["id"], code=EXIT_CODES["not_finished"])
    assert run("retrain", registered["id"], "--wait", "--json")["state"] == "complete"
    shown = run("verdict", registered["id"], "--json", code=verdict_code(run, registered["id"]))
    assert shown[0]["is_primary"]
    assert shown[0]["actual"] is not None

    edits = tmp_path / "edits.csv"
    run("export", "cleaner", "--what", "edits", "--format", "csv", "--output", edits)
    removed = {row["example_id"] for row in csv.DictReader(edits.open())}
    assert len(removed) == 5
    dataset = tmp_path / "weighted.parquet"
    run("export", "cleaner", "--output", dataset)
    assert not removed & set(pq.read_table(dataset).column("example_id").to_pylist())
    run("propose", "again", "--baseline", "first", "--edits", edits)


def verdict_code(run, registration):
    """The code that the outcome has, read from the client rather than from the command."""
    from curation.models import Verdict

    return EXIT_CODES[Verdict.objects.get(registration=registration).outcome]
