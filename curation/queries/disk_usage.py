"""Which stored files a project's rows name, and how much room its quota leaves."""

from collections.abc import Iterable
from typing import Any

from django.db.models import ForeignKey, Sum

from curation.models import (
    BankEdit,
    BankRetrain,
    BaselineRun,
    DatasetVersion,
    ExampleValues,
    Influence,
    LabelCheck,
    Model,
    Project,
    StoredFile,
    Upload,
    UploadPart,
)

# Every foreign key to a stored file, with the way from its row to the project.
FILE_KEYS: tuple[tuple[type[Any], tuple[str, ...], str], ...] = (
    (DatasetVersion, ("source_file", "examples_file"), "dataset__project"),
    (BaselineRun, ("parameters_file",), "baseline__project"),
    (Influence, ("scores_file", "per_seed_file"), "baseline__project"),
    (BankEdit, ("edits_file",), "baseline__project"),
    (BankRetrain, ("parameters_file",), "baseline__project"),
    (LabelCheck, ("score_file",), "baseline__project"),
    (
        ExampleValues,
        ("loss_file", "confidence_file", "self_influence_file"),
        "baseline__project",
    ),
    (Upload, ("stored_file",), "project"),
    (UploadPart, ("stored_file",), "upload__project"),
)

MOST_NAMED = 5


def file_keys_of_models() -> set[tuple[str, str]]:
    """(model, field) of every foreign key to a stored file, from Django's own registry."""
    from django.apps import apps

    return {
        (model.__name__, field.name)
        for model in apps.get_app_config("curation").get_models()
        for field in model._meta.get_fields()
        if isinstance(field, ForeignKey) and field.related_model is StoredFile
    }


def files_in_use(project: Project | None = None) -> set[str]:
    """The hashes of all files that rows of the project, or of any project, name. Deleted rows
    keep theirs until they are purged."""
    used: set[str] = set()
    for model, fields, path in FILE_KEYS:
        rows = model._base_manager.all()
        rows = rows if project is None else rows.filter(**{path: project})
        for field in fields:
            used.update(_hashes(rows.values_list(field, flat=True).iterator(10_000)))
    models = Model.everything.all()
    models = models if project is None else models.filter(project=project)
    for stored in models.values_list("files", flat=True):
        used.update(stored.values())
    runs = BaselineRun.objects.exclude(trajectory_files={})
    runs = runs if project is None else runs.filter(baseline__project=project)
    for stored in runs.values_list("trajectory_files", flat=True):
        used.update(_hashes(stored.values()))
    return used


def named_by(sha256: str) -> list[str]:
    """What needs the file, for people: "dataset version Tweets, version 3 (examples file)"."""
    found = []
    for model, fields, _ in FILE_KEYS:
        for field in fields:
            rows = model._base_manager.filter(**{field: sha256})
            found += [_described(row, field) for row in rows[:MOST_NAMED]]
    for model, field in ((Model, "files"), (BaselineRun, "trajectory_files")):
        rows = model._base_manager.filter(**{f"{field}__icontains": sha256})
        found += [_described(row, field) for row in rows[:MOST_NAMED]]
    return found


def _described(row: Any, field: str) -> str:
    kind = row._meta.verbose_name
    return f"{kind} {row} ({row._meta.get_field(field).verbose_name}, id {row.pk})"


def _hashes(values: Iterable[Any]) -> Iterable[str]:
    return (value for value in values if isinstance(value, str))


def bytes_in_use(project: Project) -> int:
    """The size of everything that the project keeps; a file named twice counts once."""
    stored = StoredFile.objects.filter(pk__in=files_in_use(project))
    return int(stored.aggregate(total=Sum("size"))["total"] or 0)


def room_left(project: Project) -> int:
    """Bytes until the project's quota is full; negative when it is exceeded."""
    return int(project.disk_quota_bytes) - bytes_in_use(project)
