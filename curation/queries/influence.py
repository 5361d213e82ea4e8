"""Reading influence scores: the most helpful and most harmful training examples of a behaviour."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.models import Behaviour, Influence, StoredFile
from curation.queries.arrays import stored_array
from curation.queries.examples import ExampleTable

MOST_KEPT = 20_000
SAMPLED_EVERY = 64


def extreme_indices(
    *, behaviour: Behaviour, method: str, helpful: bool, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(train indices, scores) of the `count` training examples whose weight most improves the
    behaviour (or worsens it), the strongest first; fewer when fewer have that sign, none without
    scores.

    A higher weight of a helpful example moves the behaviour in its better direction.
    """
    influence = (
        Influence.objects.filter(behaviour=behaviour, method=method)
        .select_related("scores_file")
        .first()
    )
    if influence is None:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    scores = stored_array(influence.scores_file)
    lowest = helpful != (behaviour.better == "higher")
    if count > MOST_KEPT:
        top = _extremes(scores, lowest, count)
    else:
        top = _kept_extremes(influence.scores_file, lowest)[:count].astype(np.int64)
    return top, scores[top]


@lru_cache(maxsize=64)
def _kept_extremes(stored: StoredFile, lowest: bool) -> NDArray[np.int32]:
    """Stored scores never change, so a process keeps the strongest of those it has read."""
    return _extremes(stored_array(stored), lowest, MOST_KEPT).astype(np.int32)


def _floor(strength: NDArray[np.float32], count: int) -> float:
    """A value that likely more than `count` strengths exceed, from a sample; at least 0.

    Sorting what lies above it takes a tenth of the time of partitioning everything.
    """
    sample = strength[::SAMPLED_EVERY]
    rank = 3 * count // (2 * SAMPLED_EVERY) + 8
    return max(0.0, float(np.partition(sample, -rank)[-rank])) if rank < len(sample) else 0.0


def _extremes(scores: NDArray[np.float32], lowest: bool, count: int) -> NDArray[np.int64]:
    """Indices of at most `count` lowest negative or highest positive scores, strongest first."""
    strength = -np.asarray(scores) if lowest else np.asarray(scores)
    found = np.flatnonzero(strength > _floor(strength, count))
    if len(found) < count:
        found = np.flatnonzero(strength > 0)
    if len(found) > count:
        found = found[np.argpartition(-strength[found], count - 1)[:count]]
    return found[np.argsort(-strength[found], kind="stable")]


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
