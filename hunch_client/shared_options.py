"""What the commands share: options, the connection, and errors without a stack of calls."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from rich.text import Text

from hunch_client import configuration
from hunch_client.client import Hunch
from hunch_client.errors import HunchError
from hunch_client.output import errors
from hunch_client.records import Baseline, Project

ProjectOption = Annotated[
    str, typer.Option("--project", "-p", help="Name or id; else the usual one.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BaselineOption = Annotated[str, typer.Option("--baseline", "-b", help="Name or id.")]


def reports_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print what the server said, without a stack of calls, and leave with 1."""

    @wraps(command)
    def guarded(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except (HunchError, OSError) as error:
            errors.print(Text(str(error), style="red"))
            raise typer.Exit(1) from error

    return guarded


def connect() -> Hunch:
    """The client of the saved or named site. Raises HunchError when there is none."""
    saved = configuration.load()
    if not saved.address or not saved.token:
        raise HunchError("Sign in first: hunch login https://your.site")
    return Hunch(saved.address, saved.token)


def project_of(hunch: Hunch, name: str) -> Project:
    wanted = name or configuration.load().project
    if not wanted:
        raise HunchError("Name a project: --project, or HUNCH_PROJECT.")
    return hunch.project(wanted)


def baseline_of(hunch: Hunch, project: str, name: str) -> Baseline:
    return hunch.baseline(project_of(hunch, project), name)


def pairs(texts: list[str], option: str) -> dict[str, Any]:
    """`name=value` texts as a dictionary; a value that is JSON is read as JSON."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{option} takes NAME=VALUE, not “{text}”.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
