"""How alike training and probe examples are as they were encoded, whatever the model learned:
BM25 over token or unit ids, and the cosine of encoded inputs. Signs are the caller's matter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array

from workers.training.examples import EncodedExamples

SATURATION = 1.2
LENGTH_SHARE = 0.75
"""k₁ and b of BM25, at the values of Robertson & Zaragoza 2009, section 3.4.2."""


def unit_counts(examples: EncodedExamples, vocabulary: int, *, weighted: bool) -> Any:
    """(N, V) sparse: how often each token or unit id stands in each example, padding left out.

    A bag keeps one entry for each unit: 1, or its encoded weight when `weighted`.
    """
    ids = examples.inputs["ids"].numpy()
    values = np.ones(ids.shape)
    if "mask" in examples.inputs:
        values = examples.inputs["mask"].numpy().astype(np.float64)
    elif "weights" in examples.inputs:
        weights = examples.inputs["weights"].numpy().astype(np.float64)
        values = weights if weighted else (weights != 0).astype(np.float64)
    rows, places = values.nonzero()
    # Repeated cells are summed.
    return csr_matrix((values[rows, places], (rows, ids[rows, places])), (len(ids), vocabulary))


def vocabulary_of(*many: EncodedExamples) -> int:
    """One more than the largest id. Raises ValueError for examples without ids."""
    if any("ids" not in examples.inputs for examples in many):
        raise ValueError("text overlap needs examples that are encoded as tokens or units of text")
    return 1 + max(int(examples.inputs["ids"].max()) for examples in many)


def bm25_weights(counts: Any) -> Any:
    """(N, V) sparse BM25 weight of each unit in each document with `counts` (N, V).

    log(1 + (N - d + ½) / (d + ½)) · f (k₁ + 1) / (f + k₁ (1 - b + b |D| / mean |D|)), with d the
    documents that hold the unit and f its count in this one (Robertson & Zaragoza 2009, in the
    form whose inverse document frequency is never negative).
    """
    number, vocabulary = counts.shape
    held = np.bincount(counts.indices, minlength=vocabulary)
    rarity = np.log1p((number - held + 0.5) / (held + 0.5))
    lengths = np.asarray(counts.sum(1)).reshape(-1)
    relative = lengths / max(lengths.mean(), 1e-300)
    own = np.repeat(
        SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * relative), np.diff(counts.indptr)
    )
    found = counts.copy()
    found.data = rarity[counts.indices] * counts.data * (SATURATION + 1) / (counts.data + own)
    return found


def directions(examples: EncodedExamples, vocabulary: int | None) -> Any:
    """(N, F) encoded inputs at length 1: unit weights or counts with a `vocabulary`, else numbers
    flattened. An example without any stays 0."""
    if vocabulary is not None:
        values = unit_counts(examples, vocabulary, weighted=True)
        norms = np.sqrt(np.asarray(values.multiply(values).sum(1)).reshape(-1))
        return csr_matrix(diags_array(1 / np.maximum(norms, 1e-300)) @ values)
    flat: NDArray[np.float64] = np.concatenate(
        [tensor.flatten(1).numpy().astype(np.float64) for tensor in examples.inputs.values()], 1
    )
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-300)
