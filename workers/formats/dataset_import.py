"""From an upload and a column mapping to the canonical examples table, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.formats.canonical import CanonicalWriter, canonical_schema
from workers.formats.chat import messages_as_prompt_and_completion
from workers.formats.column_mapping import CLASSIFICATION_TASKS, ColumnMapping
from workers.formats.content import DatasetPart
from workers.formats.conversion import as_number_matrix, as_numbers, as_text
from workers.formats.dataset_reader import DatasetReader
from workers.formats.errors import FormatError
from workers.formats.label_counts import LabelCounts
from workers.formats.limits import DatasetLimits
from workers.formats.readers import Batch
from workers.formats.rules import Place, check_finite, check_name, check_text, first_true
from workers.formats.splits import split_by_numbers, split_by_text, split_from_column
from workers.formats.statistics import dataset_statistics
from workers.formats.text_keys import text_hashes

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DatasetSummary:
    """What an import found; every field is JSON. `statistics` is that of `dataset_statistics`."""

    task: str
    format: str
    rows: int
    train_rows: int
    probe_rows: int
    classes: list[str]
    class_counts: list[dict[str, Any]]  # {"label", "train", "probe"}, in the order of `classes`
    feature_names: list[str]
    image_shape: list[int] | None
    attributes: list[str]
    content_sha256: str
    statistics: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def import_dataset(
    path: Path,
    file_name: str,
    mapping: ColumnMapping,
    limits: DatasetLimits,
    output: Path,
    progress: Progress | None = None,
) -> DatasetSummary:
    """Write the canonical Parquet of one uploaded file to `output`.

    `progress(bytes done, bytes in all)` may raise to stop. Raises FormatError naming file, row,
    field and rule at the first thing that is wrong; then, or when stopped, nothing is left behind.
    """
    return import_parts([DatasetPart(path, file_name)], mapping, limits, output, progress)


def import_parts(
    parts: Sequence[DatasetPart],
    mapping: ColumnMapping,
    limits: DatasetLimits,
    output: Path,
    progress: Progress | None = None,
) -> DatasetSummary:
    """`import_dataset` for an upload of several files (shards, or a saved dataset folder)."""
    reader = DatasetReader(parts, limits)
    mapping.check(reader.names, reader.readers[0].part.name)
    return _Import(reader, mapping, limits).run(output, progress)


class _Import:
    """One import: what is known so far while batches pass through."""

    def __init__(
        self, reader: DatasetReader, mapping: ColumnMapping, limits: DatasetLimits
    ) -> None:
        self.reader = reader
        self.mapping = mapping
        self.limits = limits
        self.file = reader.readers[0].part.name
        self.attributes = mapping.attribute_columns(reader.names)
        if len(self.attributes) > limits.max_attributes:
            raise FormatError(
                self.file,
                rule=f"{len(self.attributes):,} columns would become attributes; at most "
                f"{limits.max_attributes} may: leave some out",
            )
        self.wanted = tuple(dict.fromkeys([*mapping.columns(), *self.attributes]))
        self.rows = self.train_rows = self.probe_rows = 0
        self.width: int | None = None
        if mapping.image_shape is not None:
            self.width = int(np.prod(mapping.image_shape))
        elif len(mapping.features) > 1:
            self.width = len(mapping.features)
        self.labels = LabelCounts(limits.max_classes)
        self.id_hashes: list[np.ndarray] = []

    def run(self, output: Path, progress: Progress | None) -> DatasetSummary:
        batches = self.reader.batches(self.wanted, progress)
        first = next((b for b in batches if b.table.num_rows), None)
        if first is None:
            raise FormatError(self.file, rule="the file holds no rows")
        converted = self._convert(first)
        schema = self._schema()
        with CanonicalWriter(output, schema) as writer:
            writer.write(_as_batch(converted, schema))
            for batch in batches:
                if batch.table.num_rows:
                    writer.write(_as_batch(self._convert(batch), schema))
            metadata = self._metadata(self._classes())
            digest = writer.close(metadata)
            self._check_unique_ids(writer.partial)
            summary = self._summary(metadata, digest, dataset_statistics(writer.partial))
            writer.promote()
        return summary

    def _schema(self) -> pa.Schema:
        image = self.mapping.task == "image_classification"
        return canonical_schema(
            self.mapping.task,
            features=0 if image else self.width or 0,
            image=self.width or 0 if image else 0,
            messages=self.mapping.messages is not None,
            attributes=list(self.attributes),
        )

    def _convert(self, batch: Batch) -> dict[str, pa.Array]:
        """The canonical columns of one batch."""
        place = Place(batch.file, batch.first_row)
        columns: dict[str, pa.Array] = {}
        content, probe = self._content_and_split(batch.table, place)
        count = batch.table.num_rows
        columns["example_id"] = self._ids(batch.table, place)
        columns["position"] = pa.array(np.arange(self.rows, self.rows + count))
        columns["split"] = pc.if_else(pa.array(probe), "probe", "train")
        columns["train_index"] = _running(~probe, self.train_rows)
        columns["probe_index"] = _running(probe, self.probe_rows)
        columns |= content
        columns |= self._answers(batch.table, place, probe)
        for name in self.attributes:
            values = self._text(batch.table, name, place, self.limits.max_attribute_bytes)
            check_text(values, name, place, self.limits.max_attribute_bytes, required=False)
            columns[f"attribute_{name}"] = values
        self.rows += count
        self.probe_rows += int(probe.sum())
        self.train_rows += count - int(probe.sum())
        return columns

    def _content_and_split(
        self, table: pa.RecordBatch, place: Place
    ) -> tuple[dict[str, pa.Array], np.ndarray]:
        mapping = self.mapping
        if mapping.features or mapping.image:
            matrix = self._matrix(table, place)
            lists = pa.FixedSizeListArray.from_arrays(
                pa.array(matrix.ravel(), pa.float32()), matrix.shape[1]
            )
            content = {"image" if mapping.task == "image_classification" else "features": lists}
            if mapping.split is None:
                return content, split_by_numbers(matrix, mapping.probe_fraction, mapping.seed)
        else:
            content = self._texts(table, place)
            if mapping.split is None:
                pieces = [pc.fill_null(content[k], "") for k in content if k != "messages"]
                whole = pc.binary_join_element_wise(*pieces, "\n") if len(pieces) > 1 else pieces[0]
                return content, split_by_text(whole, mapping.probe_fraction, mapping.seed)
        values = self._text(table, mapping.split, place, self.limits.max_attribute_bytes)
        return content, split_from_column(values, mapping, place)

    def _matrix(self, table: pa.RecordBatch, place: Place) -> np.ndarray:
        """Features or image values as finite float32 (N, D)."""
        mapping, limits = self.mapping, self.limits
        names = (mapping.image,) if mapping.task == "image_classification" else mapping.features
        assert names and names[0] is not None
        if len(names) == 1 and not self._is_single_number(table, names[0]):
            matrix = as_number_matrix(
                table.column(names[0]), names[0], place, self.width, limits.max_features
            )
        else:
            columns = [as_numbers(table.column(name), name, place) for name in names if name]
            matrix = np.stack(columns, axis=1)
        self.width = matrix.shape[1]
        if (self.rows + len(matrix)) * self.width > limits.max_numbers:
            raise FormatError(place.file, rule=f"holds more than {limits.max_numbers:,} numbers")
        with np.errstate(over="ignore"):
            single = matrix.astype(np.float32)
        check_finite(single, [name for name in names if name], place)
        return single

    def _is_single_number(self, table: pa.RecordBatch, name: str) -> bool:
        """Whether one mapped feature column holds plain numbers, not lists of numbers."""
        if self.mapping.task == "image_classification":
            return False
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if not pa.types.is_string(column.type):
            return not pa.types.is_nested(column.type)
        listed = pc.match_substring_regex(pc.fill_null(column, ""), r"^\s*\[|,")
        return first_true(listed) is None

    def _texts(self, table: pa.RecordBatch, place: Place) -> dict[str, pa.Array]:
        mapping, size = self.mapping, self.limits.max_text_bytes
        if mapping.messages is not None:
            written = self._text(table, mapping.messages, place, size)
            check_text(written, mapping.messages, place, size, required=True)
            return messages_as_prompt_and_completion(written, mapping.messages, place)
        parts = {"text": mapping.text}
        if mapping.task == "prompt_completion":
            parts = {"prompt": mapping.prompt, "completion": mapping.completion}
        texts: dict[str, pa.Array] = {}
        for part, name in parts.items():
            assert name is not None
            texts[part] = self._text(table, name, place, size)
            check_text(texts[part], name, place, size, required=True)
        return texts

    def _ids(self, table: pa.RecordBatch, place: Place) -> pa.Array:
        name = self.mapping.example_id
        if name is None:
            numbers = np.arange(self.rows + 1, self.rows + table.num_rows + 1)
            return pa.array(numbers).cast(pa.string())
        ids = pc.utf8_trim_whitespace(self._text(table, name, place, 4_096))
        check_name(ids, name, place, self.limits.max_id_characters, what="id")
        self.id_hashes.append(text_hashes(ids))
        return ids

    def _answers(
        self, table: pa.RecordBatch, place: Place, probe: np.ndarray
    ) -> dict[str, pa.Array]:
        """`label` or `target`; probe rows take theirs from the probe-label column where one is
        mapped."""
        mapping = self.mapping
        if mapping.task in CLASSIFICATION_TASKS:
            assert mapping.label is not None
            own = pc.utf8_trim_whitespace(self._text(table, mapping.label, place, 4_096))
            probe_column = mapping.probe_label
            if probe_column is not None:
                other = pc.utf8_trim_whitespace(self._text(table, probe_column, place, 4_096))
                self._check_labels(own, mapping.label, place, ~probe)
                self._check_labels(other, probe_column, place, probe)
                own = pc.if_else(pa.array(probe), other, own)
            else:
                self._check_labels(own, mapping.label, place, np.ones(len(own), bool))
            self.labels.add(own, probe, place, probe_column or mapping.label, mapping.label)
            return {"label": own}
        if mapping.task == "tabular_regression":
            assert mapping.target is not None
            target = as_numbers(table.column(mapping.target), mapping.target, place)
            if mapping.probe_label is not None:
                other = as_numbers(table.column(mapping.probe_label), mapping.probe_label, place)
                target = np.where(probe, other, target)
            check_finite(target[:, None], [mapping.target], place)
            return {"target": pa.array(target, pa.float64())}
        return {}

    def _check_labels(self, values: pa.Array, field: str, place: Place, where: np.ndarray) -> None:
        kept = pc.if_else(pa.array(where), values, "-")
        check_name(kept, field, place, self.limits.max_label_characters, what="label")

    def _text(self, table: pa.RecordBatch, name: str | None, place: Place, size: int) -> pa.Array:
        assert name is not None
        values = table.column(name)
        return as_text(values, name, place, size, self.reader.class_names.get(name))

    def _classes(self) -> list[str]:
        if self.train_rows == 0 or self.probe_rows == 0:
            empty = "train" if self.train_rows == 0 else "probe"
            hint = (
                f"the split column '{self.mapping.split}' names none"
                if self.mapping.split
                else "choose another probe fraction or seed, or add rows"
            )
            raise FormatError(self.file, field="split", rule=f"there are no {empty} rows: {hint}")
        if self.mapping.task not in CLASSIFICATION_TASKS:
            return []
        return self.labels.classes(self.file, self.mapping.label)

    def _metadata(self, classes: list[str]) -> dict[str, Any]:
        mapping = self.mapping
        names: list[str] = []
        if mapping.features:
            names = list(mapping.features)
            if len(names) == 1 and self.width != 1:
                names = [f"{names[0]}[{k}]" for k in range(self.width or 0)]
        shape = list(mapping.image_shape) if mapping.image_shape else None
        return {
            "task": mapping.task, "classes": classes, "feature_names": names, "image_shape": shape
        }  # fmt: skip

    def _check_unique_ids(self, written: Path) -> None:
        if not self.id_hashes:
            return
        hashes = np.concatenate(self.id_hashes)
        self.id_hashes.clear()
        hashes.sort()
        if not (hashes[1:] == hashes[:-1]).any():
            return
        table = pq.read_table(written, columns=["example_id", "position"], use_threads=False)
        groups = table.group_by("example_id").aggregate([("position", "min"), ("position", "max")])
        twice = groups.filter(pc.not_equal(groups["position_min"], groups["position_max"]))
        if twice.num_rows:
            twice = twice.sort_by("position_max").slice(0, 1)
            first, second = twice["position_min"][0].as_py(), twice["position_max"][0].as_py()
            raise FormatError(
                self.file,
                second + 1,
                self.mapping.example_id,
                f"the id '{twice['example_id'][0].as_py()}' stands in row {first + 1} "
                f"and in row {second + 1}; ids must be unique",
            )

    def _summary(
        self, metadata: dict[str, Any], digest: str, statistics: dict[str, Any]
    ) -> DatasetSummary:
        classes = metadata["classes"]
        return DatasetSummary(
            task=self.mapping.task,
            format=self.reader.format,
            rows=self.rows,
            train_rows=self.train_rows,
            probe_rows=self.probe_rows,
            classes=classes,
            class_counts=self.labels.counts(classes),
            feature_names=metadata["feature_names"],
            image_shape=metadata["image_shape"],
            attributes=list(self.attributes),
            content_sha256=digest,
            statistics=statistics,
        )


def _running(mask: np.ndarray, start: int) -> pa.Array:
    """Consecutive int32 numbers from `start` where `mask`, null elsewhere."""
    return pa.array((start + np.cumsum(mask) - 1).astype(np.int32), mask=~mask)


def _as_batch(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
