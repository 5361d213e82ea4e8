"""The recipe: everything besides data, model and seed that makes a training run deterministic."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "linear", "cosine")
TRAINED_PARTS = ("all", "last_layers", "head", "lora")
PRECISIONS = ("float32", "float64", "mixed_bfloat16")


class RecipeError(ValueError):
    """A field of a recipe breaks a rule; `field` names it."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"recipe field “{field}”: {rule}")
        self.field = field
        self.rule = rule


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. The defaults suit a small head or MLP, and training that answers
    smoothly to example weights (docs/methods/replay.md has what was measured)."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    """SGD only."""
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    """AdamW only, inside the root: the step divides by sqrt(v + epsilon). Far below the squared
    gradients, first steps depend on little more than their signs, and training is not smooth."""
    weight_decay: float = 0.01
    """AdamW: decoupled from the gradient. SGD: added to the gradient."""
    schedule: str = "constant"
    warmup_steps: int = 10
    batch_size: int = 32
    epochs: int = 10
    trained_part: str = "all"
    dropout: float = 0.0
    precision: str = "float32"
    micro_batch_size: int = 0
    """Examples that go through the network at once; a step's gradient is summed over such parts of
    its batch. 0 takes the whole batch."""
    recompute_activations: bool = False
    """Keep only what enters each layer of a deep network and compute the rest again on the way
    back: less memory and about a third more time in training. Replay's second derivatives keep
    everything; there micro-batches save memory."""

    def validate(self) -> None:
        """Raises RecipeError, naming the first field that breaks a rule."""
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), type(field.default))
        _require("optimizer", self.optimizer in OPTIMIZERS, f"must be one of {OPTIMIZERS}")
        _require("schedule", self.schedule in SCHEDULES, f"must be one of {SCHEDULES}")
        _require(
            "trained_part", self.trained_part in TRAINED_PARTS, f"must be one of {TRAINED_PARTS}"
        )
        _require("precision", self.precision in PRECISIONS, f"must be one of {PRECISIONS}")
        _require("learning_rate", 0 < self.learning_rate <= 100, "must be above 0, at most 100")
        for name in ("momentum", "beta1", "beta2", "dropout"):
            _require(name, 0 <= getattr(self, name) < 1, "must be at least 0 and below 1")
        _require("epsilon", 0 < self.epsilon <= 1, "must be above 0, at most 1")
        _require("weight_decay", 0 <= self.weight_decay <= 100, "must be between 0 and 100")
        _require("batch_size", 1 <= self.batch_size <= 65_536, "must be between 1 and 65536")
        _require(
            "micro_batch_size",
            0 <= self.micro_batch_size <= self.batch_size,
            "must be between 0 and the batch size",
        )
        _require("epochs", 1 <= self.epochs <= 10_000, "must be between 1 and 10000")
        _require(
            "warmup_steps", 0 <= self.warmup_steps <= 10_000_000, "must be between 0 and 10000000"
        )

    def decisive_json(self) -> dict[str, Any]:
        """The fields that decide what is trained; the last two only say how memory is spent."""
        kept = self.to_json()
        for name in ("micro_batch_size", "recompute_activations"):
            del kept[name]
        return kept

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary of all fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> Recipe:
        """A validated recipe from a dictionary or JSON text; missing fields take their defaults.

        Raises RecipeError for an unknown field, a wrong type or a value out of range.
        """
        values = json.loads(data) if isinstance(data, str) else dict(data)
        known = {field.name: type(field.default) for field in fields(cls)}
        for name, value in values.items():
            _require(str(name), name in known, "is not a field of a recipe")
            if known[name] is float and isinstance(value, int) and not isinstance(value, bool):
                values[name] = float(value)
        recipe = cls(**values)
        recipe.validate()
        return recipe


def _require(field: str, holds: bool, rule: str) -> None:
    if not holds:
        raise RecipeError(field, rule)


def _check_type(field: str, value: object, wanted: type) -> None:
    accepted: tuple[type, ...] = (int, float) if wanted is float else (wanted,)
    is_right = isinstance(value, accepted) and isinstance(value, bool) == (wanted is bool)
    _require(field, is_right, f"must be a {wanted.__name__}")
    if isinstance(value, float):
        _require(field, math.isfinite(value), "must be finite")
