"""Numeric features and images: standardised with the train split's statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from workers.formats.errors import FormatError

Numbers = npt.NDArray[np.float32]
ROWS_AT_ONCE = 65_536


def matrix(column: pa.ChunkedArray, name: str) -> Numbers:
    """A fixed-size-list column as (N, F) float32. Raises FormatError where a number is missing."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if array.null_count or array.flatten().null_count:
        raise FormatError(field=name, rule="a value is missing")
    values = array.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    result: Numbers = values.reshape(len(array), array.type.list_size)
    bad = ~np.isfinite(result).all(1)
    if bad.any():
        raise FormatError(row=int(bad.argmax()) + 1, field=name, rule="a number is not finite")
    return result


def fit_scaling(values: Numbers, groups: int, standardise: bool) -> dict[str, Any]:
    """Mean and scale of (N, F) values; columns are split evenly into `groups` that share both.

    A group that never varies keeps scale 1. Sums are taken in float64, block by block.
    """
    size = values.shape[1] // groups
    if not standardise or not len(values):
        return {"mean": [0.0] * groups, "scale": [1.0] * groups}
    count = len(values) * size
    total = np.zeros(groups)
    for block in blocks(values, groups):
        total += block.sum((0, 2))
    mean = total / count
    squares = np.zeros(groups)
    for block in blocks(values, groups):
        squares += ((block - mean[:, None]) ** 2).sum((0, 2))
    scale = np.sqrt(squares / count)
    constant = scale <= 1e-7 * np.maximum(1.0, np.abs(mean))
    return {"mean": mean.tolist(), "scale": np.where(constant, 1.0, scale).tolist()}


def blocks(values: Numbers, groups: int) -> Any:
    for start in range(0, len(values), ROWS_AT_ONCE):
        block = values[start : start + ROWS_AT_ONCE].astype(np.float64)
        yield block.reshape(len(block), groups, -1)


def scaled(values: Numbers, scaling: dict[str, Any]) -> Tensor:
    """(N, F) float32: (value − mean) / scale, by the groups that `fit_scaling` made."""
    mean, scale = np.asarray(scaling["mean"]), np.asarray(scaling["scale"])
    result = np.empty_like(values)
    done = 0
    for block in blocks(values, len(mean)):
        standard = (block - mean[:, None]) / scale[:, None]
        result[done : done + len(block)] = standard.reshape(len(block), -1)
        done += len(block)
    return torch.from_numpy(result)
