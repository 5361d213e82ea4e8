"""Commands that delete and restore."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from hunch_client.client import Hunch
from hunch_client.output import emit
from hunch_client.records import Deletion
from hunch_client.shared_options import (
    JsonOption,
    ProjectOption,
    connect,
    project_of,
    reports_errors,
)

app = typer.Typer()
PANEL = "Looking after things"


class Kind(StrEnum):
    PROJECT = "project"
    DATASET = "dataset"
    MODEL = "model"
    BASELINE = "baseline"
    PROPOSAL = "proposal"


@app.command(rich_help_panel=PANEL)
@reports_errors
def delete(
    kind: Annotated[Kind, typer.Argument(help="What kind of thing.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Delete a thing with all that stands on it; it can be restored for a while."""
    with connect() as hunch:
        thing = _find(hunch, kind, name, project)
        if not yes:
            typer.confirm(f"Delete the {kind} {thing.name} and all that stands on it?", abort=True)
        made = hunch.delete(thing)
    emit(made, as_json, _line(made))


@app.command(rich_help_panel=PANEL)
@reports_errors
def deleted(as_json: JsonOption = False) -> None:
    """List what was deleted in your projects and can be restored."""
    with connect() as hunch:
        found = list(hunch.deletions())
    emit(found, as_json, "\n".join(_line(one) for one in found))


@app.command(rich_help_panel=PANEL)
@reports_errors
def restore(
    deletion: Annotated[str, typer.Argument(metavar="ID", help="As `hunch deleted` lists it.")],
    as_json: JsonOption = False,
) -> None:
    """Bring back what was deleted."""
    with connect() as hunch:
        wanted = next((one for one in hunch.deletions() if one.id == deletion), None)
        if wanted is None:
            raise typer.BadParameter("There is no such deletion; see `hunch deleted`.")
        hunch.restore(wanted)
    emit(wanted, as_json, f"{wanted.name} is back.")


def _find(hunch: Hunch, kind: Kind, name: str, project: str) -> Any:
    if kind is Kind.PROJECT:
        return hunch.project(name)
    look_up: dict[Kind, Callable[..., Any]] = {
        Kind.DATASET: hunch.dataset,
        Kind.MODEL: hunch.model,
        Kind.BASELINE: hunch.baseline,
        Kind.PROPOSAL: hunch.proposal,
    }
    return look_up[kind](project_of(hunch, project), name)


def _line(one: Deletion) -> str:
    until = f"until {one.purge_after}" if one.purge_after else "at any time (archived)"
    return f"{one.id}  {one.object_kind} {one.name}: can be restored {until}"
