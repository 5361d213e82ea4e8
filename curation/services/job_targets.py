"""What becomes of a job's target when the job ends without success: it says why, and waits for
another try. Kinds of jobs that leave nothing half-done have no entry."""

from collections.abc import Callable

from curation.models import (
    Baseline,
    BaselineState,
    DatasetVersion,
    Job,
    JobKind,
    Model,
    ModelState,
    VersionState,
)


def mark_unsuccessful(*, job: Job, reason: str) -> None:
    """Called in the transaction that ends the job, whoever ends it: worker, sweep or canceller."""
    if mark := MARKS.get(JobKind(job.kind)):
        mark(job, reason)


def _refuse_version(job: Job, reason: str) -> None:
    versions = DatasetVersion.objects.filter(pk=job.target_id).exclude(state=VersionState.READY)
    versions.update(state=VersionState.REFUSED, error=reason)


def _ask_for_the_mapping_again(job: Job, reason: str) -> None:
    versions = DatasetVersion.objects.filter(pk=job.target_id).exclude(state=VersionState.READY)
    versions.filter(from_proposal=None).update(state=VersionState.INSPECTED, error=reason)
    versions.exclude(from_proposal=None).update(state=VersionState.REFUSED, error=reason)


def _refuse_model(job: Job, reason: str) -> None:
    models = Model.objects.filter(pk=job.target_id).exclude(state=ModelState.READY)
    models.update(state=ModelState.REFUSED, error=reason)


def _fail_baseline(job: Job, reason: str) -> None:
    baselines = Baseline.objects.filter(pk=job.target_id).exclude(state=BaselineState.READY)
    baselines.update(state=BaselineState.FAILED, error=reason)


MARKS: dict[JobKind, Callable[[Job, str], None]] = {
    JobKind.INSPECT_DATASET: _refuse_version,
    JobKind.IMPORT_DATASET: _ask_for_the_mapping_again,
    JobKind.CHECK_MODEL: _refuse_model,
    JobKind.TRAIN_BASELINE: _fail_baseline,
}
