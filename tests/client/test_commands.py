"""The `hunch` command by itself: what it offers, and what its exit code says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hunch_client import HunchError, proposal_commands
from hunch_client.behaviour_options import (
    file_definition,
    probe_definition,
    prompt_definition,
    usual_kind,
)
from hunch_client.command_line import app
from hunch_client.edit_files import read_edits, write_edits
from hunch_client.proposal_commands import EXIT_CODES
from hunch_client.records import Registration, Verdict

ROOT = Path(__file__).parents[2]


def leaves(command, words=()):
    """Every command with the words that reach it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*words, name))
    if not hasattr(command, "commands"):
        yield " ".join(words), command


COMMANDS = dict(leaves(typer.main.get_command(app)))


def test_every_command_prints_json_when_asked_and_explains_itself():
    assert len(COMMANDS) > 30
    for words, command in COMMANDS.items():
        options = {name for parameter in command.params for name in parameter.opts}
        assert "--json" in options, words
        assert command.help, words
        for parameter in command.params:
            assert parameter.help, f"{words} {parameter.name}"


def test_the_commands_that_the_documentation_shows_exist():
    text = "\n".join(
        path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    )
    shown = set(re.findall(r"^(?:\.venv/bin/)?hunch ([a-z][a-z -]*[a-z])", text, re.MULTILINE))
    assert len(shown) > 10
    for words in shown:
        assert any(f"{words} ".startswith(f"{known} ") for known in COMMANDS), words


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "hunch_client", "--help"],
        capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "From hypothesis to verdict" in done.stdout


def test_the_command_starts_without_loading_arrow():
    check = "import sys, hunch_client.command_line; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


class Site:
    """Stands in for the client where only the answer matters."""

    def __init__(self, outcome):
        self.outcome = outcome

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def registration(self, registration_id):
        return Registration(registration_id, "p", "q", "b", "", [1], "", "complete", "")

    def verdicts(self, registration):
        if self.outcome == "not_finished":
            return []
        common = {
            "registration_id": registration.id, "unit": "logits", "reason": "r", "predicted": 1.0,
            "predicted_low": 0.5, "predicted_high": 1.5, "actual": 0.9, "actual_low": 0.8,
            "actual_high": 1.0, "placebo": 0.0,
        }  # fmt: skip
        other = Verdict(
            behaviour_id="c", behaviour="other", is_primary=False, outcome="contradicted", **common
        )
        primary = Verdict(
            behaviour_id="b", behaviour="margin", is_primary=True, outcome=self.outcome, **common
        )
        return [other, primary]


@pytest.mark.parametrize("outcome", EXIT_CODES)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_the_exit_code_is_the_primary_behaviours_verdict(outcome, options, monkeypatch):
    monkeypatch.setattr(proposal_commands, "connect", lambda: Site(outcome))
    result = CliRunner().invoke(app, ["verdict", "r1", *options])
    assert result.exit_code == EXIT_CODES[outcome]
    if options:
        assert len(json.loads(result.stdout)) == (0 if outcome == "not_finished" else 2)
    else:
        assert outcome.replace("_", " ").capitalize() in result.stdout


def test_an_outcome_that_this_client_does_not_know_is_an_error(monkeypatch):
    monkeypatch.setattr(proposal_commands, "connect", lambda: Site("astonishing"))
    assert CliRunner().invoke(app, ["verdict", "r1"]).exit_code == 1


def test_the_exit_codes_are_those_of_the_documentation_and_of_the_server():
    from curation.models import Outcome

    table = re.findall(r"^\| (\d+) \| ([a-z ]+) \|$", (ROOT / "docs/api.md").read_text(), re.M)
    documented = {outcome.replace(" ", "_"): int(code) for code, outcome in table}
    assert documented == EXIT_CODES
    assert set(EXIT_CODES) == {*Outcome.values, "not_finished"}


def test_a_wrong_use_ends_with_2():
    assert CliRunner().invoke(app, ["verdict"]).exit_code == 2
    assert CliRunner().invoke(app, ["no-such-command"]).exit_code == 2


class TestBehaviourOptions:
    def test_probe_examples(self):
        assert probe_definition("", "", []) == {"selection": "all"}
        assert probe_definition("up", "", []) == {"selection": "class", "label": "up"}
        assert probe_definition("", "source=web=a", []) == {
            "selection": "slice", "attribute": "source", "value": "web=a",
        }  # fmt: skip
        with pytest.raises(typer.BadParameter, match="Choose one"):
            probe_definition("up", "a=b", [])
        with pytest.raises(typer.BadParameter, match="ATTRIBUTE=VALUE"):
            probe_definition("", "source", [])

    def test_prompts_and_completions_are_paired_in_their_order(self):
        found = prompt_definition(
            ["Paris is in", "Rome is in"], [" France", " Italy"], [], [], True
        )
        assert found["examples"][1] == {"prompt": "Rome is in", "completion": " Italy"}
        assert found["ends"] is True
        assert usual_kind(found) == "completion_log_probability"

    def test_the_kind_follows_from_what_is_given(self):
        preference = prompt_definition(["a"], ["b"], ["c"], [], False)
        assert usual_kind(preference) == "completion_preference"
        words = prompt_definition(["a"], [], [], [" b"], False)
        assert words["examples"] == [{"prompt": "a"}]
        assert usual_kind(words) == "token_class_probability"
        assert usual_kind({"selection": "all"}) == "mean_margin"

    def test_completions_alone_have_empty_prompts(self):
        assert prompt_definition([], ["b"], [], [], False)["examples"] == [
            {"prompt": "", "completion": "b"}
        ]

    def test_a_missing_completion_is_counted(self):
        with pytest.raises(typer.BadParameter, match="2 --prompt, 1 --completion"):
            prompt_definition(["a", "b"], ["c"], [], [], False)

    def test_a_file_of_examples(self, tmp_path):
        path = tmp_path / "examples.jsonl"
        path.write_text('{"text": "a", "label": "up"}\n\n{"text": "b", "label": "down"}\n')
        found = file_definition(path, [], False)
        assert [one["label"] for one in found["examples"]] == ["up", "down"]
        assert usual_kind(found) == "mean_margin"
        path.write_text('{"text": "a"}\nnot JSON\n')
        with pytest.raises(HunchError, match="line 2"):
            file_definition(path, [], False)


def test_edits_come_back_from_their_file(tmp_path):
    path = tmp_path / "edits.csv"
    write_edits(path, {"a,1": 0.0, '"b"': 2.5})
    assert read_edits(path) == {"a,1": 0.0, '"b"': 2.5}
    path.write_text("example_id,weight\na,1\nb,much\n")
    with pytest.raises(HunchError, match="line 3"):
        read_edits(path)
