"""Targets: class numbers, or numbers on a standardised scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from workers.formats.errors import FormatError

UNKNOWN_CLASS = -100


def fit_targets(
    train: pa.Table, metadata: dict[str, Any], architecture: dict[str, Any]
) -> dict[str, Any]:
    """The state that turns labels into class numbers, or targets into standardised numbers."""
    if metadata["task"] != "tabular_regression":
        return {"kind": "classes", "classes": list(metadata["classes"])}
    values = train["target"].to_numpy().astype(np.float64)
    state = {"kind": "number", "mean": 0.0, "scale": 1.0}
    if architecture.get("standardise_target", True) and len(values):
        scale = float(values.std())
        state |= {"mean": float(values.mean()), "scale": scale if scale > 0 else 1.0}
    return state


def encode_targets(table: pa.Table, state: dict[str, Any]) -> Tensor:
    """(N,) int64 class numbers, or (N,) float32 of (target − mean) / scale.

    Where the table has no label or target column, or a label is null, the class is −100, which
    every loss ignores. Raises FormatError for a label that is not among the classes.
    """
    if state["kind"] == "number":
        if "target" not in table.column_names:
            return torch.zeros(len(table))
        values = table["target"].to_numpy().astype(np.float64)
        return torch.from_numpy(((values - state["mean"]) / state["scale"]).astype(np.float32))
    if "label" not in table.column_names:
        return torch.full((len(table),), UNKNOWN_CLASS)
    labels = table["label"].cast(pa.string())
    found = pc.index_in(labels, value_set=pa.array(state["classes"], pa.string()))
    unknown = pc.and_(pc.is_null(found), pc.is_valid(labels))
    if pc.any(unknown).as_py():
        row = pc.index(unknown, True).as_py()
        raise FormatError(
            row=row + 1,
            field="label",
            rule=f"{labels[row].as_py()!r} is not one of the dataset's classes",
        )
    numbers = pc.fill_null(found, UNKNOWN_CLASS).to_numpy()
    return torch.from_numpy(numbers.astype(np.int64))
