"""The small real tasks on which benchmarks measure: encoded data, recipe and behaviours. None of
them served to set a constant of the code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from workers.influence.behaviours import HIGHER_IS_BETTER, Behaviour, behaviour_values
from workers.training.encoding import encode_examples
from workers.training.examples import EncodedExamples
from workers.training.parameters import ParameterLayout
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe

ROOT = Path(__file__).parent.parent
SPAM = ROOT / "benchmarks" / "data" / "sms_spam.jsonl"
TWEETS = ROOT / "curation" / "sample_project" / "vader_tweets_one_rater.jsonl"
PROBE_SHARE = 0.3


@dataclass(frozen=True)
class BenchmarkTask:
    """A training problem and what is read of the trained model."""

    name: str
    problem: TrainingProblem
    behaviours: tuple[Behaviour, ...]  # K
    behaviour_names: tuple[str, ...]
    probe: EncodedExamples
    probe_places: tuple[Tensor, ...]
    """K; the places in `probe` of each behaviour's examples."""

    @property
    def better(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(K,) +1 where larger values are better, else −1."""
        return np.array([1.0 if HIGHER_IS_BETTER[b.kind] else -1.0 for b in self.behaviours])

    def measure(self, parameters: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(R, K) all behaviours at each row of final parameters (R, P)."""
        network = self.problem.build_network(0)
        layout = ParameterLayout.of(network)
        rows = [behaviour_values(self.behaviours, network, layout, row) for row in parameters]
        return torch.stack(rows).double().numpy()


def digits() -> BenchmarkTask:
    """1,797 handwritten digits of 64 pixels, a multilayer perceptron of 32 units."""
    from sklearn.datasets import load_digits

    data = load_digits()
    labels = [str(label) for label in data.target]
    table = {"features": features_column(data.data), "label": labels}
    encoded = encode(table, "tabular_classification", {"name": "mlp", "hidden": [32]}, seed=11)
    recipe = Recipe(learning_rate=3e-3, batch_size=64, epochs=8, schedule="linear")
    return task("digits, perceptron", encoded, recipe)


def diabetes() -> BenchmarkTask:
    """442 patients, ten measurements, progression of disease; a perceptron of 16 units."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    table = {"features": features_column(data.data), "target": data.target.astype(float)}
    encoded = encode(table, "tabular_regression", {"name": "mlp", "hidden": [16]}, seed=12)
    recipe = Recipe(learning_rate=3e-3, batch_size=32, epochs=15, schedule="cosine")
    return task("diabetes, perceptron", encoded, recipe)


def spam(rows: int | None = 2_400) -> BenchmarkTask:
    """Text messages, ham or spam; a bag of embeddings."""
    examples = read_lines(SPAM)[:rows]
    table = {
        "text": [one["text"] for one in examples],
        "label": [one["label"] for one in examples],
    }
    architecture = {"name": "bag_of_embeddings", "buckets": 1024, "width": 8, "hidden": 8}
    encoded = encode(table, "text_classification", architecture, seed=13)
    recipe = Recipe(learning_rate=1e-2, batch_size=64, epochs=4, schedule="linear")
    return task("text messages, bag of embeddings", encoded, recipe)


def tweets(rows: int | None = None) -> BenchmarkTask:
    """Tweets with one rater's noisy labels; a bag of embeddings, larger and trained longer than
    the sample project's. The probe split has the crowd's labels."""
    examples = [one for one in read_lines(TWEETS) if not one.get("crude")][:rows]
    table = {
        "text": [one["text"] for one in examples],
        "label": [one["label"] for one in examples],
        "crowd_label": [one["crowd_label"] for one in examples],
    }
    architecture = {"name": "bag_of_embeddings", "buckets": 1024, "width": 12, "hidden": 8}
    encoded = encode(table, "text_classification", architecture, seed=14)
    recipe = Recipe(learning_rate=5e-3, batch_size=64, epochs=5, schedule="cosine")
    return task("tweets of one rater, bag of embeddings", encoded, recipe)


def images() -> BenchmarkTask:
    """The same digits as images of 8 by 8, two convolutions of 8 and 16 channels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    labels = [str(label) for label in data.target]
    table = {"image": features_column(data.data), "label": labels}
    architecture = {"name": "convolutional", "channels": [8, 16]}
    encoded = encode(table, "image_classification", architecture, seed=16)
    recipe = Recipe(learning_rate=3e-3, batch_size=32, epochs=3, schedule="linear")
    return task("digits, convolutional network", encoded, recipe)


def small_transformer(rows: int | None = 1_200) -> BenchmarkTask:
    """Tweets with one rater's noisy labels; two transformer layers trained from scratch."""
    examples = [one for one in read_lines(TWEETS) if not one.get("crude")][:rows]
    table = {
        "text": [one["text"] for one in examples],
        "label": [one["label"] for one in examples],
    }
    architecture = {
        "name": "transformer",
        "width": 32,
        "layers": 2,
        "heads": 2,
        "maximum_length": 32,
        "tokenizer_size": 800,
    }
    encoded = encode(table, "text_classification", architecture, seed=15)
    recipe = Recipe(learning_rate=2e-3, batch_size=32, epochs=3, schedule="linear")
    return task("tweets, small transformer", encoded, recipe)


def default_images() -> BenchmarkTask:
    """The digits as images, the convolutional network that Hunch suggests: 16 and 32 channels."""
    one = images()
    architecture = {**one.problem.architecture, "channels": [16, 32]}
    return replace(
        one,
        name="digits, convolutional network of 16 and 32 channels",
        problem=replace(one.problem, architecture=architecture),
    )


def small_language_model(rows: int | None = 800) -> BenchmarkTask:
    """Text messages, next tokens; a causal transformer of two layers trained from scratch."""
    table = {"text": [one["text"] for one in read_lines(SPAM)[:rows]]}
    architecture = {
        "name": "causal_transformer",
        "width": 32,
        "layers": 2,
        "heads": 2,
        "maximum_length": 32,
        "tokenizer_size": 500,
        "loss_on": "all",
    }
    encoded = encode(table, "text", architecture, seed=17)
    recipe = Recipe(learning_rate=2e-3, batch_size=16, epochs=1)
    return task("text messages, small language model", encoded, recipe)


TASKS: dict[str, Callable[[], BenchmarkTask]] = {
    "digits": digits,
    "diabetes": diabetes,
    "spam": spam,
    "tweets": tweets,
}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def features_column(values: np.ndarray[Any, Any]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


@dataclass(frozen=True)
class EncodedSplits:
    architecture: dict[str, Any]
    loss: str
    train: EncodedExamples
    probe: EncodedExamples
    train_rows: np.ndarray[Any, np.dtype[np.int64]]  # row of the source of each train example


def encode(
    columns: dict[str, Any], kind: str, architecture: dict[str, Any], seed: int
) -> EncodedSplits:
    """The canonical table of a random split, encoded as Hunch encodes uploads."""
    total = len(next(iter(columns.values())))
    order = np.random.default_rng(seed).permutation(total)
    probe = np.sort(order[: round(PROBE_SHARE * total)])
    train = np.sort(order[round(PROBE_SHARE * total) :])
    source = pa.table({name: column for name, column in columns.items() if name != "crowd_label"})
    rows = pa.concat_tables([source.take(train), source.take(probe)])
    if "crowd_label" in columns:
        crowd = [columns["crowd_label"][row] for row in probe]
        labels = rows["label"].to_pylist()[: len(train)] + crowd
        rows = rows.set_column(rows.schema.get_field_index("label"), "label", [labels])
    split = ["train"] * len(train) + ["probe"] * len(probe)
    rows = rows.append_column("split", [split])
    rows = rows.append_column("train_index", pa.array([*range(len(train)), *[None] * len(probe)]))
    rows = rows.append_column("probe_index", pa.array([*[None] * len(train), *range(len(probe))]))
    metadata: dict[str, Any] = {"task": kind}
    if "label" in columns:
        metadata["classes"] = sorted(set(rows["label"].to_pylist()))
    if "image" in columns:
        side = round(source["image"].type.list_size ** 0.5)
        metadata["image_shape"] = [1, side, side]
    if "features" in columns:
        width = source["features"].type.list_size
        metadata["feature_names"] = [f"feature {place}" for place in range(width)]
    found = encode_examples(rows, metadata, architecture)
    return EncodedSplits(found.architecture, found.loss, found.train, found.probe, train)


def task(name: str, encoded: EncodedSplits, recipe: Recipe, seed: int = 0) -> BenchmarkTask:
    """The task with eight behaviours: the mean loss on all probe examples, and on seven random or
    natural slices of them; margins for half of them where there are classes."""
    probe = encoded.probe
    everything = torch.arange(len(probe))
    slices: list[tuple[str, str, Tensor]] = [("mean_loss", "all", everything)]
    margin = "mean_margin" if encoded.loss == "cross_entropy" else "mean_loss"
    if encoded.loss == "cross_entropy":
        for label in probe.targets.unique()[:3].tolist():
            slices.append(
                ("mean_loss", f"class {label}", torch.nonzero(probe.targets == label)[:, 0])
            )
    generator = torch.Generator().manual_seed(seed)
    while len(slices) < 8:
        chosen = torch.randperm(len(probe), generator=generator)[:40]
        slices.append((margin, f"random slice {len(slices)}", chosen))
    return BenchmarkTask(
        name,
        TrainingProblem(encoded.architecture, encoded.train, recipe, encoded.loss),
        tuple(Behaviour(kind, probe.select(indices)) for kind, _, indices in slices),
        tuple(f"{kind} on {what}" for kind, what, _ in slices),
        probe,
        tuple(indices for _, _, indices in slices),
    )


def weights_of_edits(
    edits: Sequence[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]], number_of_examples: int
) -> Tensor:
    """(E, N) weights: 1 but for the (train indices, new weights) of each edit."""
    weights = torch.ones(len(edits), number_of_examples)
    for row, (indices, values) in enumerate(edits):
        weights[row, torch.as_tensor(indices)] = torch.as_tensor(values, dtype=torch.float32)
    return weights
