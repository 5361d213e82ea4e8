"""A nightly pipeline: push the data, propose to drop what hurts most, test it, and fail if wrong.

Needs HUNCH_ADDRESS, HUNCH_TOKEN and the path of a dataset as its argument. Ends with 1 when the
hypothesis is contradicted, so that a build fails.
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from hunch_client import Hunch
from hunch_client.client import removals


def main(data: Path) -> int:
    night = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    with Hunch(os.environ["HUNCH_ADDRESS"], os.environ["HUNCH_TOKEN"]) as hunch:
        project = hunch.create_project(f"Nightly {night}")
        version = hunch.push_dataset(project, "sentences", data)
        model = hunch.create_model(project, "bag", {"name": "bag_of_embeddings"})
        recipe = hunch.create_recipe(project, "short", {"epochs": 3, "learning_rate": 0.05})
        baseline = hunch.train_baseline(
            project, "tonight", version=version, model=model, recipe=recipe, number_of_seeds=2
        )
        margin = hunch.add_behaviour(baseline, "margin", "mean_margin", {"selection": "all"})
        (scores,) = hunch.compute_influence(baseline)

        harmful = [row["example_id"] for row in hunch.top_examples(scores, count=5)]
        proposal = hunch.propose(
            baseline,
            "drop the most harmful",
            removals(harmful),
            hypothesis="These examples are mislabelled; without them the margin grows.",
        )
        for effect in hunch.predict(proposal):
            print(f"predicted {effect.value:+.3f} ({effect.low:+.3f} to {effect.high:+.3f})")

        registration = hunch.register(proposal, margin, number_of_seeds=2)
        registration = hunch.retrain(registration)
        verdict = next(one for one in hunch.verdicts(registration) if one.is_primary)
        print(f"actual {verdict.actual:+.3f}: {verdict.outcome}, since {verdict.reason}")
        return 1 if verdict.outcome == "contradicted" else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
