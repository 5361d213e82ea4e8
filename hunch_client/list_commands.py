"""`hunch dataset list` and its like: names and ids, the newest first."""

from collections.abc import Callable, Iterable
from typing import Any

import typer

from hunch_client.client import Hunch
from hunch_client.output import emit
from hunch_client.records import Project
from hunch_client.shared_options import (
    BaselineOption,
    JsonOption,
    ProjectOption,
    baseline_of,
    connect,
    project_of,
    reports_errors,
)


def add_list(app: typer.Typer, what: str, found: Callable[[Hunch, Project], Iterable[Any]]) -> None:
    """A command `list` that prints what `found` gives for the project."""

    @app.command("list", help=f"List the project's {what}, the newest first.")
    @reports_errors
    def listed(project: ProjectOption = "", as_json: JsonOption = False) -> None:
        with connect() as hunch:
            show(list(found(hunch, project_of(hunch, project))), as_json)


def add_behaviour_list(app: typer.Typer) -> None:
    @app.command("list", help="List a baseline's behaviours.")
    @reports_errors
    def listed(
        baseline: BaselineOption, project: ProjectOption = "", as_json: JsonOption = False
    ) -> None:
        with connect() as hunch:
            show(hunch.behaviours(baseline_of(hunch, project, baseline)), as_json)


def show(found: list[Any], as_json: bool) -> None:
    """One line each: id, name, and the state where there is one."""
    lines = []
    for one in found:
        name = getattr(one, "name", "") or getattr(one, "proposal_id", "")
        state = getattr(one, "state", "")
        lines.append(f"{one.id}  {name}" + (f"  ({state.replace('_', ' ')})" if state else ""))
    emit(found, as_json, "\n".join(lines))
