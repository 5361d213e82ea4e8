"""Bags of units: TF-IDF weights fitted on the train split, kept as padded ids and weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from workers.training.encoding import tokenizers
from workers.training.encoding.hashing import hashed_counts

Counts = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def fit_bag(texts: pa.Array, architecture: dict[str, Any]) -> dict[str, Any]:
    """The state of a bag encoding: its units and their inverse document frequency in `texts`."""
    state: dict[str, Any] = {
        "kind": "bag",
        "tokenizer": architecture["tokenizer"],
        "most_units": architecture["most_units"],
    }
    if architecture["tokenizer"] == "hashed":
        state["vocabulary_size"] = architecture["buckets"]
    else:
        state["tokenizer_json"] = tokenizers.fit_tokenizer(texts, architecture["tokenizer_size"])
        state["vocabulary_size"] = tokenizers.vocabulary_size(state["tokenizer_json"])
    _, unit, _ = unit_counts(texts, state)
    documents = np.bincount(unit, minlength=state["vocabulary_size"])
    inverse = np.log((1 + len(texts)) / (1 + documents)) + 1
    state["inverse_document_frequency"] = inverse.round(6).tolist()
    return state


def encode_bag(texts: pa.Array, state: dict[str, Any]) -> tuple[dict[str, Tensor], int]:
    """{"ids": (N, L) int32, "weights": (N, L) float32}, and how many texts lost rare units.

    A text's weights have length 1 (Euclidean); padding has id 0 and weight 0.
    """
    row, unit, count = unit_counts(texts, state)
    inverse = np.asarray(state["inverse_document_frequency"])
    weight = (1 + np.log(np.maximum(count, 1))) * inverse[unit]
    order = np.lexsort((-weight, row))
    row, unit, weight = row[order], unit[order], weight[order]
    lengths = np.bincount(row, minlength=len(texts))
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = place < state["most_units"]
    row, unit, weight, place = row[kept], unit[kept], weight[kept], place[kept]
    norm = np.sqrt(np.bincount(row, weight**2, minlength=len(texts)))
    width = max(int(place.max()) + 1 if len(place) else 1, 1)
    ids = np.zeros((len(texts), width), np.int32)
    weights = np.zeros((len(texts), width), np.float32)
    ids[row, place] = unit
    weights[row, place] = weight / norm[row]
    shortened = int((lengths > state["most_units"]).sum())
    return {"ids": torch.from_numpy(ids), "weights": torch.from_numpy(weights)}, shortened


def unit_counts(texts: pa.Array, state: dict[str, Any]) -> Counts:
    if state["tokenizer"] == "hashed":
        return hashed_counts(texts, state["vocabulary_size"])
    ids, lengths = tokenizers.flat_ids(texts, state["tokenizer_json"])
    row = np.repeat(np.arange(len(texts)), lengths)
    size = state["vocabulary_size"]
    cells, count = np.unique(row * size + ids, return_counts=True)
    return cells // size, cells % size, count
