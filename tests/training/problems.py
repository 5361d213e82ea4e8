"""Small problems that the tests of training and influence share."""

from __future__ import annotations

import torch

from workers.training.examples import EncodedExamples
from workers.training.problem import TrainingProblem
from workers.training.recipe import Recipe

MLP = {"name": "mlp", "hidden": [6], "number_of_features": 5, "number_of_outputs": 3}
SOFTMAX = {"name": "softmax_regression", "number_of_features": 5, "number_of_outputs": 3}
CONVOLUTIONAL = {
    "name": "convolutional",
    "image_shape": [1, 6, 6],
    "channels": [3, 4],
    "number_of_outputs": 3,
}
BAG = {
    "name": "bag_of_embeddings",
    "vocabulary_size": 20,
    "width": 4,
    "hidden": 5,
    "number_of_outputs": 3,
}
TRANSFORMER = {
    "name": "transformer",
    "vocabulary_size": 20,
    "maximum_length": 6,
    "width": 8,
    "heads": 2,
    "layers": 1,
    "number_of_outputs": 3,
}
LANGUAGE_MODEL = {**TRANSFORMER, "name": "causal_transformer"}
del LANGUAGE_MODEL["number_of_outputs"]
RIDGE = {"name": "linear_regression", "number_of_features": 5, "number_of_outputs": 1}

ARCHITECTURES = {
    "softmax": SOFTMAX,
    "mlp": MLP,
    "convolutional": CONVOLUTIONAL,
    "bag": BAG,
    "transformer": TRANSFORMER,
    "language model": LANGUAGE_MODEL,
    "ridge": RIDGE,
}


def examples_for(architecture: dict, number: int, seed: int = 0) -> EncodedExamples:
    """Random examples that `architecture` accepts, as learnable as noise."""
    generator = torch.Generator().manual_seed(seed)
    name = architecture["name"]
    classes = torch.randint(0, 3, (number,), generator=generator)
    ids = torch.randint(0, 20, (number, 6), generator=generator)
    mask = torch.arange(6) < torch.randint(2, 7, (number, 1), generator=generator)
    if name == "convolutional":
        image = torch.rand(number, 36, generator=generator)
        return EncodedExamples({"image": image}, classes)
    if name == "bag_of_embeddings":
        weights = torch.rand(number, 6, generator=generator) * mask
        return EncodedExamples({"ids": ids, "weights": weights}, classes)
    if name == "transformer":
        return EncodedExamples({"ids": ids, "mask": mask}, classes)
    if name == "causal_transformer":
        targets = torch.where(mask, ids.roll(-1, 1), -100)
        return EncodedExamples({"ids": ids, "mask": mask}, targets)
    features = torch.randn(number, 5, generator=generator)
    if name == "linear_regression":
        return EncodedExamples(
            {"features": features},
            features @ torch.ones(5) + torch.randn(number, generator=generator),
        )
    return EncodedExamples({"features": features}, classes)


def loss_of(architecture: dict) -> str:
    return {"causal_transformer": "next_token", "linear_regression": "squared_error"}.get(
        architecture["name"], "cross_entropy"
    )


def problem_of(architecture: dict = MLP, number: int = 10, **recipe: object) -> TrainingProblem:
    """A small problem in float64 with a partial last batch, unless `recipe` says otherwise."""
    settings = {
        "precision": "float64",
        "batch_size": 4,
        "epochs": 3,
        "learning_rate": 0.02,
        "weight_decay": 0.0,
        "warmup_steps": 0,
        **recipe,
    }
    return TrainingProblem(
        architecture,
        examples_for(architecture, number),
        Recipe(**settings),  # type: ignore[arg-type]
        loss_of(architecture),
    )
