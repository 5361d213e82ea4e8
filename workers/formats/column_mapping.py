"""Which column of an upload plays which part; says nothing about how the file is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from workers.formats.errors import FormatError

TASKS = (
    "text_classification",
    "tabular_classification",
    "tabular_regression",
    "image_classification",
    "text",
    "prompt_completion",
)
CLASSIFICATION_TASKS = ("text_classification", "tabular_classification", "image_classification")
TRAIN_VALUES = ("train", "training")
PROBE_VALUES = (
    "probe",
    "test",
    "validation",
    "valid",
    "val",
    "dev",
    "eval",
    "evaluation",
    "holdout",
)

_NAMES: dict[str, tuple[str, ...]] = {
    "example_id": ("example_id", "id", "uid", "guid", "uuid", "row_id"),
    "text": ("text", "sentence", "content", "review", "message", "document", "tweet", "body"),
    "label": ("label", "labels", "class", "category", "sentiment", "intent", "target", "y"),
    "probe_label": ("probe_label", "gold_label", "crowd_label", "true_label", "gold"),
    "split": ("split", "subset", "partition", "fold"),
    "prompt": ("prompt", "instruction", "question", "input"),
    "completion": ("completion", "response", "answer", "output"),
    "messages": ("messages", "conversation", "conversations"),
    "image": ("image", "pixels", "img"),
    "target": ("target", "y", "score", "value", "price"),
    "features": ("features", "embedding", "vector", "x"),
}


@dataclass(frozen=True)
class ColumnMapping:
    """The part every column plays. Columns named nowhere are kept as `attribute_*`.

    `features` holds the numeric columns, or one column of number lists. `image` is a column of
    number lists whose product of `image_shape` = [channels, height, width] is its length. Without
    a `split` column a hash of the content and `seed` sends `probe_fraction` of the examples to the
    probe split, so that equal contents always share a split.
    """

    task: str
    example_id: str | None = None
    text: str | None = None
    features: tuple[str, ...] = ()
    image: str | None = None
    image_shape: tuple[int, int, int] | None = None
    prompt: str | None = None
    completion: str | None = None
    messages: str | None = None
    label: str | None = None
    target: str | None = None
    probe_label: str | None = None
    split: str | None = None
    train_values: tuple[str, ...] = TRAIN_VALUES
    probe_values: tuple[str, ...] = PROBE_VALUES
    probe_fraction: float = 0.2
    seed: int = 0
    left_out: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ColumnMapping:
        """Read the JSON form; raises FormatError naming the key that is unknown or of a wrong
        type."""
        known = {item.name for item in fields(cls)}
        for key in value:
            if key not in known:
                raise FormatError(field=str(key), rule="is not a part of a column mapping")
        arguments: dict[str, Any] = {}
        for key, item in value.items():
            if key in ("features", "train_values", "probe_values", "left_out", "image_shape"):
                if item is not None and not isinstance(item, (list, tuple)):
                    raise FormatError(field=key, rule="must be a list")
                if not item and key in ("train_values", "probe_values"):
                    continue  # an empty list means the usual values
                arguments[key] = None if item is None else tuple(item)
            else:
                arguments[key] = item
        if not isinstance(arguments.get("task"), str):
            raise FormatError(field="task", rule=f"must be one of {', '.join(TASKS)}")
        mapping = cls(**arguments)
        mapping.check_types()
        return mapping

    def check_types(self) -> None:
        """Raise FormatError for a value of a wrong type or outside its range."""
        for name in ("example_id", "text", "image", "prompt", "completion", "messages", "label",
                     "target", "probe_label", "split"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise FormatError(field=name, rule="must be a column name")
        for name in ("features", "train_values", "probe_values", "left_out"):
            if not all(isinstance(item, str) and item for item in getattr(self, name)):
                raise FormatError(field=name, rule="must be a list of non-empty texts")
        fraction = self.probe_fraction
        if not isinstance(fraction, (int, float)) or isinstance(fraction, bool):
            raise FormatError(field="probe_fraction", rule="must be a number")
        if not math.isfinite(fraction) or not 0 < fraction < 1:
            raise FormatError(field="probe_fraction", rule="must lie between 0 and 1")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool):
            raise FormatError(field="seed", rule="must be a whole number")
        if self.image_shape is not None:
            sizes = self.image_shape
            whole = all(isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sizes)
            if len(sizes) != 3 or not whole:
                raise FormatError(
                    field="image_shape", rule="must be [channels, height, width], each at least 1"
                )

    def columns(self) -> tuple[str, ...]:
        """Every mapped column, each once."""
        single = (self.example_id, self.text, self.image, self.prompt, self.completion,
                  self.messages, self.label, self.target, self.probe_label, self.split)  # fmt: skip
        return tuple(dict.fromkeys([c for c in single if c is not None] + list(self.features)))

    def check(self, columns: Sequence[str], file: str | None = None) -> None:
        """Raise FormatError unless the mapping is complete for its task and names columns that
        exist."""
        self.check_types()
        if self.task not in TASKS:
            raise FormatError(file, field="task", rule=f"must be one of {', '.join(TASKS)}")
        for part in self._required():
            if not getattr(self, part):
                raise FormatError(
                    file, field=part, rule=f"choose a column for '{part}' ({self.task})"
                )
        if self.task == "image_classification" and self.image_shape is None:
            raise FormatError(file, field="image_shape", rule="give [channels, height, width]")
        present = set(columns)
        for name in (*self.columns(), *self.left_out):
            if name not in present:
                listed = ", ".join(list(columns)[:12]) + (", …" if len(columns) > 12 else "")
                raise FormatError(
                    file, field=name, rule=f"there is no such column; the columns are: {listed}"
                )
        content = [
            self.text,
            self.image,
            self.prompt,
            self.completion,
            self.messages,
            *self.features,
        ]
        answers = [self.label, self.target, self.probe_label]
        shared = {c for c in content if c is not None} & {a for a in answers if a is not None}
        if shared:
            raise FormatError(
                file, field=sorted(shared)[0], rule="cannot be both an input and an answer"
            )
        if len(set(self.features)) != len(self.features):
            raise FormatError(file, field="features", rule="names a column twice")
        overlap = {v.strip().casefold() for v in self.train_values} & {
            v.strip().casefold() for v in self.probe_values
        }
        if overlap:
            raise FormatError(
                file, field="split", rule=f"'{sorted(overlap)[0]}' cannot mean both train and probe"
            )

    def _required(self) -> tuple[str, ...]:
        return {
            "text_classification": ("text", "label"),
            "tabular_classification": ("features", "label"),
            "tabular_regression": ("features", "target"),
            "image_classification": ("image", "label"),
            "text": ("text",),
            "prompt_completion": ("messages",) if self.messages else ("prompt", "completion"),
        }[self.task]

    def attribute_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The columns kept as `attribute_*`: all that are not mapped, and the split and, when a
        probe label is mapped, both answers, since each example keeps only one of them as its
        label."""
        used = set(self.columns()) | set(self.left_out)
        used.discard(self.split or "")
        if self.probe_label is not None:
            used -= {self.label, self.target, self.probe_label}
        return tuple(c for c in columns if c not in used and c not in self.left_out)


def suggest_mapping(types: Mapping[str, str]) -> ColumnMapping | None:
    """A first mapping from column names and inferred types (`text`, `category`, `integer`,
    `number`, `boolean`, `numbers`, `messages`, `other`); None where nothing fits."""
    found: dict[str, str] = {}
    for part, names in _NAMES.items():
        lowered = {c.casefold(): c for c in types}
        for name in names:
            if name in lowered and lowered[name] not in found.values():
                found[part] = lowered[name]
                break
    common: dict[str, Any] = {p: found[p] for p in ("example_id", "split") if p in found}
    answer: dict[str, Any] = {p: found[p] for p in ("label", "probe_label") if p in found}

    def of_type(part: str, *wanted: str) -> bool:
        return part in found and types[found[part]] in wanted

    if of_type("messages", "messages"):
        return ColumnMapping("prompt_completion", messages=found["messages"], **common)
    if of_type("prompt", "text", "category") and of_type("completion", "text", "category"):
        return ColumnMapping(
            "prompt_completion", prompt=found["prompt"], completion=found["completion"], **common
        )
    if "text" not in found:
        longest = [c for c, t in types.items() if t == "text" and c not in found.values()]
        if longest:
            found["text"] = longest[0]
    if of_type("text", "text", "category"):
        if "label" in answer:
            return ColumnMapping("text_classification", text=found["text"], **common, **answer)
        return ColumnMapping("text", text=found["text"], **common)
    return _suggest_numeric(types, found, common, answer)


def _suggest_numeric(
    types: Mapping[str, str], found: dict[str, str], common: dict[str, Any], answer: dict[str, Any]
) -> ColumnMapping | None:
    lists = [c for c, t in types.items() if t == "numbers"]
    taken = {*common.values(), *answer.values(), found.get("target", "")}
    numeric = [c for c, t in types.items() if t in ("integer", "number", "boolean")]
    features = (lists[0],) if lists else tuple(c for c in numeric if c not in taken)
    if not features:
        return None
    if "image" in found and "label" in answer and types[found["image"]] == "numbers":
        return ColumnMapping("image_classification", image=found["image"], **common, **answer)
    label = answer.get("label")
    if label is not None and types[label] != "number":
        return ColumnMapping("tabular_classification", features=features, **common, **answer)
    target = label or found.get("target")
    if target is None:
        return None
    features = tuple(c for c in features if c != target)
    if not features:
        return None
    return ColumnMapping("tabular_regression", features=features, target=target, **common)
