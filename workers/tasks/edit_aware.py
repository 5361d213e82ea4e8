"""Edit-aware predictions: prepared once a baseline and kept by the worker, calibrated on the bank,
and saved beside the first-order prediction of a proposal."""

from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from curation.models import Baseline, Estimate, Influence, Proposal
from curation.queries.combinations import (
    combined_prediction,
    edit_aware_combination,
    weights_by_behaviour,
)
from curation.queries.method_choices import parse_candidate
from curation.queries.predictions import (
    DEFAULT_METHOD,
    PredictedEffect,
    RawPrediction,
    edits_of,
    effects_by,
    first_order,
    latest_calibration,
)
from curation.services.files import local_path
from curation.services.predictions import save_effects
from workers.evidence.bank import edit_shape
from workers.evidence.calibration import EditPart
from workers.influence.edit_aware import EditAware, NotEditAware, prepare
from workers.influence.interface import InfluenceScores, Progress
from workers.tasks.calibrations import (
    Array,
    Indices,
    Predict,
    method_influences,
)
from workers.tasks.handler import Handler
from workers.tasks.loading import LoadedBaseline, load_baseline, measured_behaviours
from workers.tasks.report import JobReport
from workers.training.trainer import TrainingRun, train
from workers.training.trajectory import Trajectory

SMALLEST_AGREEMENT = 0.7
"""Below this correlation of its linear response with replay's, the followed run is no guide."""


class PredictProposal(Handler):
    """Adds the edit-aware prediction to a proposal, if its edits have not changed meanwhile."""

    def run(self, report: JobReport) -> None:
        proposal = Proposal.objects.select_related("baseline__dataset_version").get(
            pk=self.job.target_id
        )
        report.stage("Following the edited run")
        indices, weights = edits_of(proposal)
        influences = method_influences(proposal.baseline, DEFAULT_METHOD)
        if not len(indices) or not influences:
            return
        estimator = prepared(proposal.baseline_id, tuple(one.pk for one in influences))
        by_seed = estimator.predict_fresh([(indices, weights)])
        shape = edit_shape(weights, proposal.baseline.dataset_version.train_count)
        raw = RawPrediction(
            influences,
            [EditPart(shape.kind, shape.size, estimator.over_seeds(by_seed)[0])],
            list(by_seed[0].T),
        )
        effects = effects_of(proposal.baseline, raw, indices, weights)
        current = Proposal.objects.get(pk=proposal.pk)
        if effects and current.revision == proposal.revision:
            save_effects(proposal=current, effects=effects, estimate=Estimate.EDIT_AWARE)


def effects_of(
    baseline: Baseline, raw: RawPrediction, indices: Indices, weights: Array
) -> list[PredictedEffect]:
    """The calibrated effects of an edit-aware prediction, and those of the combination with other
    methods for the behaviours where evidence chose one."""
    pk = latest_calibration(baseline, DEFAULT_METHOD, Estimate.EDIT_AWARE)
    if pk is None:
        return []
    effects = effects_by(pk, baseline=baseline, raw=raw, weights=weights)
    combination = edit_aware_combination(baseline)
    if combination is None:
        return effects
    names = {name for own in weights_by_behaviour(combination).values() for name in own}
    members = {}
    for name in names:
        method, estimate = parse_candidate(name)
        members[name] = (
            raw
            if estimate == Estimate.EDIT_AWARE
            else first_order(baseline, method, indices, weights)
        )
    together, combined = combined_prediction(combination, baseline, members, weights)
    return effects + effects_by(
        combination, baseline=baseline, raw=together, weights=weights, combined=combined
    )


def check_edit_aware(baseline: Baseline) -> None:
    """Decide whether the followed run resembles the baseline's, and note it in the baseline's
    summary, with the reason where not."""
    influences = method_influences(baseline, DEFAULT_METHOD)
    if not influences:
        return
    try:
        estimator = prepared(baseline.pk, tuple(one.pk for one in influences))
        agreement = float(np.median(estimator.agreement))
        usable = agreement >= SMALLEST_AGREEMENT
        found: dict[str, Any] = {"usable": usable, "agreement": agreement}
        if not usable:
            found["reason"] = (
                f"Following the edited run agrees with replay at {agreement:.2f} only "
                f"(at least {SMALLEST_AGREEMENT} is needed): predictions stay first-order."
            )
    except NotEditAware as error:
        found = {"usable": False, "reason": str(error)}
    baseline.refresh_from_db(fields=["summary"])
    baseline.summary["edit_aware"] = found
    baseline.save(update_fields=["summary"])


def edit_aware_prediction(influences: list[Influence]) -> Predict:
    """From edits to their raw predictions for fresh seeds (E, K).

    Raises NotEditAware where the baseline's problem does not fit.
    """
    estimator = prepared(influences[0].baseline_id, tuple(one.pk for one in influences))
    return lambda edits: estimator.over_seeds(estimator.predict_fresh(edits))


@lru_cache(maxsize=1)
def prepared(baseline_id: UUID, influences: tuple[UUID, ...]) -> EditAware:
    """The estimator for these score columns; both arguments name immutable things.

    Raises NotEditAware where the baseline's problem does not fit.
    """
    baseline = Baseline.objects.get(pk=baseline_id)
    loaded = load_baseline(baseline_id)
    found = Influence.objects.select_related("behaviour__baseline__model", "per_seed_file").in_bulk(
        influences
    )
    columns = [found[pk] for pk in influences]
    seeds = [seed for seed in columns[0].seeds if all(seed in one.seeds for one in columns)]
    scores = np.stack([_rows(one, seeds) for one in columns], axis=2)
    measured = measured_behaviours(loaded, [one.behaviour for one in columns])
    runs = recorded_runs(baseline, loaded)
    return prepare(runs, measured, InfluenceScores(per_seed=scores, seeds=tuple(seeds)))


def _rows(influence: Influence, seeds: list[int]) -> NDArray[np.float32]:
    """(S, N) of the wanted seeds."""
    per_seed = np.load(local_path(influence.per_seed_file), mmap_mode="r", allow_pickle=False)
    return np.asarray(per_seed[[influence.seeds.index(seed) for seed in seeds]])


def recorded_runs(
    baseline: Baseline, loaded: LoadedBaseline, progress: Progress | None = None
) -> list[TrainingRun]:
    """The baseline's runs with their trajectories, recorded anew: training is deterministic, so
    nothing but the final parameters is kept on disk."""
    steps = loaded.problem.number_of_steps
    runs: list[TrainingRun] = []
    for seed in baseline.seeds:
        before = len(runs) * steps

        def shifted(done: int, total: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total * len(baseline.seeds))

        runs.append(train(loaded.problem, seed, trajectory=Trajectory(), progress=shifted))
    return runs
