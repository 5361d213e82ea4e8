"""Reading examples of a dataset version: DuckDB over the canonical Parquet, with score columns
joined on demand."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np

from curation.models import DatasetVersion, Influence
from curation.services.files import local_path

CONTENT_COLUMNS = ("text", "prompt", "completion", "features", "image")
FIXED_COLUMNS = ("example_id", "position", "split", "train_index", "probe_index", "label", "target")
SORTS = {
    "position": "position",
    "text": "content",
    "label": "label",
    "influence": "score",
    "magnitude": "abs(score)",
}


@dataclass(frozen=True)
class ExampleFilter:
    """What a user asked to see. Every name is checked against the version's own columns."""

    search: str = ""
    split: str = ""
    label: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    example_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExamplePage:
    rows: list[dict[str, Any]]
    total: int


class ExampleTable:
    """The examples of one ready dataset version."""

    def __init__(self, version: DatasetVersion) -> None:
        assert version.examples_file is not None
        self.path = str(local_path(version.examples_file))
        self.connection = duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})
        self.connection.execute(
            f"CREATE VIEW examples AS SELECT * FROM "
            f"read_parquet('{self.path.replace(chr(39), chr(39) * 2)}')"
        )
        self.columns = [row[0] for row in self.connection.execute("DESCRIBE examples").fetchall()]
        self.attributes = [name for name in self.columns if name.startswith("attribute_")]

    def __enter__(self) -> "ExampleTable":
        return self

    def __exit__(self, *exception: object) -> None:
        self.connection.close()

    @property
    def content_expression(self) -> str:
        if "text" in self.columns:
            return "text"
        if "prompt" in self.columns:
            return "prompt || ' → ' || completion"
        if "features" in self.columns:
            return "array_to_string(list_transform(features[1:8], x -> printf('%.3g', x)), ', ')"
        return "'image'"

    def page(
        self,
        filter: ExampleFilter,
        *,
        sort: str = "position",
        descending: bool = False,
        offset: int = 0,
        limit: int = 50,
        influence: Influence | None = None,
    ) -> ExamplePage:
        """One page of matching examples; `influence` adds a `score` column for train rows.

        Raises:
            KeyError: an unknown sort or attribute.
        """
        where, parameters = self._where(filter)
        source = "examples"
        score = "NULL::FLOAT"
        if influence is not None:
            scores = np.load(local_path(influence.scores_file), mmap_mode="r", allow_pickle=False)
            self.connection.register(
                "scores",
                {
                    "score_index": np.arange(len(scores), dtype=np.int32),
                    "score": np.asarray(scores),
                },
            )
            source = "examples LEFT JOIN scores ON train_index = score_index"
            score = "score"
        total = self._one(f"SELECT count(*) FROM examples WHERE {where}", parameters)
        direction = "DESC" if descending else "ASC"
        columns = ["example_id", "position", "split", "train_index", "probe_index"]
        columns += [name for name in ("label", "target", *self.attributes) if name in self.columns]
        sort_expression = SORTS[sort]
        if sort == "label" and "label" not in self.columns:
            sort_expression = "target"
        rows = self._rows(
            f"SELECT {', '.join(_quoted(name) for name in columns)}, {self.content_expression} "
            f"AS content, "
            f"{score} AS score FROM {source} WHERE {where} "
            f"ORDER BY {sort_expression} {direction} NULLS LAST, position LIMIT {int(limit)} "
            f"OFFSET {int(offset)}",
            parameters,
        )
        return ExamplePage(rows=rows, total=int(total))

    def select(self, filter: ExampleFilter, *, split: str) -> list[tuple[int, str]]:
        """(index within the split, example id) of every matching example, in upload order."""
        index = {"train": "train_index", "probe": "probe_index"}[split]
        where, parameters = self._where(filter)
        return self.connection.execute(
            f"SELECT {index}, example_id FROM examples WHERE split = '{split}' AND {where} "
            f"ORDER BY position",
            parameters,
        ).fetchall()

    def by_train_index(self, indices: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Content of the given train examples, by train index."""
        return self._by_index("train_index", indices)

    def by_probe_index(self, indices: Iterable[int]) -> dict[int, dict[str, Any]]:
        return self._by_index("probe_index", indices)

    def values(self, column: str, *, split: str = "", limit: int = 200) -> list[tuple[str, int]]:
        """Distinct values of `label` or an attribute with their counts, most frequent first.

        Raises:
            KeyError: an unknown column.
        """
        if column != "label" and column not in self.attributes:
            raise KeyError(column)
        where = f"split = '{split}'" if split in ("train", "probe") else "true"
        return self.connection.execute(
            f"SELECT {_quoted(column)}, count(*) FROM examples WHERE {where} AND "
            f"{_quoted(column)} IS NOT NULL "
            f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {int(limit)}"
        ).fetchall()

    def _by_index(self, column: str, indices: Iterable[int]) -> dict[int, dict[str, Any]]:
        wanted = [int(index) for index in indices]
        label = "label" if "label" in self.columns else "NULL AS label"
        rows = self._rows(
            f"SELECT {column}, example_id, {label}, {self.content_expression} AS content FROM "
            f"examples "
            f"WHERE {column} IN (SELECT unnest(?::INTEGER[]))",
            [wanted],
        )
        return {row[column]: row for row in rows}

    def _where(self, filter: ExampleFilter) -> tuple[str, list[Any]]:
        clauses = ["true"]
        parameters: list[Any] = []
        if filter.search:
            clauses.append(f"contains(lower({self.content_expression}), lower(?))")
            parameters.append(filter.search)
        if filter.split:
            clauses.append("split = ?")
            parameters.append(filter.split)
        if filter.label and "label" in self.columns:
            clauses.append("label = ?")
            parameters.append(filter.label)
        if filter.example_ids:
            clauses.append("example_id IN (SELECT unnest(?::VARCHAR[]))")
            parameters.append(list(filter.example_ids))
        for name, value in filter.attributes.items():
            if name not in self.attributes:
                raise KeyError(name)
            clauses.append(f"{_quoted(name)} = ?")
            parameters.append(value)
        return " AND ".join(clauses), parameters

    def _rows(self, query: str, parameters: list[Any]) -> list[dict[str, Any]]:
        cursor = self.connection.execute(query, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _one(self, query: str, parameters: list[Any]) -> Any:
        row = self.connection.execute(query, parameters).fetchone()
        return row[0] if row else None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
