"""Models, recipes and baselines: what is trained and how. Checking and training are a worker's
job."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from curation.models import (
    Baseline,
    DatasetVersion,
    Job,
    JobKind,
    Model,
    ModelState,
    Project,
    Recipe,
    VersionState,
)
from curation.services import audit, jobs

MAX_BASELINE_SEEDS = 32
UPLOADED_NETWORKS = {"classifier": "transformers", "language_model": "uploaded_language_model"}
TRAINED_PARTS = {
    "classifier": ("head", "last_layers", "all"),
    "language_model": ("all", "last_layers", "lora"),
}
UPLOAD_SETTINGS = {
    "classifier": {"last_layers", "maximum_length"},
    "language_model": {"last_layers", "maximum_length", "lora_rank", "loss_on", "chat"},
}


@transaction.atomic
def create_model(*, project: Project, name: str, architecture: dict[str, Any], by: Any) -> Model:
    """A built-in model: the network is made from its settings, the starting weights from each
    seed."""
    model = Model(project=project, name=name.strip(), architecture=architecture, created_by=by)
    model.full_clean()
    model.save()
    audit.record(action="model created", actor=by, project=project, target=model)
    return model


@transaction.atomic
def upload_model(
    *,
    project: Project,
    name: str,
    files: dict[str, str],
    by: Any,
    use: str = "classifier",
    trained_part: str = "",
    settings: dict[str, Any] | None = None,
) -> tuple[Model, Job]:
    """An uploaded model: `files` maps each file's name to the SHA-256 it is stored under. `use` is
    "classifier" (a new head on its encoder) or "language_model"; an empty `trained_part` is the
    usual one; `settings` are further ones of the architecture, such as `lora_rank`.

    Raises:
        ValidationError: naming the field and the rule.
    """
    if use not in TRAINED_PARTS:
        raise ValidationError({"use": f"Choose one of {', '.join(TRAINED_PARTS)}."})
    parts = TRAINED_PARTS[use]
    if trained_part and trained_part not in parts:
        raise ValidationError(
            {"trained_part": f"A {use.replace('_', ' ')} trains one of {', '.join(parts)}."}
        )
    unknown = set(settings or {}) - UPLOAD_SETTINGS[use]
    if unknown:
        raise ValidationError(
            {"settings": f"A {use.replace('_', ' ')} has no setting {sorted(unknown)[0]}."}
        )
    model = Model(
        project=project,
        name=name.strip(),
        architecture={
            "name": UPLOADED_NETWORKS[use],
            "trained_part": trained_part or parts[0],
            **(settings or {}),
        },
        files=files,
        state=ModelState.CHECKING,
        created_by=by,
    )
    model.full_clean()
    model.save()
    audit.record(action="model uploaded", actor=by, project=project, target=model, files=len(files))
    job = jobs.enqueue(project=project, kind=JobKind.CHECK_MODEL, target_id=model.pk, created_by=by)
    return model, job


@transaction.atomic
def create_recipe(*, project: Project, name: str, settings: dict[str, Any], by: Any) -> Recipe:
    recipe = Recipe(project=project, name=name.strip(), settings=settings, created_by=by)
    recipe.full_clean()
    recipe.save()
    audit.record(action="recipe created", actor=by, project=project, target=recipe)
    return recipe


@transaction.atomic
def create_baseline(
    *,
    project: Project,
    name: str,
    dataset_version: DatasetVersion,
    model: Model,
    recipe: Recipe,
    number_of_seeds: int,
    by: Any,
) -> tuple[Baseline, Job]:
    """A new baseline, sent to be trained.

    Raises:
        ValidationError: a part is not ready or belongs elsewhere, or the number of seeds is out
        of bounds.
    """
    if dataset_version.state != VersionState.READY:
        raise ValidationError({"dataset_version": "The dataset version is not imported yet."})
    if model.state != ModelState.READY:
        raise ValidationError({"model": "The model has not passed its check."})
    if {dataset_version.project.pk, model.project_id, recipe.project_id} != {project.pk}:
        raise ValidationError("Dataset, model and recipe must belong to this project.")
    if not 1 <= number_of_seeds <= MAX_BASELINE_SEEDS:
        raise ValidationError(
            {
                "number_of_seeds": f"Choose between 1 and {MAX_BASELINE_SEEDS} seeds; 4 is a "
                f"good start."
            }
        )
    baseline = Baseline(
        project=project,
        name=name.strip(),
        dataset_version=dataset_version,
        model=model,
        recipe=recipe,
        seeds=list(range(number_of_seeds)),
        next_seed=number_of_seeds,
        created_by=by,
    )
    baseline.full_clean()
    baseline.save()
    audit.record(action="baseline created", actor=by, project=project, target=baseline)
    job = jobs.enqueue(
        project=project, kind=JobKind.TRAIN_BASELINE, target_id=baseline.pk, created_by=by
    )
    return baseline, job


def take_seeds(*, baseline: Baseline, count: int) -> list[int]:
    """Fresh seeds that nothing on this baseline has used; call inside a transaction."""
    locked = Baseline.objects.select_for_update().get(pk=baseline.pk)
    first = locked.next_seed
    locked.next_seed = first + count
    locked.save(update_fields=["next_seed"])
    return list(range(first, first + count))
