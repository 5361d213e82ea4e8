"""The damping of a baseline's influence functions, chosen by the edits of its bank."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from curation.models import Baseline
from curation.models import Behaviour as BehaviourRow
from curation.services.bank import load_edit
from workers.evidence.bank_evidence import summarise_retrains
from workers.influence.behaviours import Behaviour
from workers.influence.damped_method import STRENGTHS, StepDampedMethod
from workers.tasks.calibrations import bank_effects
from workers.training.trainer import TrainingRun

FEWEST_EDITS = 12
LARGEST_PATH = 1 << 30
"""Bytes of the scores of all strengths, seeds and behaviours together."""


def choose_damping(
    method: StepDampedMethod,
    baseline: Baseline,
    rows: Sequence[BehaviourRow],
    runs: Sequence[TrainingRun],
    behaviours: Sequence[Behaviour],
) -> dict[str, object]:
    """Sets the method's strength to the one whose scores rank the bank's measured effects best,
    and says so; with fewer than FEWEST_EDITS of them the method keeps its own.

    The same edits then calibrate the method: one choice among a few, for all behaviours together,
    makes them look better than edits never seen by next to nothing.
    """
    edits = list(baseline.bank_edits.select_related("edits_file"))
    effects, seeds = bank_effects(baseline, edits, [str(row.pk) for row in rows])
    measured = summarise_retrains(effects, seeds).actual
    usable = np.flatnonzero(np.isfinite(measured).any(1)) if edits else np.empty(0, np.int64)
    number = len(runs[0].problem.train)
    chosen = {"strength": method.strength, "edits": len(usable)}
    if len(usable) < FEWEST_EDITS:
        return {**chosen, "by": f"default: fewer than {FEWEST_EDITS} known edits in the bank"}
    if len(STRENGTHS) * len(runs) * len(behaviours) * number * 4 > LARGEST_PATH:
        return {**chosen, "by": "default: too many examples to compare several"}
    loaded = [load_edit(edits[place]) for place in usable]
    changes = csr_array(
        (
            np.concatenate([weights - 1 for _, weights in loaded]),
            np.concatenate([indices for indices, _ in loaded]),
            np.cumsum([0, *(len(indices) for indices, _ in loaded)]),
        ),
        shape=(len(loaded), number),
    )
    method.strength = method.choose_strength(runs, behaviours, changes, measured[usable])
    return {"strength": method.strength, "edits": len(usable), "by": "known edits of the bank"}
