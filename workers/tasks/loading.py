"""From database rows and stored files to the learning code's objects, and from its results back
to files."""

import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from django.conf import settings
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from curation.models import Baseline, Behaviour, BehaviourKind, Model, StoredFile
from curation.services.files import local_path, store_path, work_folder
from workers.formats.canonical import read_metadata
from workers.influence.behaviours import Behaviour as MeasuredBehaviour
from workers.influence.behaviours import without_extensions
from workers.training.device import checked_device
from workers.training.encoding import Encoded, encode_examples, encode_rows, text_table
from workers.training.examples import EncodedExamples
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun

FEATURES_FOLDER = Path(settings.WORK_ROOT) / "features"


@dataclass(frozen=True)
class LoadedBaseline:
    """A baseline's training problem, its encoded probe split, and what encodes new examples
    alike."""

    problem: TrainingProblem
    encoded: Encoded
    classes: list[str]

    @property
    def probe(self) -> EncodedExamples:
        return self.encoded.probe


@lru_cache(maxsize=2)
def load_baseline(baseline_id: UUID) -> LoadedBaseline:
    """Everything about a baseline is immutable, so a worker keeps the last ones it used."""
    baseline = Baseline.objects.select_related(
        "dataset_version__examples_file", "model", "recipe"
    ).get(pk=baseline_id)
    version = baseline.dataset_version
    assert version.examples_file is not None
    path = local_path(version.examples_file)
    recipe = Recipe.from_json(baseline.recipe.settings)
    with work_folder() as folder:
        encoded = encode_examples(
            pq.read_table(path),
            read_metadata(path),
            baseline.model.architecture,
            model_folder=model_folder(baseline.model, folder),
            cache_folder=FEATURES_FOLDER,
        )
    problem = TrainingProblem(
        architecture=encoded.architecture,
        train=encoded.train,
        recipe=recipe,
        loss=encoded.loss,
        starting_weights=encoded.starting_weights,
        device=checked_device(settings.DEVICE),
    )
    return LoadedBaseline(problem, encoded, list(version.classes))


def frozen_features(baseline: Baseline, encoder: Model) -> torch.Tensor:
    """(N, H) features of the baseline's train texts by an uploaded encoder, as they are."""
    version = baseline.dataset_version
    assert version.examples_file is not None
    path = local_path(version.examples_file)
    head = {"name": "transformers", "trained_part": "head", "standardise": False}
    with work_folder() as folder:
        encoded = encode_examples(
            pq.read_table(path),
            read_metadata(path),
            encoder.architecture | head,
            model_folder=model_folder(encoder, folder),
            cache_folder=FEATURES_FOLDER,
        )
    return encoded.train.inputs["features"]


def baseline_runs(baseline: Baseline, loaded: LoadedBaseline) -> list[TrainingRun]:
    """The baseline's finished runs, a seed each, without their recorded states."""
    layout = ParameterLayout.of(loaded.problem.build_network(0))
    return [
        TrainingRun(
            problem=loaded.problem,
            seed=run.seed,
            weights=None,
            parameters=load_parameters(run.parameters_file),
            layout=layout,
            learning_curve=tuple(run.learning_curve),
            seconds=run.seconds,
        )
        for run in baseline.runs.select_related("parameters_file")
    ]


def model_folder(model: Model, parent: Path) -> Path | None:
    """The uploaded files of a model under their own names in a private folder.

    Hard links or copies, since reading a model refuses symbolic links.
    """
    if not model.files:
        return None
    folder = parent / "model"
    folder.mkdir()
    stored = StoredFile.objects.in_bulk(list(model.files.values()))
    for name, sha256 in model.files.items():
        target = folder / Path(name).name
        try:
            os.link(local_path(stored[sha256]), target)
        except OSError:
            shutil.copyfile(local_path(stored[sha256]), target)
    return folder


def measured_behaviours(
    loaded: LoadedBaseline, behaviours: list[Behaviour]
) -> list[MeasuredBehaviour]:
    """The learning code's behaviours over the baseline's probe examples, in the given order."""
    return [_measured(loaded, behaviour) for behaviour in behaviours]


def _measured(loaded: LoadedBaseline, behaviour: Behaviour) -> MeasuredBehaviour:
    if behaviour.pasted_examples and "prompt" in behaviour.pasted_examples[0]:
        return _measured_completions(loaded, behaviour)
    if behaviour.pasted_examples:
        examples = _encode_pasted(loaded, behaviour)
    elif behaviour.kind.startswith("completion_") and _counts_prompts(loaded):
        examples = _probe_completions(behaviour.baseline_id).select(_indices(behaviour))
    else:
        examples = loaded.probe.select(_indices(behaviour))
    label = loaded.classes.index(behaviour.label) if behaviour.label else None
    return MeasuredBehaviour(kind=behaviour.kind, examples=examples, label=label)


def _indices(behaviour: Behaviour) -> torch.Tensor:
    return torch.tensor(behaviour.probe_indices)


def _counts_prompts(loaded: LoadedBaseline) -> bool:
    state = loaded.encoded.state
    return state["task"] == "prompt_completion" and bool(state["inputs"]["count_prompts"])


@lru_cache(maxsize=1)
def _probe_completions(baseline_id: UUID) -> EncodedExamples:
    """The probe split with completions alone counted, of a model that learns its prompts too."""
    baseline = Baseline.objects.select_related("dataset_version__examples_file", "model").get(
        pk=baseline_id
    )
    assert baseline.dataset_version.examples_file is not None
    table = pq.read_table(local_path(baseline.dataset_version.examples_file))
    probe = table.filter(pc.equal(table["split"], "probe")).sort_by("probe_index")
    return _encoded(baseline, load_baseline(baseline_id), probe, completions_only=True)


def _measured_completions(loaded: LoadedBaseline, behaviour: Behaviour) -> MeasuredBehaviour:
    """A language model's behaviour over pasted prompts."""
    pasted, definition = behaviour.pasted_examples, behaviour.definition
    prompts = [example["prompt"] for example in pasted]

    def encoded(prompts: list[str], completions: list[str]) -> EncodedExamples:
        table = text_table(completions, prompts=prompts)
        ends = definition.get("ends", False)
        return _encoded(behaviour.baseline, loaded, table, completions_only=True, ends=ends)

    if behaviour.kind == BehaviourKind.TOKEN_CLASS_PROBABILITY:
        words = definition["words"]
        owners = torch.arange(len(prompts)).repeat_interleave(len(words))
        examples = encoded([prompts[owner] for owner in owners], words * len(prompts))
        kept = without_extensions(examples, owners)
        return MeasuredBehaviour(behaviour.kind, examples.select(kept), prompts=owners[kept])
    alternatives = None
    if behaviour.kind == BehaviourKind.COMPLETION_PREFERENCE:
        alternatives = encoded(prompts, [example["alternative"] for example in pasted])
    examples = encoded(prompts, [example["completion"] for example in pasted])
    return MeasuredBehaviour(behaviour.kind, examples, alternatives=alternatives)


def _encode_pasted(loaded: LoadedBaseline, behaviour: Behaviour) -> EncodedExamples:
    table = text_table(
        [example["text"] for example in behaviour.pasted_examples],
        [example["label"] for example in behaviour.pasted_examples],
    )
    return _encoded(behaviour.baseline, loaded, table)


def _encoded(
    baseline: Baseline, loaded: LoadedBaseline, table: pa.Table, **options: bool
) -> EncodedExamples:
    with work_folder() as folder:
        uploaded = model_folder(baseline.model, folder)
        return encode_rows(table, loaded.encoded.state, uploaded, FEATURES_FOLDER, **options)


def example_weights(
    count: int, edits: tuple[NDArray[np.int64], NDArray[np.float64]]
) -> torch.Tensor:
    """(N,) weights: 1 but for the edited train examples."""
    weights = torch.ones(count)
    indices, values = edits
    weights[torch.tensor(indices)] = torch.tensor(values, dtype=weights.dtype)
    return weights


def store_array(array: NDArray[np.generic]) -> StoredFile:
    """A NumPy array as a content-addressed .npy file."""
    with work_folder() as folder:
        np.save(folder / "array.npy", array, allow_pickle=False)
        return store_path(path=folder / "array.npy")


def store_parameters(parameters: torch.Tensor) -> StoredFile:
    """The flat trained parameters (P,) as safetensors."""
    with work_folder() as folder:
        save_file({"parameters": parameters.contiguous()}, folder / "parameters.safetensors")
        return store_path(path=folder / "parameters.safetensors")


def load_parameters(stored: StoredFile) -> torch.Tensor:
    return load_file(local_path(stored))["parameters"]
