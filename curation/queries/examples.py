"""Reading examples of a dataset version: pages, selections and single rows from its memory-mapped
index; whole-table queries through DuckDB over the canonical Parquet."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from curation.models import DatasetVersion, Influence
from curation.queries.arrays import stored_array
from curation.queries.example_index import ExampleIndex, open_index
from curation.services.files import local_path

CONTENT_COLUMNS = ("text", "prompt", "completion", "features", "image")
SORTS = (
    "position", "text", "label", "influence", "magnitude", "loss", "confidence", "self_influence",
)  # fmt: skip
Range = tuple[float | None, float | None]
ExampleArrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ExampleFilter:
    """What a user asked to see. Every name is checked against the version's own columns.

    `ranges` bounds an example's values, both ends included; `probe_indices` are those of a probe
    set, None for no such bound.
    """

    search: str = ""
    split: str = ""
    label: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    example_ids: tuple[str, ...] = ()
    ranges: dict[str, Range] = field(default_factory=dict)
    probe_indices: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ExamplePage:
    rows: list[dict[str, Any]]
    total: int


class ExampleTable:
    """The examples of one ready dataset version."""

    def __init__(self, version: DatasetVersion) -> None:
        assert version.examples_file is not None
        self.file = version.examples_file

    def __enter__(self) -> "ExampleTable":
        return self

    def __exit__(self, *exception: object) -> None:
        if "connection" in self.__dict__:
            self.connection.close()

    @cached_property
    def index(self) -> ExampleIndex:
        return open_index(self.file)

    @cached_property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB with the view `examples`, for exports that read every row."""
        connection = duckdb.connect(config={"threads": 1, "memory_limit": "1GB"})
        path = str(local_path(self.file)).replace("'", "''")
        connection.execute(f"CREATE VIEW examples AS SELECT * FROM read_parquet('{path}')")
        return connection

    @cached_property
    def columns(self) -> list[str]:
        """The columns of the canonical Parquet."""
        return [row[0] for row in self.connection.execute("DESCRIBE examples").fetchall()]

    @property
    def attributes(self) -> list[str]:
        return [name for name in self.index.columns if name.startswith("attribute_")]

    def page(
        self,
        filter: ExampleFilter,
        *,
        sort: str = "position",
        descending: bool = False,
        offset: int = 0,
        limit: int = 50,
        influence: Influence | None = None,
        values: ExampleArrays = {},  # noqa: B006 - never changed
    ) -> ExamplePage:
        """One page of matching examples; `influence` adds the `score` of train rows, `values` the
        numbers of a baseline (see `example_values.arrays_of`).

        Ties keep the upload's order; rows without a score, value, label or target come last.

        Raises:
            KeyError: an unknown sort or attribute, or a value that has not been measured.
        """
        scores = None
        if influence is not None:
            scores = stored_array(influence.scores_file)
        keys = self.index.value_keys(values[sort]) if sort in values else None
        if keys is None:
            keys = self._keys(sort, scores)
        rows = self._matching(filter, values)
        numbers = self.index.ordered(
            rows, offset=offset, limit=limit, keys=keys, descending=descending
        )
        found = self.index.rows(numbers, [*self.index.columns, "content"])
        for number, row in zip(numbers.tolist(), found, strict=True):
            row.update({name: finite(array[number]) for name, array in values.items()})
            index = row["train_index"]
            row["score"] = (
                float(scores[index]) if scores is not None and index is not None else None
            )
        return ExamplePage(found, len(self.index.table) if rows is None else len(rows))

    def _keys(self, sort: str, scores: NDArray[np.float32] | None) -> NDArray[np.int64] | None:
        if sort not in SORTS:
            raise KeyError(sort)
        if sort == "position" or (scores is None and sort in ("influence", "magnitude")):
            return None
        if sort in ("influence", "magnitude"):
            assert scores is not None
            return self.index.score_keys(scores, magnitude=sort == "magnitude")
        if sort not in ("text", "label"):
            raise KeyError(sort)
        name = "content_rank" if sort == "text" else "answer_rank"
        return self.index.array(name).astype(np.int64)

    def _matching(self, filter: ExampleFilter, values: ExampleArrays) -> NDArray[np.int64] | None:
        equal = {"split": filter.split} if filter.split else {}
        if filter.label and "label" in self.index.columns:
            equal["label"] = filter.label
        for name, value in filter.attributes.items():
            if name not in self.attributes:
                raise KeyError(name)
            equal[name] = value
        rows = self.index.matching(
            search=filter.search, equal=equal, example_ids=filter.example_ids
        )
        if filter.probe_indices is not None:
            chosen = np.asarray(self.index.array("probe_rows"))[list(filter.probe_indices)]
            rows = chosen if rows is None else np.intersect1d(rows, chosen, assume_unique=True)
        for name, (low, high) in filter.ranges.items():
            array = values[name]
            own = array if rows is None else array[rows]
            kept = np.flatnonzero(
                (own >= (-np.inf if low is None else low))
                & (own <= (np.inf if high is None else high))
            )
            rows = kept if rows is None else rows[kept]
        return rows

    def select(
        self,
        filter: ExampleFilter,
        *,
        split: str,
        values: ExampleArrays = {},  # noqa: B006 - never changed
    ) -> list[tuple[int, str]]:
        """(index within the split, example id) of every matching example, in upload order.

        Raises:
            KeyError: an unknown attribute, or a value that has not been measured.
        """
        if filter.split and filter.split != split:
            return []
        rows = self._matching(filter, values)
        of_split = np.asarray(self.index.array(f"{split}_rows"))
        places = np.arange(len(of_split))
        if rows is not None:
            places = np.flatnonzero(np.isin(of_split, rows, assume_unique=True))
        ids = self.index.taken("example_id", of_split[places]).to_pylist()
        return list(zip(places.tolist(), ids, strict=True))

    def by_train_index(self, indices: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Content, label and id of the given train examples, by train index."""
        wanted = np.fromiter(indices, np.int64)
        numbers = np.asarray(self.index.array("train_rows"))[wanted]
        names = [n for n in ("example_id", "label", "target") if n in self.index.columns]
        rows = self.index.rows(numbers, ["train_index", *names, "content"])
        return {row["train_index"]: {"label": None, **row} for row in rows}

    def by_probe_index(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Content and id of the given probe examples, in the given order."""
        wanted = np.fromiter(indices, np.int64)
        numbers = np.asarray(self.index.array("probe_rows"))[wanted]
        return self.index.rows(numbers, ["example_id", "content"])

    def values(self, column: str, *, split: str = "", limit: int = 200) -> list[tuple[str, int]]:
        """The at most 200 most frequent values of `label` or an attribute, with their counts.

        Raises:
            KeyError: an unknown column.
        """
        found = self.index.facets[column][split if split in ("train", "probe") else "all"]
        return [(value, number) for value, number in found[:limit]]


def finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
