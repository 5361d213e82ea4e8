"""What differs between two versions of a dataset, by example id: added, removed, relabelled,
rewritten, moved between the splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from django.conf import settings
from django.core.cache import cache

from curation.models import DatasetVersion
from curation.services.files import local_path

KINDS = {
    "removed": "target.example_id IS NULL",
    "added": "base.example_id IS NULL",
    "relabelled": "base.answer IS DISTINCT FROM target.answer",
    "rewritten": "base.content <> target.content",
    "moved": "base.split <> target.split",
}
_IN_BOTH = "base.example_id IS NOT NULL AND target.example_id IS NOT NULL"
_CONTENTS = {
    "text": "text",
    "prompt": "prompt || ' → ' || completion",
    "features": "CAST(features AS VARCHAR)",
    "image": "CAST(hash(image) AS VARCHAR)",
}
_CACHED_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class VersionDiff:
    """Counts of each kind, and for each class its train examples in base and target."""

    counts: dict[str, int]
    unchanged: int
    classes: list[tuple[str, int, int]]


def diff_of(base: DatasetVersion, target: DatasetVersion) -> VersionDiff:
    """Counts of every kind; an example can be relabelled, rewritten and moved at once.

    Versions never change, so a result is kept.
    """
    key = f"version-diff:1:{base.content_sha256}:{target.content_sha256}"
    found = cache.get(key)
    if found is None:
        found = _counted(base, target)
        cache.set(key, found, _CACHED_SECONDS)
    return VersionDiff(found["counts"], found["unchanged"], [tuple(c) for c in found["classes"]])


def _counted(base: DatasetVersion, target: DatasetVersion) -> dict[str, Any]:
    with _joined(base, target) as connection:
        counted = ", ".join(f"count(*) FILTER ({_condition(kind)})" for kind in KINDS)
        same = " AND ".join(f"NOT ({_condition(kind)})" for kind in KINDS)
        row = connection.execute(
            f"SELECT {counted}, count(*) FILTER ({same}) FROM joined"  # noqa: S608 - our own text
        ).fetchone()
        assert row is not None
        classes = connection.execute(
            "SELECT coalesce(base.answer, target.answer), sum(base.n), sum(target.n) FROM "
            "(SELECT answer, count(*) AS n FROM base WHERE split = 'train' GROUP BY 1) AS base "
            "FULL JOIN "
            "(SELECT answer, count(*) AS n FROM target WHERE split = 'train' GROUP BY 1) AS target "
            "ON base.answer = target.answer GROUP BY 1 ORDER BY 1"
        ).fetchall()
    return {
        "counts": dict(zip(KINDS, row, strict=False)),
        "unchanged": row[-1],
        "classes": [[str(c), int(a or 0), int(b or 0)] for c, a, b in classes]
        if base.classes
        else [],
    }


def rows_of(
    base: DatasetVersion, target: DatasetVersion, kind: str, *, offset: int, limit: int
) -> list[dict[str, Any]]:
    """Examples of one kind in upload order, with `before` and `after` for split, answer, content.

    Raises:
        KeyError: an unknown kind.
    """
    condition = _condition(kind)
    with _joined(base, target) as connection:
        cursor = connection.execute(
            "SELECT coalesce(base.example_id, target.example_id) AS example_id, "  # noqa: S608
            "base.split AS split_before, target.split AS split_after, "
            "base.answer AS answer_before, target.answer AS answer_after, "
            "base.content AS content_before, target.content AS content_after "
            f"FROM joined WHERE {condition} "
            "ORDER BY coalesce(target.position, base.position), base.position "
            f"LIMIT {int(limit)} OFFSET {int(offset)}"
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _condition(kind: str) -> str:
    condition = KINDS[kind]
    return condition if kind in ("removed", "added") else f"{_IN_BOTH} AND {condition}"


def _joined(base: DatasetVersion, target: DatasetVersion) -> duckdb.DuckDBPyConnection:
    """A connection with the views `base`, `target`, `joined`; what does not fit spills to disk."""
    spill = Path(settings.WORK_ROOT) / "duckdb"
    connection = duckdb.connect(
        config={"threads": 1, "memory_limit": "1GB", "temp_directory": str(spill)}
    )
    for name, version in (("base", base), ("target", target)):
        assert version.examples_file is not None
        path = str(local_path(version.examples_file)).replace("'", "''")
        source = f"read_parquet('{path}')"
        described = connection.execute(f"DESCRIBE FROM {source}").fetchall()
        columns = [row[0] for row in described]
        content = next((e for c, e in _CONTENTS.items() if c in columns), "''")
        answer = next((c for c in ("label", "target") if c in columns), "NULL")
        connection.execute(
            f"CREATE VIEW {name} AS SELECT example_id, position, split, {content} AS content, "  # noqa: S608
            f"CAST({answer} AS VARCHAR) AS answer FROM {source}"
        )
    connection.execute(
        "CREATE VIEW joined AS SELECT base, target FROM base FULL JOIN target "
        "ON base.example_id = target.example_id"
    )
    return connection
