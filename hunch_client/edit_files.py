"""Edits as CSV files with the columns `example_id` and `weight`."""

import csv
from collections.abc import Mapping
from pathlib import Path

from hunch_client.errors import HunchError


def read_edits(path: Path) -> dict[str, float]:
    """Example id to weight. Raises HunchError naming the line."""
    weights: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        if not {"example_id", "weight"} <= set(rows.fieldnames or []):
            raise HunchError(f"{path} needs the columns example_id and weight.")
        for row in rows:
            try:
                weights[row["example_id"]] = float(row["weight"])
            except (TypeError, ValueError):
                raise HunchError(
                    f"{path}, line {rows.line_num}: the weight is no number."
                ) from None
    return weights


def write_edits(path: Path, weights: Mapping[str, float]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["example_id", "weight"])
        rows.writerows(weights.items())
