"""Reading token influence for people: each token with the class that colours it, and the strongest
ones of an example in a table."""

from typing import Any

import numpy as np

from curation.models import Behaviour, TokenInfluence
from curation.queries.examples import ExampleTable

QUANTILES = (0.5, 0.8, 0.95)
"""Of the sizes of all scores shown: tokens above the first, second and third are marked ever more
strongly, those below not at all."""
IN_TABLE = 8


def scored_examples(behaviour: Behaviour) -> list[dict[str, Any]]:
    """The examples in the order in which they were chosen, with their ids and content; each token
    has `text`, `score`, `helps` and `strength` 0 to 3. Empty before the job has run."""
    found = TokenInfluence.objects.filter(behaviour=behaviour).first()
    if found is None or not found.examples:
        return []
    indices = np.array([one["train_index"] for one in found.examples])
    with ExampleTable(behaviour.baseline.dataset_version) as table:
        rows = table.by_train_index(indices)
    sizes = np.abs([score for one in found.examples for score in one["scores"]])
    bounds = np.quantile(sizes, QUANTILES) if len(sizes) else np.zeros(len(QUANTILES))
    sign = 1 if behaviour.better == "higher" else -1
    examples = []
    for one in found.examples:
        tokens = [
            {
                "text": text,
                "score": score,
                "helps": sign * score > 0,
                "strength": int(np.sum(abs(score) > bounds)),
            }
            for text, score in zip(one["tokens"], one["scores"], strict=True)
        ]
        total = float(sum(one["scores"]))
        examples.append(
            {
                **rows[one["train_index"]],
                "train_index": one["train_index"],
                "score": total,
                "helps": sign * total > 0,
                "tokens": tokens,
                "strongest": sorted(tokens, key=lambda token: -abs(token["score"]))[:IN_TABLE],
            }
        )
    return examples
