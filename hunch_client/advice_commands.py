"""Commands that advise: what-if, suggested edits, likely label errors, methods, track record."""

from pathlib import Path
from typing import Annotated

import typer

from hunch_client.client import removals
from hunch_client.edit_files import read_edits, write_edits
from hunch_client.output import emit, show_effects, show_table, work_bars
from hunch_client.shared_options import (
    BaselineOption,
    JsonOption,
    ProjectOption,
    baseline_of,
    connect,
    pairs,
    project_of,
    reports_errors,
)

app = typer.Typer()
PANEL = "Advice: what is worth a test"


@app.command("what-if", rich_help_panel=PANEL)
@reports_errors
def what_if(
    baseline: BaselineOption,
    remove: Annotated[list[str] | None, typer.Option(help="Example id; repeatable.")] = None,
    edits: Annotated[
        Path | None, typer.Option(help="CSV with the columns example_id and weight.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="How influence is estimated; else what held-out edits speak for."),
    ] = None,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Predict at once what edits would change; nothing is saved."""
    weights = {**(read_edits(edits) if edits else {}), **removals(remove or [])}
    if not weights:
        raise typer.BadParameter("Give --remove or --edits.")
    with connect() as hunch:
        found = hunch.what_if(baseline_of(hunch, project, baseline), weights, method=method)
    show_effects(found, as_json)


@app.command(rich_help_panel=PANEL)
@reports_errors
def suggest(
    behaviour: Annotated[str, typer.Argument(help="The behaviour to improve, name or id.")],
    baseline: BaselineOption,
    count: Annotated[int, typer.Option(min=1, help="At most so many edits.")] = 40,
    weight: Annotated[float, typer.Option(min=0, help="0 removes, 3 triples.")] = 0.0,
    guard: Annotated[
        list[str] | None,
        typer.Option(help="BEHAVIOUR=TOLERANCE: must not get worse by more; repeatable."),
    ] = None,
    propose: Annotated[str, typer.Option(help="Make a proposal with this name of them.")] = "",
    hypothesis: Annotated[str, typer.Option(help="For the proposal: what you expect.")] = "",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write them as a CSV for --edits.")
    ] = None,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Search for the edits that should improve a behaviour most."""
    with connect() as hunch, work_bars() as bars:
        of = baseline_of(hunch, project, baseline)
        guards = {
            hunch.behaviour(of, name).id: float(value)
            for name, value in pairs(guard or [], "--guard").items()
        }
        found = hunch.suggest(
            hunch.behaviour(of, behaviour),
            number_of_edits=count,
            new_weight=weight,
            guards=guards,
            watcher=bars.job,
        )
        edits = list(hunch.suggested_edits(found))
        made = (
            hunch.propose_suggestion(found, propose, hypothesis=hypothesis)
            if propose and edits
            else None
        )
    if output:
        write_edits(output, {edit.example_id: edit.weight for edit in edits})
    if as_json:
        emit({"suggestion": found, "edits": edits, "proposal": made}, True)
        return
    show_table(
        ("Example", "New weight", "Predicted gain"),
        [(edit.example_id, f"{edit.weight:g}", f"{edit.gain:+.4g}") for edit in edits],
    )
    expected = "" if found.corrected_change is None else f", expected {found.corrected_change:+.4g}"
    typer.echo(f"{len(edits):,} edits{expected}: a hypothesis to test.")
    if made:
        typer.echo(f"Proposal {made.name} ({made.id})")


@app.command("label-check", rich_help_panel=PANEL)
@reports_errors
def label_check(
    baseline: BaselineOption,
    count: Annotated[int, typer.Option(min=1, max=500, help="How many to show.")] = 50,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a CSV that removes them.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="An uploaded model to see each text's neighbours with.")
    ] = "",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Rank training examples by how likely their label is wrong."""
    with connect() as hunch, work_bars() as bars:
        of = baseline_of(hunch, project, baseline)
        seen_by = hunch.model(project_of(hunch, project), encoder) if encoder else None
        found = hunch.check_labels(of, count=count, encoder=seen_by, watcher=bars.job)
    if output:
        write_edits(output, removals(one.example_id for one in found))
    if as_json:
        emit(found, True)
        return
    show_table(
        ("Example", "Label", "Likely", "Signals that agree", "Why"),
        [
            (
                one.example_id,
                str(one.label if one.label is not None else one.target),
                str(one.likely_label if one.likely_label is not None else one.likely_target or "–"),
                f"{one.agreement:.0%}",
                "; ".join(one.reasons),
            )
            for one in found
        ],
    )


@app.command(rich_help_panel=PANEL)
@reports_errors
def methods(
    baseline: BaselineOption, project: ProjectOption = "", as_json: JsonOption = False
) -> None:
    """Show which method predicts each behaviour best on held-out edits of the bank."""
    with connect() as hunch:
        of = baseline_of(hunch, project, baseline)
        names = {one.id: one.name for one in hunch.behaviours(of)}
        found = hunch.method_choices(of)
    if as_json:
        emit(found, True)
        return
    show_table(
        ("Behaviour", "Method", "Held-out edits", "Why"),
        [
            (names.get(one.behaviour_id, "–"), one.method, str(one.number_of_edits), one.reason)
            for one in found
        ],
    )


@app.command("bank", rich_help_panel=PANEL)
@reports_errors
def extend_bank(
    baseline: BaselineOption,
    edits: Annotated[int, typer.Option(min=1, help="How many known edits more.")] = 48,
    seeds: Annotated[int, typer.Option(min=2, help="Retrains of each.")] = 2,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Retrain with known edits, so that predictions are calibrated on more evidence."""
    with connect() as hunch, work_bars() as bars:
        of = baseline_of(hunch, project, baseline)
        hunch.extend_bank(of, number_of_edits=edits, seeds_per_edit=seeds, watcher=bars.job)
    emit(of, as_json, f"The bank of {of.name} has grown by {edits} edits.")


@app.command("track-record", rich_help_panel=PANEL)
@reports_errors
def track_record(
    baseline: Annotated[
        str, typer.Option("--baseline", "-b", help="Of this baseline only, name or id.")
    ] = "",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show how predictions fared against retraining."""
    with connect() as hunch:
        of = baseline_of(hunch, project, baseline) if baseline else project_of(hunch, project)
        found = hunch.track_record(of)
    if as_json:
        emit(found, True)
        return
    states = ", ".join(f"{number} {state}" for state, number in found.tests_by_state.items())
    typer.echo(f"Tests: {states or 'none yet'}. Predictions that were checked: {found.pairs}.")
    if found.pairs:
        typer.echo(
            f"Right direction: {_share(found.sign_rate)}. "
            f"Actual inside the interval: {_share(found.coverage)}."
        )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
