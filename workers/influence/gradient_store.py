"""Projected gradients on disk: blocks of rows in safetensors files that are read by memory map,
each written aside and renamed, so that it is complete or absent. What the rows mean is not known
here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from workers.training.trajectory import write_tensors

TYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


class StoreError(ValueError):
    """A store's files do not have the form that they should have."""


@dataclass(frozen=True)
class GradientStore:
    """N rows of k numbers, `block_rows` to a file, and the curvature (k, k) of each block.

    float16 rows are kept as directions of length 1 with a float32 length, so that small gradients
    are not lost.
    """

    folder: Path
    rows: int
    """N."""
    dimension: int
    """k."""
    block_rows: int
    storage: str = "float32"

    def __post_init__(self) -> None:
        if self.storage not in TYPES:
            raise ValueError(f"unknown storage “{self.storage}”; known: {', '.join(TYPES)}")

    @property
    def number_of_blocks(self) -> int:
        return -(-self.rows // self.block_rows)

    def rows_of(self, block: int) -> range:
        start = block * self.block_rows
        return range(start, min(start + self.block_rows, self.rows))

    def is_finished(self, block: int) -> bool:
        return self.gradients_file(block).is_file() and (
            self.curvature_file(block).is_file() or self._total_file.is_file()
        )

    def missing(self) -> list[int]:
        return [block for block in range(self.number_of_blocks) if not self.is_finished(block)]

    def gradients_file(self, block: int) -> Path:
        return self.folder / f"gradients-{block:06d}.safetensors"

    def curvature_file(self, block: int) -> Path:
        return self.folder / f"curvature-{block:06d}.safetensors"

    @property
    def _total_file(self) -> Path:
        return self.folder / "curvature.safetensors"

    def write(self, block: int, gradients: Tensor, curvature: Tensor) -> None:
        """Keeps the rows (n, k) of a block and its part (k, k) of the curvature.

        Raises StoreError for rows of another shape than the plan's.
        """
        expected = (len(self.rows_of(block)), self.dimension)
        if tuple(gradients.shape) != expected:
            raise StoreError(f"block {block} needs rows {expected}, not {tuple(gradients.shape)}")
        kept = {"gradients": gradients.to(TYPES[self.storage]).contiguous()}
        if self.storage == "float16":
            lengths = torch.linalg.vector_norm(gradients.float(), dim=1, keepdim=True)
            directions = gradients.float() / lengths.clamp_min(torch.finfo(torch.float32).tiny)
            kept = {"gradients": directions.half().contiguous(), "lengths": lengths}
        write_tensors(self.curvature_file(block), {"curvature": curvature.double().contiguous()})
        write_tensors(self.gradients_file(block), kept)

    def read(self, block: int) -> Tensor:
        """The rows (n, k) of a finished block, float32 or float64.

        Raises StoreError when the file is missing or another than was written.
        """
        file = self.gradients_file(block)
        found = _read(file)
        gradients = found.get("gradients")
        expected = (len(self.rows_of(block)), self.dimension)
        if gradients is None or tuple(gradients.shape) != expected:
            raise StoreError(f"the gradients in {file.name} do not have the shape {expected}")
        if self.storage == "float16":
            return gradients.float() * found["lengths"]
        return gradients

    def curvature(self) -> Tensor:
        """(k, k) float64, the sum over all blocks in their order: the same bytes whoever computed
        the blocks. The first call replaces the blocks' parts by their sum.

        Raises StoreError while a block is missing.
        """
        if not self._total_file.is_file():
            try:
                self._merge()
            except StoreError:
                if not self._total_file.is_file():  # else another worker merged them meanwhile
                    raise
        return _read(self._total_file)["curvature"]

    def _merge(self) -> None:
        total = torch.zeros(self.dimension, self.dimension, dtype=torch.float64)
        for block in range(self.number_of_blocks):
            total += _read(self.curvature_file(block))["curvature"]
        write_tensors(self._total_file, {"curvature": total})
        for block in range(self.number_of_blocks):
            self.curvature_file(block).unlink(missing_ok=True)

    def touch(self) -> None:
        """Marks the store as used just now; see `prune`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "used").touch()


def _read(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:  # the reader has no class of its own for a damaged file
        raise StoreError(f"{file.name} is missing or damaged") from error


def content_key(described: Mapping[str, Any], tensors: Iterable[Tensor]) -> str:
    """SHA-256 of everything that decides the content of a store."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def prune(root: Path, most_bytes: int, keep: Iterable[str] = ()) -> list[str]:
    """Deletes the stores under `root` that were used longest ago until the rest holds at most
    `most_bytes`; those named in `keep` stay. Returns the deleted ones' names."""
    kept = set(keep)
    stores = sorted(
        (_used_at(folder), folder)
        for folder in (root.iterdir() if root.is_dir() else ())
        if folder.is_dir()
    )
    sizes = {folder: _bytes_in(folder) for _, folder in stores}
    total, deleted = sum(sizes.values()), []
    for _, folder in stores:
        if total <= most_bytes:
            break
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)
            total -= sizes[folder]
            deleted.append(folder.name)
    return deleted


def _used_at(folder: Path) -> float:
    file = folder / "used"
    return file.stat().st_mtime if file.is_file() else folder.stat().st_mtime


def _bytes_in(folder: Path) -> int:
    total = 0
    for entry in os.scandir(folder):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue  # a part that another worker has just merged
    return total
