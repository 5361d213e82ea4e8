"""The influence methods by name, title and question, as the learning code registers them: the web
process cannot import that. A test holds the two equal."""

from dataclasses import dataclass

from django.db.models import Count

from curation.models import Baseline


@dataclass(frozen=True)
class KnownMethod:
    """A method that can be asked for. `question` is what its scores answer."""

    name: str
    title: str
    question: str


KNOWN_METHODS = (
    KnownMethod(
        "replay",
        "Replay",
        "How would the behaviour change if the model were trained again, with the same "
        "seed for one seed's scores and with a fresh seed for their mean?",
    ),
    KnownMethod(
        "curvature",
        "Curvature",
        "How would the behaviour change if the finished model moved to where its "
        "training objective, nearly quadratic around it, has its new minimum?",
    ),
    KnownMethod(
        "ekfac",
        "EK-FAC",
        "How would the behaviour change if the finished model moved to where its "
        "training objective, nearly quadratic layer by layer, has its new minimum?",
    ),
    KnownMethod(
        "unrolled",
        "Unrolled segments (SOURCE)",
        "How would the behaviour change had the example's weight been different "
        "throughout the training, taken as nearly quadratic between a few states?",
    ),
    KnownMethod(
        "shrunken_replay",
        "Replay shrunk over seeds",
        "How would the behaviour change, on average over fresh seeds, if the model were "
        "trained again?",
    ),
    KnownMethod(
        "gradient_dot",
        "Gradient dot product",
        "Which examples pull the finished model along the behaviour?",
    ),
    KnownMethod(
        "gradient_cosine",
        "Gradient cosine",
        "Which examples pull the finished model in the behaviour's direction?",
    ),
    KnownMethod(
        "checkpoints",
        "Checkpoints (TracIn)",
        "How far did the steps on this example move the behaviour while the model was trained?",
    ),
    KnownMethod(
        "projected",
        "Projected gradients (TRAK)",
        "How would the behaviour change if the finished model moved to the new minimum "
        "near it, as far as randomly projected gradients tell?",
    ),
    KnownMethod(
        "leave_one_out",
        "Leave-one-out",
        "How would the behaviour change if the fully converged linear model lost this example?",
    ),
    KnownMethod(
        "control_gradient_norm",
        "Control: gradient norm",
        "Which examples still pull hardest on the finished model?",
    ),
    KnownMethod(
        "control_loss",
        "Control: loss",
        "Which examples does the finished model fit worst?",
    ),
    KnownMethod(
        "control_random",
        "Control: random",
        "How well would chance alone do?",
    ),
    KnownMethod(
        "control_text_overlap",
        "Control: text overlap (BM25)",
        "Which examples share rare words with the probe examples?",
    ),
    KnownMethod(
        "control_embedding_similarity",
        "Control: embedding similarity",
        "Which examples look like the probe examples to the encoder?",
    ),
)
TITLES = {one.name: one.title for one in KNOWN_METHODS}


@dataclass(frozen=True)
class MethodState:
    """A known method and of how many of the baseline's behaviours it has scores."""

    method: KnownMethod
    scored: int
    behaviours: int

    @property
    def is_complete(self) -> bool:
        return self.scored == self.behaviours


def title_of(method: str) -> str:
    """For people; of a method that is known no more, its name in words."""
    return TITLES.get(method, method.replace("_", " ").capitalize())


def method_states(baseline: Baseline) -> list[MethodState]:
    """Every known method, in one query."""
    counted = (
        baseline.influences.filter(behaviour__archived_at=None)
        .values_list("method")
        .annotate(Count("pk"))
    )
    scored = dict(counted)
    total = baseline.behaviours.filter(archived_at=None).count()
    return [MethodState(one, scored.get(one.name, 0), total) for one in KNOWN_METHODS]
