"""Commands from proposal to verdict: propose, predict, register, retrain, verdict, export."""

from pathlib import Path
from typing import Annotated

import typer

from hunch_client.client import removals
from hunch_client.edit_files import read_edits
from hunch_client.errors import HunchError
from hunch_client.list_commands import add_list
from hunch_client.output import emit, show_effects, show_verdicts, work_bars
from hunch_client.shared_options import (
    BaselineOption,
    JsonOption,
    ProjectOption,
    baseline_of,
    connect,
    project_of,
    reports_errors,
)

app = typer.Typer()
proposal_app = typer.Typer(no_args_is_help=True, help="List proposals.")
registration_app = typer.Typer(no_args_is_help=True, help="List registered tests.")
PANEL = "From hypothesis to verdict"
ProposalArgument = Annotated[str, typer.Argument(help="The proposal, name or id.")]
RegistrationArgument = Annotated[str, typer.Argument(help="The registered test, by its id.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the record.")]
app.add_typer(proposal_app, name="proposal", rich_help_panel=PANEL)
app.add_typer(registration_app, name="registration", rich_help_panel=PANEL)
add_list(proposal_app, "proposals", lambda hunch, project: hunch.proposals(project))
add_list(registration_app, "registered tests", lambda hunch, where: hunch.registrations(where))
# 1 and 2 are taken: an error, and a wrong use of the command.
EXIT_CODES = {
    "supported": 0,
    "direction_only": 10,
    "inconclusive": 11,
    "contradicted": 12,
    "invalidated": 13,
    "not_finished": 14,
}


@app.command(rich_help_panel=PANEL)
@reports_errors
def propose(
    name: Annotated[str, typer.Argument(help="Of the new proposal.")],
    baseline: BaselineOption,
    hypothesis: Annotated[str, typer.Option(help="What you expect, and why.")] = "",
    remove: Annotated[list[str] | None, typer.Option(help="Example id to remove.")] = None,
    edits: Annotated[
        Path | None, typer.Option(help="CSV with the columns example_id and weight.")
    ] = None,
    remove_most_harmful: Annotated[int, typer.Option(help="How many, for --behaviour.")] = 0,
    behaviour: Annotated[str, typer.Option(help="Name or id.")] = "",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a proposal: edits of the training examples with a written hypothesis."""
    weights = {**(read_edits(edits) if edits else {}), **removals(remove or [])}
    with connect() as hunch:
        of = baseline_of(hunch, project, baseline)
        if remove_most_harmful:
            measured = hunch.behaviour(of, behaviour)
            scores = [one for one in hunch.influences(of) if one.behaviour_id == measured.id]
            if not scores:
                raise HunchError("There are no scores yet: hunch influence --baseline …")
            rows = hunch.top_examples(scores[0], count=remove_most_harmful)
            weights |= removals(row["example_id"] for row in rows)
        if not weights:
            raise typer.BadParameter("Give --remove, --edits or --remove-most-harmful.")
        made = hunch.propose(of, name, weights, hypothesis=hypothesis)
    emit(made, as_json, f"Proposal {made.name} with {len(weights):,} edits ({made.id})")


@app.command(rich_help_panel=PANEL)
@reports_errors
def predict(
    proposal: ProposalArgument,
    method: Annotated[
        str | None,
        typer.Option(help="How influence is estimated; else what held-out edits speak for."),
    ] = None,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Predict what the proposal changes, and save it."""
    with connect() as hunch:
        found = hunch.predict(hunch.proposal(project_of(hunch, project), proposal), method=method)
    show_effects(found, as_json)


@app.command(rich_help_panel=PANEL)
@reports_errors
def register(
    proposal: ProposalArgument,
    primary: Annotated[str, typer.Option(help="The primary behaviour, name or id.")],
    seeds: Annotated[int, typer.Option(min=2, help="Fresh seeds of each arm.")] = 8,
    smallest_effect: Annotated[float, typer.Option(min=0, help="Of interest, in its unit.")] = 0.0,
    level: Annotated[float, typer.Option(help="Of the interval.")] = 0.9,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Lock the plan of the test. It can never be changed afterwards."""
    with connect() as hunch:
        where = project_of(hunch, project)
        of = hunch.proposal(where, proposal)
        baseline = hunch.baseline(where, of.baseline_id)
        made = hunch.register(
            of,
            hunch.behaviour(baseline, primary),
            number_of_seeds=seeds,
            smallest_effect=smallest_effect,
            level=level,
        )
    emit(made, as_json, f"Registered {made.id}\n{made.decision_rule}")


@app.command(rich_help_panel=PANEL)
@reports_errors
def retrain(
    registration: RegistrationArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the confirmatory retrains of a registered test."""
    with connect() as hunch, work_bars() as bars:
        found = hunch.registration(registration)
        after = hunch.retrain(found, wait=wait, watcher=bars.job)
    emit(after, as_json, f"The test is {after.state}.")


@app.command(rich_help_panel=PANEL)
@reports_errors
def verdict(registration: RegistrationArgument, as_json: JsonOption = False) -> None:
    """Show predicted beside actual, and end with a code for the primary behaviour's verdict.

    0 supported, 10 direction only, 11 inconclusive, 12 contradicted, 13 invalidated,
    14 not finished; 1 an error, 2 a wrong use of the command.
    """
    with connect() as hunch:
        found = hunch.registration(registration)
        verdicts = hunch.verdicts(found)
    show_verdicts(verdicts, as_json)
    outcome = next((one.outcome for one in verdicts if one.is_primary), "not_finished")
    if not as_json:
        typer.echo(f"{outcome.replace('_', ' ').capitalize()} (the test is {found.state}).")
    raise typer.Exit(EXIT_CODES.get(outcome, 1))


@app.command("sign-off", rich_help_panel=PANEL)
@reports_errors
def sign_off(registration: RegistrationArgument, as_json: JsonOption = False) -> None:
    """Confirm as a reviewer that a test was run as registered."""
    with connect() as hunch:
        verdicts = hunch.sign_off(hunch.registration(registration))
    show_verdicts(verdicts, as_json)


@app.command(rich_help_panel=PANEL)
@reports_errors
def invalidate(
    registration: RegistrationArgument, reason: ReasonOption, as_json: JsonOption = False
) -> None:
    """Declare a test invalid, as a reviewer."""
    with connect() as hunch:
        verdicts = hunch.invalidate(hunch.registration(registration), reason)
    show_verdicts(verdicts, as_json)


@app.command(rich_help_panel=PANEL)
@reports_errors
def abandon(
    registration: RegistrationArgument, reason: ReasonOption, as_json: JsonOption = False
) -> None:
    """Give a test up; it stays in the track record."""
    with connect() as hunch:
        after = hunch.abandon(hunch.registration(registration), reason)
    emit(after, as_json, f"The test is {after.state}.")


@app.command(rich_help_panel=PANEL)
@reports_errors
def export(
    proposal: ProposalArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    what: Annotated[str, typer.Option(help="dataset, edits, issues or sampler")] = "dataset",
    file_format: Annotated[str, typer.Option("--format", help="parquet, csv or jsonl")] = "parquet",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write the weighted dataset, the edits, an issue table or a sampler snippet."""
    with connect() as hunch:
        found = hunch.proposal(project_of(hunch, project), proposal)
        hunch.export(found, output, what=what, file_format=file_format)
    emit({"file": str(output), "what": what}, as_json, f"Wrote {output}.")
