"""What the API answers, as frozen dataclasses. Fields that are not known here are ignored."""

from dataclasses import dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True)
class Record:
    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True)
class Project(Record):
    id: str
    name: str
    description: str = ""


@dataclass(frozen=True)
class Dataset(Record):
    id: str
    project_id: str
    name: str


@dataclass(frozen=True)
class Version(Record):
    id: str
    dataset_id: str
    number: int
    state: str
    task: str
    classes: list[str]
    train_count: int
    probe_count: int
    content_sha256: str
    inspection: dict[str, Any]
    error: str


@dataclass(frozen=True)
class Deletion(Record):
    """What was deleted with all that went with it; `purge_after` is None for an archived
    project."""

    id: str
    project_id: str
    object_kind: str
    object_id: str
    name: str
    counts: dict[str, int]
    purge_after: str | None


@dataclass(frozen=True)
class Model(Record):
    id: str
    project_id: str
    name: str
    architecture: dict[str, Any]
    state: str
    error: str


@dataclass(frozen=True)
class Recipe(Record):
    id: str
    project_id: str
    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Baseline(Record):
    id: str
    project_id: str
    name: str
    dataset_version_id: str
    state: str
    seeds: list[int]
    replayable: bool
    warnings: list[Any]
    error: str


@dataclass(frozen=True)
class Behaviour(Record):
    id: str
    baseline_id: str
    name: str
    kind: str
    unit: str
    better: str
    number_of_examples: int
    values: dict[str, float | None]
    prompt_values: dict[str, list[float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Influence(Record):
    id: str
    baseline_id: str
    behaviour_id: str
    method: str


@dataclass(frozen=True)
class Proposal(Record):
    id: str
    project_id: str
    baseline_id: str
    name: str
    hypothesis: str
    state: str
    revision: int


@dataclass(frozen=True)
class Effect(Record):
    """A predicted change. A hypothesis, never a guarantee: retraining decides."""

    behaviour_id: str
    behaviour: str
    unit: str
    better: str
    method: str
    value: float
    low: float
    high: float
    level: float
    calibrated: bool
    warnings: list[str]
    combined: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Registration(Record):
    id: str
    project_id: str
    proposal_id: str
    primary_behaviour_id: str
    plan_sha256: str
    seeds: list[int]
    decision_rule: str
    state: str
    ended_reason: str


@dataclass(frozen=True)
class Verdict(Record):
    registration_id: str
    behaviour_id: str
    behaviour: str
    unit: str
    is_primary: bool
    outcome: str
    reason: str
    predicted: float
    predicted_low: float
    predicted_high: float
    actual: float | None
    actual_low: float | None
    actual_high: float | None
    placebo: float | None


@dataclass(frozen=True)
class Retrain(Record):
    id: str
    arm: str
    seed: int
    values: dict[str, float | None] | None
    accepted: bool
    review_reason: str


@dataclass(frozen=True)
class Suggestion(Record):
    """Edits to look at and test; `corrected_change` is what to expect of them."""

    id: str
    behaviour_id: str
    method: str
    number_of_edits: int
    new_weight: float
    guards: list[dict[str, Any]]
    number_found: int | None
    predicted_change: float | None
    corrected_change: float | None


@dataclass(frozen=True)
class SuggestedEdit(Record):
    example_id: str
    train_index: int
    weight: float
    gain: float
    group: int


@dataclass(frozen=True)
class LikelyLabelError(Record):
    example_id: str
    train_index: int
    label: str | None
    target: float | None
    score: float
    agreement: float
    reasons: list[str]
    likely_label: str | None
    likely_target: float | None
    probability: float | None


@dataclass(frozen=True)
class MethodChoice(Record):
    """The method, or weighted combination, that predicts a behaviour best on held-out edits."""

    behaviour_id: str
    method: str
    weights: dict[str, float]
    errors: dict[str, float | None]
    number_of_edits: int
    reason: str


@dataclass(frozen=True)
class TrackRecord(Record):
    """How predictions fared; slope 1 means that their sizes were right."""

    tests_by_state: dict[str, int]
    pairs: int
    sign_rate: float | None
    coverage: float | None
    units: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Job(Record):
    id: str
    project_id: str
    kind: str
    target_id: str
    state: str
    stage: str
    done: int
    total: int
    error: str
    revision: str

    @property
    def has_ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")
