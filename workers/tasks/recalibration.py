"""What new scores or retrains change: the calibrations of a baseline's methods, its edit-aware
predictions, and the method of each behaviour, all from evidence that is gathered once."""

from curation.models import Baseline
from curation.queries.method_choices import parse_candidate
from curation.queries.predictions import DEFAULT_METHOD
from workers.tasks.calibrations import fit_calibration
from workers.tasks.edit_aware import check_edit_aware
from workers.tasks.method_choice import choose_methods_of, evidence_by_candidate


def recalibrate(baseline: Baseline, method: str | None = None) -> None:
    """Calibrate every method anew, or the one named where only its scores are new, and choose the
    methods of the behaviours again."""
    if method in (None, DEFAULT_METHOD):
        check_edit_aware(baseline)
    found = evidence_by_candidate(baseline)
    for candidate, evidence in found.items():
        name, estimate = parse_candidate(candidate)
        if method in (None, name):
            fit_calibration(baseline, name, estimate, evidence)
    choose_methods_of(baseline, found)
