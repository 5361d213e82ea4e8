"""Inspecting and importing a dataset in a guarded child process: what tasks call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.formats.canonical import remove_partial_files
from workers.formats.column_mapping import ColumnMapping
from workers.formats.content import DatasetPart
from workers.formats.dataset_import import import_parts
from workers.formats.dataset_inspection import inspect_parts
from workers.formats.limits import DatasetLimits
from workers.formats.resource_guard import ResourceLimits, run_guarded


def inspect_guarded(
    parts: Sequence[DatasetPart], limits: DatasetLimits, resources: ResourceLimits
) -> dict[str, Any]:
    """The JSON of `inspect_parts`, computed in a child process."""
    arguments = {"parts": _as_json(parts), "limits": limits.to_json()}
    result: dict[str, Any] = run_guarded(inspect_in_child, arguments, resources)
    return result


def import_guarded(
    parts: Sequence[DatasetPart],
    mapping: ColumnMapping,
    limits: DatasetLimits,
    output: Path,
    resources: ResourceLimits,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The JSON of `import_parts`, computed in a child process; a killed child leaves no file
    behind."""
    arguments = {
        "parts": _as_json(parts),
        "mapping": mapping.to_json(),
        "limits": limits.to_json(),
        "output": str(output),
    }
    try:
        result: dict[str, Any] = run_guarded(import_in_child, arguments, resources, progress)
    except BaseException:
        remove_partial_files(output)
        raise
    return result


def inspect_in_child(parts: list[list[str]], limits: Mapping[str, int]) -> dict[str, Any]:
    return inspect_parts(_from_json(parts), DatasetLimits.from_json(dict(limits))).to_json()


def import_in_child(
    parts: list[list[str]],
    mapping: Mapping[str, Any],
    limits: Mapping[str, int],
    output: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    return import_parts(
        _from_json(parts),
        ColumnMapping.from_json(mapping),
        DatasetLimits.from_json(dict(limits)),
        Path(output),
        progress,
    ).to_json()


def _as_json(parts: Sequence[DatasetPart]) -> list[list[str]]:
    return [[str(part.path), part.name] for part in parts]


def _from_json(parts: Sequence[Sequence[str]]) -> list[DatasetPart]:
    return [DatasetPart(Path(path), name) for path, name in parts]
