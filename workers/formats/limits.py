"""How much of an untrusted dataset is read at most; every limit is checked before the work it
bounds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class DatasetLimits:
    """Bounds of one upload. Byte limits count bytes, character limits count Unicode code points."""

    max_file_bytes: int = 2048 * MEBIBYTE
    max_uncompressed_bytes: int = 4096 * MEBIBYTE
    max_rows: int = 5_000_000
    max_columns: int = 4_096
    max_attributes: int = 200
    max_features: int = 65_536
    max_numbers: int = 1_000_000_000  # features or image values in the whole dataset
    max_row_bytes: int = 16 * MEBIBYTE
    max_text_bytes: int = MEBIBYTE
    max_attribute_bytes: int = 65_536
    max_label_characters: int = 200
    max_id_characters: int = 200
    max_column_name_characters: int = 200
    max_classes: int = 1_000
    max_nesting: int = 32
    max_json_array_bytes: int = 64 * MEBIBYTE
    max_footer_bytes: int = 64 * MEBIBYTE
    max_row_groups: int = 10_000
    max_files: int = 1_000

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DatasetLimits:
        known = {field.name for field in fields(cls)}
        return cls(**{name: int(limit) for name, limit in value.items() if name in known})
