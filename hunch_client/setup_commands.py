"""Commands that get a project ready: sign in, push data and models, train, define behaviours."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from hunch_client import configuration
from hunch_client.behaviour_options import (
    file_definition,
    probe_definition,
    prompt_definition,
    usual_kind,
)
from hunch_client.client import Hunch
from hunch_client.configuration import Configuration
from hunch_client.list_commands import add_behaviour_list, add_list
from hunch_client.output import emit, work_bars
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
PANEL = "Getting ready"
NewName = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
dataset_app = typer.Typer(no_args_is_help=True, help="Push and list datasets.")
model_app = typer.Typer(no_args_is_help=True, help="Push and list models.")
recipe_app = typer.Typer(no_args_is_help=True, help="Make and list recipes.")
baseline_app = typer.Typer(no_args_is_help=True, help="Train and list baselines.")
behaviour_app = typer.Typer(no_args_is_help=True, help="Define and list behaviours.")
project_app = typer.Typer(no_args_is_help=True, help="Make and list projects.")
app.add_typer(project_app, name="project", rich_help_panel=PANEL)
app.add_typer(dataset_app, name="dataset", rich_help_panel=PANEL)
app.add_typer(model_app, name="model", rich_help_panel=PANEL)
app.add_typer(recipe_app, name="recipe", rich_help_panel=PANEL)
app.add_typer(baseline_app, name="baseline", rich_help_panel=PANEL)
app.add_typer(behaviour_app, name="behaviour", rich_help_panel=PANEL)


@app.command(rich_help_panel=PANEL)
@reports_errors
def login(
    address: Annotated[str, typer.Argument(help="Such as https://hunch.example.com")],
    project: ProjectOption = "",
    token: Annotated[
        str, typer.Option(help="Better left out: it is asked for, or read from HUNCH_TOKEN.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check a token and remember it. Tokens are made on your account page."""
    text = token or os.environ.get("HUNCH_TOKEN") or typer.prompt("Token", hide_input=True)
    with Hunch(address, text.strip()) as hunch:
        me = hunch.me()
    saved = configuration.save(Configuration(address.rstrip("/"), text.strip(), project))
    scopes = ", ".join(me["token"]["scopes"])
    emit(me, as_json, f"Signed in as {me['username']} ({scopes}); remembered in {saved}.")


@project_app.command("create")
@reports_errors
def project_create(
    name: NewName,
    description: Annotated[str, typer.Option(help="What it is about.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Make a project."""
    with connect() as hunch:
        made = hunch.create_project(name, description)
    emit(made, as_json, f"Project {made.name} ({made.id})")


@project_app.command("list")
@reports_errors
def project_list(as_json: JsonOption = False) -> None:
    """List your projects."""
    with connect() as hunch:
        found = list(hunch.projects())
    emit(found, as_json, "\n".join(f"{one.id}  {one.name}" for one in found))


@dataset_app.command("push")
@reports_errors
def dataset_push(
    path: Annotated[Path, typer.Argument(help="A file, or the folder of a saved dataset.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Else the file's name.")] = "",
    project: ProjectOption = "",
    task: Annotated[str, typer.Option(help="Such as text_classification.")] = "",
    column: Annotated[
        list[str] | None,
        typer.Option("--column", "-c", help="PART=COLUMN, such as label=sentiment; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Upload a dataset and import it. A broken upload goes on where it stopped."""
    mapping: dict[str, Any] = {"task": task} if task else {}
    mapping |= pairs(column or [], "--column")
    with connect() as hunch, work_bars() as bars:
        version = hunch.push_dataset(
            project_of(hunch, project),
            name or path.resolve().stem,
            path,
            mapping=mapping,
            progress=bars.upload,
            watcher=bars.job,
        )
    counts = f"{version.train_count:,} train and {version.probe_count:,} probe examples"
    emit(version, as_json, f"Version {version.number} is ready: {counts} ({version.id})")


@model_app.command("push")
@reports_errors
def model_push(
    name: NewName,
    folder: Annotated[
        Path | None, typer.Option(help="config.json, safetensors and tokenizer files.")
    ] = None,
    built_in: Annotated[str, typer.Option(help="Such as mlp or bag_of_embeddings.")] = "",
    setting: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Such as hidden=[64] or lora_rank=4")
    ] = None,
    use: Annotated[
        str, typer.Option(help="Of an uploaded one: classifier or language_model.")
    ] = "classifier",
    trained_part: Annotated[
        str, typer.Option(help="Of an uploaded one: head, last_layers, all or lora.")
    ] = "",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Upload a model from a folder, or choose a built-in network."""
    if (folder is None) == (not built_in):
        raise typer.BadParameter("Give either --folder or --built-in.")
    with connect() as hunch:
        where = project_of(hunch, project)
        if folder is None:
            settings = pairs(setting or [], "--set")
            model = hunch.create_model(where, name, {"name": built_in, **settings})
        else:
            with work_bars() as bars:
                model = hunch.push_model(
                    where,
                    name,
                    folder,
                    use=use,
                    trained_part=trained_part or None,
                    settings=pairs(setting or [], "--set"),
                    progress=bars.upload,
                    watcher=bars.job,
                )
    emit(model, as_json, f"Model {model.name} is {model.state} ({model.id})")


@recipe_app.command("create")
@reports_errors
def recipe_create(
    name: NewName,
    setting: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="Such as epochs=5; repeatable.")
    ] = None,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a recipe; what is not set takes its default."""
    with connect() as hunch:
        where = project_of(hunch, project)
        recipe = hunch.create_recipe(where, name, pairs(setting or [], "--set"))
    emit(recipe, as_json, f"Recipe {recipe.name} ({recipe.id})")


@baseline_app.command("train")
@reports_errors
def baseline_train(
    name: NewName,
    dataset: Annotated[str, typer.Option(help="Name or id; its newest ready version is used.")],
    model: Annotated[str, typer.Option(help="Name or id.")],
    recipe: Annotated[str, typer.Option(help="Name or id.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many runs.")] = 4,
    wait: Annotated[bool, typer.Option(help="Wait for the end.")] = True,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Train a baseline for several seeds."""
    with connect() as hunch, work_bars() as bars:
        where = project_of(hunch, project)
        baseline = hunch.train_baseline(
            where,
            name,
            version=hunch.latest_version(hunch.dataset(where, dataset)),
            model=hunch.model(where, model),
            recipe=hunch.recipe(where, recipe),
            number_of_seeds=seeds,
            wait=wait,
            watcher=bars.job,
        )
    emit(baseline, as_json, f"Baseline {baseline.name} is {baseline.state} ({baseline.id})")


@behaviour_app.command("add")
@reports_errors
def behaviour_add(
    name: NewName,
    baseline: BaselineOption,
    kind: Annotated[str, typer.Option(help="mean_margin, mean_loss, …; else the usual one.")] = "",
    of_class: Annotated[str, typer.Option("--class", help="Probe examples of this class.")] = "",
    where: Annotated[str, typer.Option(help="ATTRIBUTE=VALUE of probe examples.")] = "",
    example: Annotated[list[str] | None, typer.Option(help="Probe example id.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="For a language model; repeatable.")
    ] = None,
    completion: Annotated[
        list[str] | None, typer.Option(help="What the prompt goes on with; one a prompt.")
    ] = None,
    alternative: Annotated[
        list[str] | None, typer.Option(help="For a preference: the other completion.")
    ] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(help="Next after the prompt, with its space before; repeatable."),
    ] = None,
    ends: Annotated[
        bool, typer.Option("--ends", help="The end of the text counts as part of a completion.")
    ] = False,
    pasted: Annotated[
        Path | None, typer.Option(help="JSON lines with prompt and completion, or text and label.")
    ] = None,
    label: Annotated[str, typer.Option(help="For label_probability.")] = "",
    better: Annotated[str, typer.Option(help="higher or lower; else the usual one.")] = "",
    compute: Annotated[bool, typer.Option(help="Compute influence scores at once.")] = False,
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Define a behaviour: on probe examples (all, if none are chosen), or on prompts given here."""
    if pasted:
        definition = file_definition(pasted, word or [], ends)
    elif prompt or completion:
        definition = prompt_definition(
            prompt or [], completion or [], alternative or [], word or [], ends
        )
    else:
        definition = probe_definition(of_class, where, example or [])
    with connect() as hunch, work_bars() as bars:
        of = baseline_of(hunch, project, baseline)
        made = hunch.add_behaviour(
            of, name, kind or usual_kind(definition), definition, label=label, better=better or None
        )
        if compute:
            hunch.compute_influence(of, watcher=bars.job)
    reads = "pasted" if definition["selection"] == "pasted" else "probe"
    text = f"Behaviour {made.name} reads {made.number_of_examples:,} {reads} examples ({made.id})"
    emit(made, as_json, text)


add_list(dataset_app, "datasets", lambda hunch, project: hunch.datasets(project))
add_list(model_app, "models", lambda hunch, project: hunch.models(project))
add_list(recipe_app, "recipes", lambda hunch, project: hunch.recipes(project))
add_list(baseline_app, "baselines", lambda hunch, project: hunch.baselines(project))
add_behaviour_list(behaviour_app)


@app.command(rich_help_panel=PANEL)
@reports_errors
def influence(
    baseline: BaselineOption,
    method: Annotated[str, typer.Option(help="How influence is estimated.")] = "replay",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Compute the influence scores that are missing."""
    with connect() as hunch, work_bars() as bars:
        found = hunch.compute_influence(
            baseline_of(hunch, project, baseline), method=method, watcher=bars.job
        )
    emit(found, as_json, f"{len(found)} behaviours have scores by {method}.")
