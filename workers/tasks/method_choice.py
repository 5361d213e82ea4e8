"""From the bank's held-out evidence to the method of each behaviour, saved with its reasons."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from curation.models import Baseline, Estimate, Influence, MethodChoices
from curation.queries.method_choices import candidate_name, parse_candidate
from curation.queries.predictions import DEFAULT_METHOD
from workers.evidence.bank_evidence import BankEvidence
from workers.evidence.conformal import cross_fit
from workers.evidence.selection import MethodChoice, choose_methods
from workers.tasks.calibrations import method_evidence, method_influences
from workers.tasks.combinations import save_combination, units_of
from workers.tasks.edit_aware import edit_aware_prediction

CONTROL_PREFIX = "control_"
FEWEST_EDITS_TO_HOLD_OUT = 2


def choose_methods_of(
    baseline: Baseline, evidence: Mapping[str, BankEvidence]
) -> MethodChoices | None:
    """Compare all methods on edits that their calibrations had not seen, and save the choices and
    the combinations: one of the methods that answer at once, one that may hold the edit-aware
    estimate too. `evidence` is by candidate, as `evidence_by_candidate` gathers it.

    The default method comes first in preference, then its edit-aware estimate, then the others.
    Methods without scores for all of the first one's behaviours are not compared. Controls get
    their errors beside the methods' and are never chosen. None without influence scores of a
    method that is no control.
    """
    behaviours = next((one.behaviours for one in evidence.values()), ())
    found = {name: one for name, one in evidence.items() if one.behaviours == behaviours}
    methods = [name for name in found if not is_control(name)]
    if not methods:
        return None
    first = found[methods[0]]
    held_out = {name: _held_out(one) for name, one in found.items()}

    def choose(names: list[str]) -> tuple[MethodChoice, ...]:
        noise = first.retrains.total_noise_variance
        return choose_methods(
            names,
            first.behaviours,
            np.stack([held_out[name] for name in names]),
            first.retrains.actual,
            noise,
            units_of(first),
        )

    choices = choose(methods)
    at_once = [name for name in methods if parse_candidate(name)[1] == Estimate.FIRST_ORDER]
    for estimate, names in ((Estimate.FIRST_ORDER, at_once), (Estimate.EDIT_AWARE, methods)):
        if estimate == Estimate.FIRST_ORDER or len(methods) > len(at_once):
            save_combination(
                baseline,
                estimate,
                {name: found[name] for name in names},
                held_out,
                choices if names == methods else choose(names),
            )
    for name in found:
        if is_control(name):
            choices = tuple(
                replace(choice, errors={**choice.errors, name: alone.errors[name]})
                for choice, alone in zip(choices, choose([name]), strict=True)
            )
    return MethodChoices.objects.create(
        baseline=baseline,
        methods=methods,
        choices={choice.behaviour: choice.to_json() for choice in choices},
        number_of_edits=len(first.kinds),
    )


def is_control(candidate: str) -> bool:
    """Whether scores are shown beside predictions, to show what influence adds, and predict
    nothing themselves."""
    return candidate.startswith(CONTROL_PREFIX)


def evidence_by_candidate(baseline: Baseline) -> dict[str, BankEvidence]:
    """What the bank says of every method with scores, and of the edit-aware estimate where it is of
    use; the default method first, controls last."""
    methods = Influence.objects.filter(baseline=baseline, behaviour__archived_at=None)
    names = sorted(set(methods.values_list("method", flat=True)), key=_preference)
    found: dict[str, BankEvidence] = {}
    for name in names:
        found[candidate_name(name)] = method_evidence(baseline, name)
        if name == DEFAULT_METHOD and baseline.summary.get("edit_aware", {}).get("usable"):
            predict = edit_aware_prediction(method_influences(baseline, name))
            found[candidate_name(name, Estimate.EDIT_AWARE)] = method_evidence(
                baseline, name, predict
            )
    return found


def _preference(method: str) -> tuple[bool, bool, str]:
    return is_control(method), method != DEFAULT_METHOD, method


def _held_out(evidence: BankEvidence) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(E, K) calibrated predictions; too few edits are predicted as they are."""
    if len(evidence.kinds) < FEWEST_EDITS_TO_HOLD_OUT:
        return evidence.predicted
    return cross_fit(evidence).value
