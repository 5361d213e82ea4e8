"""The sample project: real tweets with one rater's labels, taken step by step from upload to
predictions.

`advance` looks at what is there and starts the next step; it is called when a job of a sample
project ends.
"""

import json
from pathlib import Path
from typing import Any

from django.db import transaction

from curation.models import (
    BankEdit,
    Baseline,
    BaselineState,
    Behaviour,
    BehaviourKind,
    DatasetVersion,
    Influence,
    Job,
    Project,
    VersionState,
)
from curation.queries.influence import extreme_examples
from curation.services import bank, behaviours, datasets, files, predictions, projects, proposals
from curation.services.training_setup import create_baseline, create_model, create_recipe

FOLDER = Path(__file__).resolve().parent.parent / "sample_project"
FILE_NAME = "vader_tweets_one_rater.jsonl"
COLUMN_MAPPING = {
    "task": "text_classification",
    "example_id": "id",
    "text": "text",
    "label": "label",
    "probe_label": "crowd_label",
    "probe_fraction": 0.25,
    "seed": 0,
}
ARCHITECTURE = {"name": "bag_of_embeddings"}
RECIPE = {
    "optimizer": "adamw",
    "learning_rate": 0.003,
    "epsilon": 1e-6,
    "weight_decay": 0.01,
    "schedule": "linear",
    "batch_size": 64,
    "epochs": 6,
}
NUMBER_OF_SEEDS = 4
EDITS = 40
BANK_EDITS = 48
BEHAVIOURS: list[dict[str, Any]] = [
    {"name": "All held-out tweets", "definition": {"selection": "all"}},
    {"name": "Positive tweets", "definition": {"selection": "class", "label": "positive"}},
    {"name": "Negative tweets", "definition": {"selection": "class", "label": "negative"}},
    {"name": "Neutral tweets", "definition": {"selection": "class", "label": "neutral"}},
    {"name": "Tweets that say “not”", "definition": {"selection": "slice", "search": " not "}},
    {"name": "Tweets that say “love”", "definition": {"selection": "slice", "search": "love"}},
    {"name": "Tweets that ask", "definition": {"selection": "slice", "search": "?"}},
    {"name": "Tweets that exclaim", "definition": {"selection": "slice", "search": "!"}},
]


def sample_lines(limit: int | None = None) -> bytes:
    """The sample data without its crude rows, as JSON lines; `limit` keeps the first rows only."""
    rows = [json.loads(line) for line in (FOLDER / FILE_NAME).read_text().splitlines()]
    kept = [row for row in rows if not row.pop("crude", False)][:limit]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode()


@transaction.atomic
def load_sample_project(*, by: Any, rows: int | None = None) -> Project:
    """Make the sample project and start its first step; the rest follows job by job."""
    project = projects.create_project(
        name="Sample: tweets labelled by one rater",
        description="Train on the first rater's labels; behaviours read held-out tweets with "
        "the crowd's labels.",
        by=by,
        is_sample=True,
    )
    dataset = datasets.create_dataset(
        project=project,
        name="Tweets",
        by=by,
        licence="MIT, from vaderSentiment 3.3.2",
        citation=(FOLDER / "CITATION").read_text(),
    )
    source = files.store_bytes(content=sample_lines(rows))
    datasets.add_version(dataset=dataset, source_file=source, file_name=FILE_NAME, by=by)
    return project


@transaction.atomic
def advance(*, project: Project) -> None:
    """Start the next step of a sample project, if nothing of it is running. Safe to call at any
    time."""
    Project.objects.select_for_update().get(pk=project.pk)
    if Job.objects.filter(project=project, state__in=("queued", "running")).exists():
        return
    version = DatasetVersion.objects.filter(dataset__project=project).order_by("created_at").first()
    if version is None or version.number != 1:
        return
    by = version.created_by
    baseline = Baseline.objects.filter(project=project).order_by("created_at").first()
    if version.state == VersionState.INSPECTED and not version.error:
        datasets.import_version(version=version, column_mapping=COLUMN_MAPPING, by=by)
    elif version.state == VersionState.READY and baseline is None:
        _train(project, version, by)
    elif baseline is not None and baseline.state == BaselineState.READY:
        if not baseline.behaviours.exists():
            _add_behaviours(baseline, by)
        elif not BankEdit.objects.filter(baseline=baseline).exists():
            bank.extend_bank(baseline=baseline, number_of_edits=BANK_EDITS, by=by)
        elif (
            not baseline.proposals.exists() and Influence.objects.filter(baseline=baseline).exists()
        ):
            _propose(baseline, by)


def _train(project: Project, version: DatasetVersion, by: Any) -> None:
    create_baseline(
        project=project,
        name="Bag of embeddings",
        dataset_version=version,
        model=create_model(
            project=project, name="Bag of embeddings", architecture=ARCHITECTURE, by=by
        ),
        recipe=create_recipe(project=project, name="AdamW, 6 epochs", settings=RECIPE, by=by),
        number_of_seeds=NUMBER_OF_SEEDS,
        by=by,
    )


def _add_behaviours(baseline: Baseline, by: Any) -> None:
    for entry in BEHAVIOURS:
        behaviours.add_behaviour(
            baseline=baseline,
            name=f"{entry['name']}: margin",
            kind=BehaviourKind.MEAN_MARGIN,
            definition=entry["definition"],
            by=by,
        )
    behaviours.attribute(baseline=baseline, by=by)


def _propose(baseline: Baseline, by: Any) -> None:
    target = baseline.behaviours.get(name__startswith="Negative tweets")
    _proposal(
        baseline,
        f"Remove the {EDITS} most harmful",
        f"Removing the {EDITS} training tweets most harmful to “{target}” raises it.",
        target,
        helpful=False,
        weight=0.0,
        by=by,
    )
    _proposal(
        baseline,
        f"Triple the {EDITS} most helpful",
        f"Tripling the weight of the {EDITS} training tweets most helpful to “{target}” raises it.",
        target,
        helpful=True,
        weight=3.0,
        by=by,
    )


def _proposal(
    baseline: Baseline,
    name: str,
    hypothesis: str,
    target: Behaviour,
    *,
    helpful: bool,
    weight: float,
    by: Any,
) -> None:
    proposal = proposals.create_proposal(baseline=baseline, name=name, hypothesis=hypothesis, by=by)
    chosen = extreme_examples(behaviour=target, method="replay", helpful=helpful, count=EDITS)
    proposals.set_weights(
        proposal=proposal,
        examples=[(row["train_index"], row["example_id"]) for row in chosen],
        weight=weight,
        by=by,
    )
    predictions.predict(proposal=proposal, by=by)
