"""The most influential examples found by a sampled floor are those of a plain sort."""

import numpy as np
import pytest

from curation.queries.influence import _extremes


def plain(scores: np.ndarray, lowest: bool, count: int) -> list[float]:
    signed = -scores if lowest else scores
    return sorted((float(x) for x in signed if x > 0), reverse=True)[:count]


@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize("count", [1, 10, 1_000, 60_000])
@pytest.mark.parametrize("kind", ["normal", "sparse", "sorted", "negative", "with gaps", "clumped"])
def test_they_are_those_of_a_plain_sort(kind: str, count: int, lowest: bool) -> None:
    draw = np.random.default_rng(0)
    scores = draw.normal(size=50_000).astype(np.float32)
    if kind == "sparse":
        scores[draw.random(50_000) < 0.999] = 0
    elif kind == "sorted":
        scores.sort()
    elif kind == "negative":
        scores = -np.abs(scores)
    elif kind == "with gaps":
        scores[::64] = np.nan  # every sampled value
    elif kind == "clumped":
        scores = np.round(scores).astype(np.float32)
        scores[:100] = 50
    found = _extremes(scores, lowest, count)
    strengths = (-scores if lowest else scores)[found]
    assert strengths.tolist() == plain(scores, lowest, count)
    assert len(set(found.tolist())) == len(found)
