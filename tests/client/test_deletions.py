"""The client and the command line delete and restore."""

import pytest
from typer.testing import CliRunner

from hunch_client import HunchError
from hunch_client.command_line import app

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_thing_is_deleted_listed_and_restored(hunch):
    project = hunch.create_project("Scraps")
    model = hunch.create_model(project, "bag", {"name": "bag_of_embeddings"})
    hunch.delete(model)
    with pytest.raises(HunchError, match="There is no model"):
        hunch.model(project, "bag")
    (deletion,) = hunch.deletions()
    assert (deletion.object_kind, deletion.name) == ("model", "bag")
    hunch.restore(deletion)
    assert hunch.model(project, "bag") == model


def test_the_command_line_asks_before_it_deletes(hunch, live_server, token, monkeypatch):
    monkeypatch.setenv("HUNCH_ADDRESS", live_server.url)
    monkeypatch.setenv("HUNCH_TOKEN", token)
    hunch.create_project("Scraps")
    command = CliRunner()
    assert command.invoke(app, ["delete", "project", "Scraps"], input="n\n").exit_code == 1
    assert [one.name for one in hunch.projects()] == ["Scraps"]
    assert command.invoke(app, ["delete", "project", "Scraps", "--yes"]).exit_code == 0
    assert not list(hunch.projects())
    listed = command.invoke(app, ["deleted"])
    assert "project Scraps" in listed.stdout
    done = command.invoke(app, ["restore", listed.stdout.split()[0]])
    assert done.exit_code == 0, done.output
    assert [one.name for one in hunch.projects()] == ["Scraps"]
