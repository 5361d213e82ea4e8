"""The whole job by the command line, from sign-in to verdict, on a live site with real training."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from django.contrib.auth import get_user_model
from typer.testing import CliRunner

from hunch_client import HunchError
from hunch_client.command_line import app
from hunch_client.proposal_commands import EXIT_CODES
from hunch_client.transport import Transport
from tests.api.conftest import PEOPLE
from tests.api.world import make_world

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


@pytest.fixture
def world(db):
    users = get_user_model()
    return make_world({name: users.objects.create(username=name) for name in PEOPLE})


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

    checked = run("track-record", "--baseline", "first", "--json")
    assert (checked["tests_by_state"], checked["pairs"]) == ({"complete": 1}, 1)
    assert run("track-record").startswith("Tests: 1 complete.")
    listed = run("registration", "list", "--json")
    assert [one["id"] for one in listed] == [registered["id"]]
    jobs = run("job", "list", "--state", "succeeded", "--count", "2", "--json")
    assert len(jobs) == 2
    assert run("job", "wait", jobs[0]["id"], "--json") == jobs[0]
    run("job", "log", jobs[0]["id"])

    edits = tmp_path / "edits.csv"
    run("export", "cleaner", "--what", "edits", "--format", "csv", "--output", edits)
    removed = {row["example_id"] for row in csv.DictReader(edits.open())}
    assert len(removed) == 5
    dataset = tmp_path / "weighted.parquet"
    run("export", "cleaner", "--output", dataset)
    assert not removed & set(pq.read_table(dataset).column("example_id").to_pylist())
    run("propose", "again", "--baseline", "first", "--edits", edits)


def test_a_push_that_broke_off_goes_on_when_the_command_is_run_again(run, sentences, monkeypatch):
    monkeypatch.setattr("curation.services.uploads.PART_BYTES", 2000)
    parts = -(-sentences.stat().st_size // 2000)
    assert parts > 5
    sent = []
    send = Transport.send

    def breaking(transport, method, path, **more):
        if method == "PUT":
            if len(sent) == 3:
                sent.append("broken off")
                raise HunchError("The line is cut.")
            sent.append(path.rsplit("/", 1)[1])
        return send(transport, method, path, **more)

    monkeypatch.setattr(Transport, "send", breaking)
    run("dataset", "push", sentences, "--name", "sentences", code=1)
    version = run("dataset", "push", sentences, "--name", "sentences", "--json")
    assert [one for one in sent if one != "broken off"] == [str(n + 1) for n in range(parts)]
    assert (version["number"], version["train_count"], version["probe_count"]) == (1, 120, 60)


def test_advice_becomes_a_proposal(run, sentences, tmp_path):
    """What is suggested, what the label check finds, and what-if, on one trained baseline."""
    run("dataset", "push", sentences, "--name", "sentences")
    run("model", "push", "bag", "--built-in", "bag_of_embeddings")
    run("recipe", "create", "short", "--set", "epochs=3", "--set", "learning_rate=0.05")
    options = ["--dataset", "sentences", "--model", "bag", "--recipe", "short", "--seeds", "2"]
    run("baseline", "train", "first", *options)
    run("behaviour", "add", "margin", "--baseline", "first")
    run("behaviour", "add", "ups", "--baseline", "first", "--class", "up", "--compute")
    names = [one["name"] for one in run("behaviour", "list", "--baseline", "first", "--json")]
    assert names == ["margin", "ups"]

    guarded = ["--guard", "ups=0.5", "--propose", "suggested", "--hypothesis", "They hurt."]
    edits = tmp_path / "suggested.csv"
    found = run(
        "suggest", "margin", "--baseline", "first", "--count", "5", *guarded,
        "--output", edits, "--json",
    )  # fmt: skip
    ids = [one["example_id"] for one in found["edits"]]
    assert 1 <= len(ids) <= 5
    assert found["suggestion"]["guards"][0]["tolerance"] == 0.5
    assert found["proposal"]["name"] == "suggested"
    assert [row["example_id"] for row in csv.DictReader(edits.open())] == ids
    effects = run("what-if", "--baseline", "first", "--edits", edits, "--json")
    predicted = run("predict", "suggested", "--json")
    values = {one["behaviour"]: one["value"] for one in effects}
    assert values == pytest.approx({one["behaviour"]: one["value"] for one in predicted})

    wrong = tmp_path / "wrong.csv"
    suspicious = run("label-check", "--baseline", "first", "--count", "8", "-o", wrong, "--json")
    assert len(suspicious) == 8
    flipped = {f"s{number}" for number in range(0, 120, 10)}  # as the fixture made them
    assert len(flipped & {one["example_id"] for one in suspicious[:5]}) >= 3
    assert "Why" in run("label-check", "--baseline", "first", "--count", "2")
    run("propose", "wrong labels", "--baseline", "first", "--edits", wrong)
    choices = run("methods", "--baseline", "first", "--json")
    assert all(one["method"] and one["reason"] for one in choices)
    for what in ("dataset", "model", "recipe", "baseline", "proposal", "project"):
        assert run(what, "list").strip(), what


def test_a_reviewer_signs_a_test_off(run, hunch, world, live_server):
    """With a token of its own: who registered a test does not confirm it."""
    from curation.models import Registration, Scope, Verdict
    from curation.services import tokens

    test = world.registration
    Registration.objects.filter(pk=test.pk).update(state="running")
    Registration.objects.filter(pk=test.pk).update(state="complete")
    Verdict.objects.create(
        registration=test, behaviour=world.behaviour, outcome="supported", reason="as predicted",
        predicted=1.0, predicted_low=0.5, predicted_high=1.5, actual=1.1,
    )  # fmt: skip
    for person, code in (("owner", 1), ("reviewer", 0)):
        user = world.people[person]
        _, text = tokens.create_token(user=user, name="cli", scopes=list(Scope.values))
        run("login", live_server.url, text=f"{text}\n")
        run("sign-off", test.pk, code=code)
        assert bool(Verdict.objects.get().signed_off_by) == (code == 0)
    assert Verdict.objects.get().signed_off_by == world.people["reviewer"]


def verdict_code(run, registration):
    """The code that the outcome has, read from the client rather than from the command."""
    from curation.models import Verdict

    return EXIT_CODES[Verdict.objects.get(registration=registration).outcome]
