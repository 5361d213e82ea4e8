"""The canonical examples table: its schema, its content hash, and a writer that leaves nothing
half-written."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

METADATA_KEY = b"hunch"
ATTRIBUTE_PREFIX = "attribute_"
# Derived from the order of rows and the split, so they add nothing to the identity of the content.
_DERIVED = ("position", "train_index", "probe_index")


def canonical_schema(
    task: str, *, features: int, image: int, messages: bool, attributes: list[str]
) -> pa.Schema:
    """Columns in the order of docs/architecture.md; `features` and `image` are list lengths."""
    fields = [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("train_index", pa.int32()),
        pa.field("probe_index", pa.int32()),
    ]
    if task in ("text_classification", "text"):
        fields.append(pa.field("text", pa.string()))
    if task == "prompt_completion":
        fields += [pa.field("prompt", pa.string()), pa.field("completion", pa.string())]
        if messages:
            fields.append(pa.field("messages", pa.string()))
    if task.startswith("tabular"):
        fields.append(pa.field("features", pa.list_(pa.float32(), features)))
    if task == "image_classification":
        fields.append(pa.field("image", pa.list_(pa.float32(), image)))
    if task.endswith("classification"):
        fields.append(pa.field("label", pa.string()))
    if task == "tabular_regression":
        fields.append(pa.field("target", pa.float64()))
    fields += [pa.field(ATTRIBUTE_PREFIX + name, pa.string()) for name in attributes]
    return pa.schema(fields)


class ContentHash:
    """SHA-256 of the content of a canonical table.

    Independent of compression, row groups and batch sizes: each column feeds its validity, its
    value lengths and its bytes to three running digests; the result is the digest of all of them
    with the column names, types and the `hunch` metadata.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._fields = [field for field in schema if field.name not in _DERIVED]
        self._digests = [[hashlib.sha256() for _ in range(3)] for _ in self._fields]
        self._rows = 0

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        self._rows += batch.num_rows
        for field, digests in zip(self._fields, self._digests, strict=True):
            column = batch.column(field.name)
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            for digest, piece in zip(digests, _pieces(column), strict=True):
                digest.update(piece)

    def hexdigest(self, metadata: dict[str, Any]) -> str:
        whole = {
            "rows": self._rows,
            "metadata": metadata,
            "columns": [
                [field.name, str(field.type), *(digest.hexdigest() for digest in digests)]
                for field, digests in zip(self._fields, self._digests, strict=True)
            ],
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _pieces(column: pa.Array) -> tuple[memoryview, memoryview, memoryview]:
    """Validity, lengths and values as contiguous little-endian bytes; nulls are empty or zero."""
    valid = column.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type):
        column = pc.fill_null(column, "")
        lengths = pc.binary_length(column).to_numpy(zero_copy_only=False).astype("<i4")
        offsets = np.frombuffer(column.buffers()[1], "<i4")
        start, end = offsets[column.offset], offsets[column.offset + len(column)]
        buffer = column.buffers()[2]
        data = memoryview(b"") if buffer is None else memoryview(buffer)[start:end]
        return memoryview(valid.data), memoryview(lengths.data), data
    if pa.types.is_fixed_size_list(column.type):
        values = column.flatten().to_numpy(zero_copy_only=False).astype("<f4")
    else:
        values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype("<f8")
    return memoryview(valid.data), memoryview(b""), memoryview(values.tobytes())


def read_metadata(path: Path) -> dict[str, Any]:
    """The `hunch` metadata of a canonical table: task, classes, feature names, image shape."""
    metadata = pq.read_metadata(path).metadata or {}
    value: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    return value


def content_hash(path: Path) -> str:
    """SHA-256 of the content of a canonical table on disk; see ContentHash."""
    with pq.ParquetFile(path) as file:
        digest = ContentHash(file.schema_arrow)
        for batch in file.iter_batches(batch_size=65_536, use_threads=False):
            digest.update(batch)
    return digest.hexdigest(read_metadata(path))


class CanonicalWriter:
    """Writes beside `output` and renames at `finish`; leaving the block without it removes the
    file."""

    def __init__(self, output: Path, schema: pa.Schema) -> None:
        self.output = output
        self.partial = output.parent / f".{output.name}.{secrets.token_hex(8)}.partial"
        self._hash = ContentHash(schema)
        self._schema = schema
        self._writer = pq.ParquetWriter(
            self.partial, schema, compression="zstd", store_schema=False
        )
        self._finished = False

    def write(self, batch: pa.RecordBatch) -> None:
        self._hash.update(batch)
        self._writer.write_batch(batch, row_group_size=131_072)

    def close(self, metadata: dict[str, Any]) -> str:
        """End the file, still under its temporary name; returns the content hash."""
        written = {METADATA_KEY: json.dumps(metadata).encode()}
        # The classes are known only now, so the Arrow schema with this metadata, which gives
        # readers the list lengths and `schema.metadata`, is stored here, not by the writer.
        arrow_schema = self._schema.with_metadata(written).serialize()
        written[b"ARROW:schema"] = base64.b64encode(arrow_schema)
        self._writer.add_key_value_metadata(written)
        self._writer.close()
        return self._hash.hexdigest(metadata)

    def promote(self) -> None:
        """Make the closed file durable under its final name."""
        with self.partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(self.partial, self.output)
        self._finished = True

    def __enter__(self) -> CanonicalWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._finished:
            self._writer.close()
            self.partial.unlink(missing_ok=True)


def remove_partial_files(output: Path) -> None:
    """Remove what an interrupted writer of `output` (killed, say) has left beside it."""
    prefix, suffix = f".{output.name}.", ".partial"
    for path in output.parent.iterdir():
        if path.name.startswith(prefix) and path.name.endswith(suffix):
            path.unlink(missing_ok=True)
