"""`python -m hunch_client` is the `hunch` command."""

from hunch_client.command_line import app

app(prog_name="hunch")
