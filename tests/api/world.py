"""A small world for API tests: examples, a trained baseline, a behaviour, scores, proposals."""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.models import (
    Arm,
    Baseline,
    BaselineState,
    Behaviour,
    Dataset,
    DatasetVersion,
    Influence,
    Job,
    JobKind,
    Membership,
    Project,
    Proposal,
    Registration,
    Retrain,
    Role,
    Scope,
    Suggestion,
    VersionState,
)
from curation.queries.examples import ExampleFilter
from curation.services import (
    behaviours,
    datasets,
    deletions,
    files,
    jobs,
    predictions,
    probe_sets,
    projects,
    proposals,
    registrations,
    tokens,
    training_setup,
    uploads,
    webhooks,
)
from workers.evidence.bank_evidence import random_edit_scale
from workers.evidence.suggestions import suggest_edits
from workers.tasks.calibrations import fit_calibration

TRAIN, PROBE, SEEDS = 60, 20, 3
LABELS = ("down", "up")


@dataclass
class World:
    people: dict[str, Any]
    project: Project
    dataset: Dataset
    version: DatasetVersion
    baseline: Baseline
    behaviour: Behaviour
    influence: Influence
    proposal: Proposal
    registration: Registration
    job: Job
    objects: dict[str, Any]

    @property
    def owner(self) -> Any:
        return self.people["owner"]


def parquet_of_examples(train: int = TRAIN, probe: int = PROBE) -> bytes:
    """The canonical table of a text classification set."""
    total = train + probe
    split = ["train"] * train + ["probe"] * probe
    columns = {
        "example_id": pa.array([f"e{i}" for i in range(total)]),
        "position": pa.array(range(total), pa.int64()),
        "split": pa.array(split),
        "train_index": pa.array([i if i < train else None for i in range(total)], pa.int32()),
        "probe_index": pa.array(
            [i - train if i >= train else None for i in range(total)], pa.int32()
        ),
        "text": pa.array(["=1+1" if i == 3 else f"sentence number {i}" for i in range(total)]),
        "label": pa.array([LABELS[i % 2] for i in range(total)]),
        "attribute_source": pa.array([f"s{i % 3}" for i in range(total)]),
    }
    metadata = {"hunch": json.dumps({"task": "text_classification", "classes": list(LABELS)})}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), stream)
    return stream.getvalue()


def stored_array(values: np.ndarray) -> Any:
    stream = io.BytesIO()
    np.save(stream, values.astype(np.float32))
    return files.store_bytes(content=stream.getvalue())


def make_world(people: dict[str, Any]) -> World:
    owner = people["owner"]
    project = projects.create_project(name="World", by=owner)
    for role in (Role.EDITOR, Role.REVIEWER, Role.VIEWER):
        Membership.objects.create(project=project, user=people[role], role=role)
    dataset = datasets.create_dataset(project=project, name="sentences", by=owner)
    content = files.store_bytes(content=parquet_of_examples())
    version = DatasetVersion.objects.create(
        dataset=dataset,
        number=1,
        state=VersionState.READY,
        file_name="sentences.parquet",
        source_file=content,
        examples_file=content,
        task="text_classification",
        classes=list(LABELS),
        content_sha256=content.sha256,
        train_count=TRAIN,
        probe_count=PROBE,
        created_by=owner,
    )
    model = training_setup.create_model(
        project=project, name="bag", architecture={"name": "bag_of_embeddings"}, by=owner
    )
    recipe = training_setup.create_recipe(
        project=project, name="short", settings={"epochs": 2}, by=owner
    )
    baseline = Baseline.objects.create(
        project=project,
        name="first",
        dataset_version=version,
        model=model,
        recipe=recipe,
        seeds=list(range(SEEDS)),
        next_seed=SEEDS,
        state=BaselineState.READY,
        created_by=owner,
    )
    behaviour = behaviours.add_behaviour(
        baseline=baseline,
        name="margin",
        kind="mean_margin",
        definition={"selection": "all"},
        by=owner,
    )
    Behaviour.objects.filter(pk=behaviour.pk).update(values={"0": 1.0, "1": 1.2, "2": 0.9})
    influence = add_scores(baseline, behaviour)
    proposal = proposals.create_proposal(
        baseline=baseline, name="drop two", hypothesis="They are mislabelled.", by=owner
    )
    proposals.set_weights(proposal=proposal, examples=[(0, "e0"), (3, "e3")], weight=0, by=owner)
    predictions.predict(proposal=proposal, by=owner)
    locked = proposals.copy(proposal=proposal, name="locked", by=owner)
    predictions.predict(proposal=locked, by=owner)
    registration = registrations.register(
        proposal=locked,
        primary_behaviour=behaviour,
        number_of_seeds=2,
        smallest_effect=0.0,
        by=owner,
    )
    retrain = add_retrain(proposal, behaviour, owner)
    suggestion = add_suggestion(behaviour, owner)
    job = jobs.enqueue(
        project=project, kind=JobKind.ATTRIBUTE, target_id=baseline.pk, created_by=owner
    )
    unwanted = datasets.create_dataset(project=project, name="unwanted", by=owner)
    deletion = deletions.delete(target=unwanted, by=owner)
    upload = uploads.begin(project=project, file_name="a.jsonl", size=10, by=owner)
    webhook = webhooks.create_webhook(
        project=project, url="https://example.com/hook", events=["job.failed"], by=owner
    )
    probe_set = probe_sets.save_probe_set(
        version=version, name="all", wanted=ExampleFilter(), chosen="all", by=owner
    )
    token, _ = tokens.create_token(user=owner, name="listed", scopes=[Scope.READ])
    objects = {
        "project_id": project.pk,
        "dataset_id": dataset.pk,
        "version_id": version.pk,
        "model_id": model.pk,
        "recipe_id": recipe.pk,
        "baseline_id": baseline.pk,
        "behaviour_id": behaviour.pk,
        "influence_id": influence.pk,
        "proposal_id": proposal.pk,
        "registration_id": registration.pk,
        "retrain_id": retrain.pk,
        "suggestion_id": suggestion.pk,
        "job_id": job.pk,
        "upload_id": upload.pk,
        "webhook_id": webhook.pk,
        "deletion_id": deletion.pk,
        "probe_set_id": probe_set.pk,
        "token_id": token.pk,
        "user_name": "viewer",
        "number": 1,
    }
    return World(
        people,
        project,
        dataset,
        version,
        baseline,
        behaviour,
        influence,
        proposal,
        registration,
        job,
        objects,
    )


def add_scores(baseline: Baseline, behaviour: Behaviour) -> Influence:
    """Known scores: the aggregate of train index i is i/100, and each seed shifts it a little."""
    aggregate, per_seed = known_scores()
    influence = Influence.objects.create(
        baseline=baseline,
        behaviour=behaviour,
        method="replay",
        scores_file=stored_array(aggregate),
        per_seed_file=stored_array(per_seed),
        seeds=list(range(SEEDS)),
        diagnostics={"random_edit_scale": float(random_edit_scale(aggregate[:, None])[0])},
    )
    fit_calibration(baseline, "replay")
    return influence


def known_scores() -> tuple[np.ndarray, np.ndarray]:
    """(N,) aggregate and (S, N) for each seed."""
    aggregate = np.arange(TRAIN) / 100
    return aggregate, aggregate[None, :] + np.array([[-0.01], [0.0], [0.01]])


def add_retrain(proposal: Proposal, behaviour: Behaviour, owner: Any) -> Retrain:
    """The first finished retrain of another test, which is locked as well."""
    other = proposals.copy(proposal=proposal, name="locked too", by=owner)
    predictions.predict(proposal=other, by=owner)
    registration = registrations.register(
        proposal=other,
        primary_behaviour=behaviour,
        number_of_seeds=2,
        smallest_effect=0.0,
        by=owner,
    )
    return Retrain.objects.create(
        registration=registration,
        arm=Arm.EDITED,
        seed=registration.seeds[0],
        values={str(behaviour.pk): 1.0},
    )


def add_suggestion(behaviour: Behaviour, owner: Any) -> Suggestion:
    """Two examples that should count three times, as found from the known scores."""
    found = suggest_edits(known_scores()[1][:, :, None], 0, 2, 3.0)
    return Suggestion.objects.create(
        behaviour=behaviour,
        method="replay",
        number_of_edits=2,
        new_weight=3.0,
        result=found.to_json(),
        created_by=owner,
    )
