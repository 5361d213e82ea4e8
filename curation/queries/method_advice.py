"""Which influence method suits a trained baseline, and about what each would cost."""

import statistics

from curation.models import Baseline
from workers.evidence.method_advice import MethodAdvice, TrainingSize, advise_method


def advice_for(baseline: Baseline) -> MethodAdvice | None:
    """None before the baseline is trained. Counts its behaviours, at least one."""
    if "trained_parameters" not in baseline.summary:
        return None
    recipe = baseline.recipe.settings
    architecture = baseline.summary.get("architecture", {})
    seconds = list(baseline.runs.values_list("seconds", flat=True))
    size = TrainingSize(
        trained_parameters=baseline.summary["trained_parameters"],
        examples=baseline.summary["train_examples"],
        steps=baseline.summary["steps"],
        epochs=recipe.get("epochs", 10),
        seeds=len(baseline.seeds),
        behaviours=max(1, baseline.behaviours.filter(archived_at=None).count()),
        outputs=architecture.get("number_of_outputs") or architecture.get("vocabulary_size", 1),
        places=architecture.get("maximum_length", 1),
        optimizer=recipe.get("optimizer", "adamw"),
        replayable=baseline.replayable,
        training_seconds=statistics.fmean(seconds) if seconds else None,
    )
    return advise_method(size)
