"""The `hunch` command: from `login` to `verdict`, whose exit code a pipeline can act on."""

import typer

from hunch_client import (
    advice_commands,
    deletion_commands,
    job_commands,
    proposal_commands,
    setup_commands,
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Predict what a data edit does to a model, then test the prediction.",
    epilog="A prediction is a hypothesis, not a guarantee: act on the verdict of a test.",
)
for commands in (
    setup_commands,
    proposal_commands,
    advice_commands,
    job_commands,
    deletion_commands,
):
    app.add_typer(commands.app)
