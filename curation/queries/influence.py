"""Reading influence scores: the most helpful and most harmful training examples of a behaviour."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.models import Behaviour, Influence
from curation.queries.examples import ExampleTable
from curation.services.files import local_path


def extreme_indices(
    *, behaviour: Behaviour, method: str, helpful: bool, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(train indices, scores) of the `count` training examples whose weight most improves the
    behaviour
    (or worsens it), the strongest first; fewer when fewer have that sign, none without scores.

    A higher weight of a helpful example moves the behaviour in its better direction.
    """
    influence = (
        Influence.objects.filter(behaviour=behaviour, method=method)
        .select_related("scores_file")
        .first()
    )
    if influence is None:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    scores = np.load(local_path(influence.scores_file), mmap_mode="r", allow_pickle=False)
    better = 1 if behaviour.better == "higher" else -1
    gain = np.asarray(scores) * (better if helpful else -better)
    count = min(count, len(gain))
    top = np.argpartition(-gain, count - 1)[:count] if count else np.empty(0, np.int64)
    top = top[np.argsort(-gain[top], kind="stable")]
    top = top[gain[top] > 0]
    return top, scores[top]


def extreme_examples(
    *, behaviour: Behaviour, method: str, helpful: bool, count: int
) -> list[dict[str, Any]]:
    """The examples of `extreme_indices` with their content, label, id and `score`."""
    indices, scores = extreme_indices(
        behaviour=behaviour, method=method, helpful=helpful, count=count
    )
    if not len(indices):
        return []
    with ExampleTable(behaviour.baseline.dataset_version) as table:
        rows = table.by_train_index(indices)
    return [
        {**rows[int(index)], "score": float(score)}
        for index, score in zip(indices, scores, strict=True)
    ]
