"""The jobs that suggest edits for a behaviour, and that rank train examples by how likely their
label is wrong."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from django.utils import timezone
from numpy.typing import NDArray

from curation.models import Baseline, Influence, LabelCheck, Model, Suggestion
from curation.services.files import local_path
from curation.services.suggestions import LABEL_CHECK_FOLDS
from workers.evidence.label_errors import LabelErrorRanking, rank_label_errors, signal_weights
from workers.evidence.suggestions import suggest_edits
from workers.formats.near_duplicates import near_duplicate_groups
from workers.formats.text_keys import normalised_text
from workers.influence.label_signals import LabelSignals, label_signals
from workers.tasks.handler import Handler
from workers.tasks.loading import frozen_features, load_baseline, store_array
from workers.tasks.report import JobReport

MOST_LISTED = 500


class Suggest(Handler):
    """The payload names the suggestion to find, or asks for the label check."""

    def run(self, report: JobReport) -> None:
        baseline = Baseline.objects.select_related("dataset_version__examples_file").get(
            pk=self.job.target_id
        )
        if self.job.payload.get("label_check"):
            self._check_labels(baseline, report)
        else:
            self._suggest(baseline, report)

    def _suggest(self, baseline: Baseline, report: JobReport) -> None:
        suggestion = Suggestion.objects.get(pk=self.job.payload["suggestion"])
        if suggestion.result is not None:
            return
        report.stage("Grouping near-duplicates")
        groups = duplicate_groups(baseline)
        report.stage("Choosing edits")
        keys = [str(suggestion.behaviour_id), *suggestion.guards]
        influences = {
            str(one.behaviour_id): one
            for one in Influence.objects.filter(
                baseline=baseline, method=suggestion.method, behaviour__in=keys
            ).select_related("behaviour", "per_seed_file")
        }
        columns = [
            np.load(local_path(influences[key].per_seed_file), allow_pickle=False) for key in keys
        ]
        found = suggest_edits(
            np.stack(columns, axis=2),
            0,
            suggestion.number_of_edits,
            suggestion.new_weight,
            better=[1 if influences[key].behaviour.better == "higher" else -1 for key in keys],
            guards={1 + place: limit for place, limit in enumerate(suggestion.guards.values())},
            group_ids=groups,
        )
        result = found.to_json()
        for guard in result["guards"]:
            guard["behaviour"] = keys[guard["behaviour"]]
        Suggestion.objects.filter(pk=suggestion.pk, result__isnull=True).update(result=result)

    def _check_labels(self, baseline: Baseline, report: JobReport) -> None:
        report.stage("Encoding examples")
        loaded = load_baseline(baseline.pk)
        encoder = self._encoder()
        features = None if encoder is None else frozen_features(baseline, encoder)
        steps = len(baseline.seeds) * (LABEL_CHECK_FOLDS + 1)
        report.stage("Training with and without each example", steps)
        signals = label_signals(
            loaded.problem,
            baseline.seeds,
            folds=LABEL_CHECK_FOLDS,
            features=features,
            progress=report,
        )
        named = signals.by_name()
        ranking = rank_label_errors(named, signal_weights(named))
        LabelCheck.objects.update_or_create(
            baseline=baseline,
            defaults={
                "encoder": encoder,
                "created_at": timezone.now(),
                "score_file": store_array(ranking.score.astype(np.float32)),
                "worst": [
                    _suspect(int(index), ranking, signals, loaded.classes)
                    for index in ranking.order[:MOST_LISTED]
                ],
            },
        )

    def _encoder(self) -> Model | None:
        key = self.job.payload.get("encoder")
        return None if key is None else Model.objects.get(pk=key)


def _suspect(
    index: int, ranking: LabelErrorRanking, signals: LabelSignals, classes: list[str]
) -> dict[str, Any]:
    outputs = signals.held_out_outputs[index]
    likely = classes[int(outputs.argmax())] if classes else None
    return {
        "train_index": index,
        "score": float(ranking.score[index]),
        "agreement": float(ranking.agreement[index]),
        "reasons": list(ranking.reasons(index)),
        "likely_label": likely,
        "likely_target": None if classes else float(outputs[0]),
        "probability": float(outputs.max()) if classes else None,
    }


def duplicate_groups(baseline: Baseline) -> NDArray[np.int64]:
    """(N,) group of each train example: near-duplicate texts share one, others stand alone."""
    stored = baseline.dataset_version.examples_file
    assert stored is not None
    path = local_path(stored)
    names = set(pq.read_schema(path).names)
    columns = [name for name in ("text", "prompt", "completion") if name in names]
    count = baseline.dataset_version.train_count
    alone = np.arange(count, dtype=np.int64)
    if not columns:
        return alone
    table = pq.read_table(path, columns=[*columns, "train_index"])
    table = table.filter(pc.is_valid(table["train_index"])).sort_by("train_index")
    texts = [table[name].combine_chunks().fill_null("") for name in columns]
    joined = texts[0]
    if len(texts) > 1:
        joined = pc.binary_join_element_wise(*texts, "\n")
    groups = near_duplicate_groups(lambda: [normalised_text(joined)])
    return np.where(groups >= 0, count + groups, alone).astype(np.int64)
