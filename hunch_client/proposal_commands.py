"""Commands from proposal to verdict: propose, predict, register, retrain, verdict, export."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from hunch_client.client import removals
from hunch_client.errors import HunchError
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
# 1 and 2 are taken: an error, and a wrong use of the command.
EXIT_CODES = {
    "supported": 0,
    "direction_only": 10,
    "inconclusive": 11,
    "contradicted": 12,
    "invalidated": 13,
    "not_finished": 14,
}


@app.command()
@reports_errors
def propose(
    name: str,
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


@app.command()
@reports_errors
def predict(
    proposal: str, method: str = "replay", project: ProjectOption = "", as_json: JsonOption = False
) -> None:
    """Predict what the proposal changes, and save it."""
    with connect() as hunch:
        found = hunch.predict(hunch.proposal(project_of(hunch, project), proposal), method=method)
    show_effects(found, as_json)


@app.command()
@reports_errors
def register(
    proposal: str,
    primary: Annotated[str, typer.Option(help="The primary behaviour, name or id.")],
    seeds: Annotated[int, typer.Option(min=2)] = 8,
    smallest_effect: Annotated[float, typer.Option(min=0, help="Of interest, in its unit.")] = 0.0,
    level: float = 0.9,
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


@app.command()
@reports_errors
def retrain(
    registration: str,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the confirmatory retrains of a registered test."""
    with connect() as hunch, work_bars() as bars:
        found = hunch.registration(registration)
        after = hunch.retrain(found, wait=wait, watcher=bars.job)
    emit(after, as_json, f"The test is {after.state}.")


@app.command()
@reports_errors
def verdict(registration: str, as_json: JsonOption = False) -> None:
    """Show predicted beside actual. The exit code is the primary behaviour's verdict.

    0 supported, 10 direction only, 11 inconclusive, 12 contradicted, 13 invalidated,
    14 not finished; 1 stands for errors.
    """
    with connect() as hunch:
        found = hunch.registration(registration)
        verdicts = hunch.verdicts(found)
    show_verdicts(verdicts, as_json)
    outcome = next((one.outcome for one in verdicts if one.is_primary), "not_finished")
    if not as_json:
        typer.echo(f"{outcome.replace('_', ' ').capitalize()} (the test is {found.state}).")
    raise typer.Exit(EXIT_CODES.get(outcome, 1))


@app.command()
@reports_errors
def export(
    proposal: str,
    output: Annotated[Path, typer.Option("--output", "-o")],
    what: Annotated[str, typer.Option(help="dataset, edits, issues or sampler")] = "dataset",
    file_format: Annotated[str, typer.Option("--format", help="parquet, csv or jsonl")] = "parquet",
    project: ProjectOption = "",
) -> None:
    """Write the weighted dataset, the edits, an issue table or a sampler snippet."""
    with connect() as hunch:
        found = hunch.proposal(project_of(hunch, project), proposal)
        hunch.export(found, output, what=what, file_format=file_format)
    typer.echo(f"Wrote {output}.")


def read_edits(path: Path) -> dict[str, float]:
    """Example id to weight, from a CSV. Raises HunchError naming the line."""
    weights: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        if not {"example_id", "weight"} <= set(rows.fieldnames or []):
            raise HunchError(f"{path} needs the columns example_id and weight.")
        for row in rows:
            try:
                weights[row["example_id"]] = float(row["weight"])
            except (TypeError, ValueError):
                raise HunchError(
                    f"{path}, line {rows.line_num}: the weight is no number."
                ) from None
    return weights
