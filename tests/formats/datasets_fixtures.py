"""Small uploads and a call that imports them, shared by the dataset tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from workers.formats.column_mapping import ColumnMapping
from workers.formats.content import DatasetPart
from workers.formats.dataset_import import DatasetSummary, import_parts
from workers.formats.limits import DatasetLimits

TEXT = ColumnMapping("text_classification", text="text", label="label", split="split")
SMALL = DatasetLimits(
    max_file_bytes=4_000_000,
    max_uncompressed_bytes=4_000_000,
    max_rows=50_000,
    max_columns=100,
    max_attributes=20,
    max_features=1_000,
    max_row_bytes=100_000,
    max_text_bytes=10_000,
    max_attribute_bytes=5_000,
    max_classes=50,
    max_json_array_bytes=1_000_000,
    max_row_groups=50,
)


def rows(count: int = 12, **changed: Any) -> list[dict[str, Any]]:
    """Good rows: two classes, every third one for the probe split."""
    return [
        {
            "id": f"e{k}",
            "text": f"text number {k}",
            "label": "ham" if k % 2 else "spam",
            "split": "test" if k % 3 == 2 else "train",
        }
        | changed
        for k in range(count)
    ]


def json_lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode(
        "utf-8", "surrogatepass"
    )


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def import_bytes(
    folder: Path,
    data: bytes | Mapping[str, bytes],
    mapping: ColumnMapping = TEXT,
    limits: DatasetLimits = SMALL,
    name: str = "upload.dat",
) -> tuple[DatasetSummary, pa.Table]:
    """Import one file (or several, by name) and read the canonical table back."""
    files = {name: data} if isinstance(data, bytes) else data
    parts = []
    for number, (file_name, content) in enumerate(files.items()):
        path = folder / f"stored-{number}"
        path.write_bytes(content)
        parts.append(DatasetPart(path, file_name))
    output = folder / "canonical.parquet"
    summary = import_parts(parts, mapping, limits, output)
    return summary, pq.read_table(output)
