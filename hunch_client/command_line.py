"""The `hunch` command: from `login` to `verdict`, whose exit code a pipeline can act on."""

import typer

from hunch_client import proposal_commands, setup_commands

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Predict what a data edit does to a model, then test the prediction.",
)
app.add_typer(setup_commands.app)
app.add_typer(proposal_commands.app)
