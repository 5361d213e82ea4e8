"""The job that splits the influence of a behaviour's most influential examples among their
tokens."""

from typing import Any

from curation.models import Behaviour, TokenInfluence
from curation.queries.influence import extreme_indices
from curation.queries.predictions import DEFAULT_METHOD
from curation.services.files import work_folder
from workers.influence.interface import LeftOutSeed, NoUsableSeed
from workers.influence.per_token import TokenInfluence as Scored
from workers.influence.per_token import replay_token_influence
from workers.influence.replay_walk import BlowUp
from workers.tasks.edit_aware import recorded_runs
from workers.tasks.handler import Handler
from workers.tasks.loading import load_baseline, measured_behaviours, model_folder
from workers.tasks.report import JobReport
from workers.training.encoding import token_texts

EACH_SIDE = 10


class ScoreTokens(Handler):
    def run(self, report: JobReport) -> None:
        behaviour = Behaviour.objects.select_related("baseline__model").get(pk=self.job.target_id)
        if TokenInfluence.objects.filter(behaviour=behaviour).exists():
            return
        baseline = behaviour.baseline
        loaded = load_baseline(baseline.pk)
        examples = most_influential(behaviour)
        report.stage("Recording the training runs", loaded.problem.number_of_steps)
        runs = recorded_runs(baseline, loaded, report)
        report.stage("Splitting influence among tokens")
        measured = measured_behaviours(loaded, [behaviour])
        seeds, scored, left_out = [], [], []
        for run in runs:  # a seed that replay leaves out is left out here too
            try:
                scored.append(replay_token_influence([run], measured, examples, report))
            except BlowUp as blow_up:
                left_out.append(LeftOutSeed(run.seed, str(blow_up)))
                continue
            seeds.append(run.seed)
        if not seeds:
            raise NoUsableSeed(left_out)
        with work_folder() as folder:
            files = model_folder(baseline.model, folder)
            found = [
                described(one, [row[place] for row in scored], loaded.encoded.state, files)
                for place, one in enumerate(scored[0])
            ]
        TokenInfluence.objects.get_or_create(
            behaviour=behaviour, defaults={"seeds": seeds, "examples": found}
        )


def most_influential(behaviour: Behaviour) -> list[int]:
    """Train indices of the most helpful and then the most harmful examples."""
    return [
        int(index)
        for helpful in (True, False)
        for index in extreme_indices(
            behaviour=behaviour, method=DEFAULT_METHOD, helpful=helpful, count=EACH_SIDE
        )[0]
    ]


def described(
    one: Scored, over_seeds: list[Scored], state: dict[str, Any], files: Any
) -> dict[str, Any]:
    """One example for the database, which refuses NUL in text."""
    texts = token_texts(one.tokens.tolist(), state, files)
    scores = sum(each.mean()[0].astype(float) for each in over_seeds) / len(over_seeds)
    return {
        "train_index": one.example,
        "tokens": [text.replace("\x00", "␀") for text in texts],
        "scores": [float(score) for score in scores],
    }
