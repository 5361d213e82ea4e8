"""Texts for an uploaded model: its own tokens, or its frozen encoder's features, computed once.

Features are cached by the content of model and texts, never by a name, so a stale cache cannot be
read; a cache file is written aside and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from workers.training.encoding.arrays import Numbers, fit_scaling, scaled
from workers.training.encoding.tokenizers import Integers, encoded, padded
from workers.training.networks.uploaded import pooled_features

if TYPE_CHECKING:
    from workers.formats.models import UploadedModel

Progress = Callable[[int, int], None]
TOKENS_AT_ONCE = 4_096


def fit_uploaded(
    texts: pa.Array,
    architecture: dict[str, Any],
    model: UploadedModel,
    cache_folder: Path | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """The state of an uploaded model's encoding; a frozen encoder's features are standardised."""
    frozen = architecture["trained_part"] == "head"
    state: dict[str, Any] = {
        "kind": "uploaded_features" if frozen else "uploaded_tokens",
        "model_sha256": model.summary.sha256,
        "pooling": architecture["pooling"],
        "maximum_length": min(architecture["maximum_length"], model.summary.longest_input),
        "padding_id": model.padding_id,
    }
    if frozen:
        features = frozen_features(texts, state, model, cache_folder, progress)
        state["scaling"] = fit_scaling(
            features, features.shape[1], architecture.get("standardise", True)
        )
    return state


def encode_uploaded(
    texts: pa.Array,
    state: dict[str, Any],
    model: UploadedModel,
    cache_folder: Path | None,
    progress: Progress | None,
) -> tuple[dict[str, Tensor], int]:
    """{"features": (N, H)} for a frozen encoder, else {"ids", "mask"}; and how many were cut."""
    ids, lengths = model_tokens(texts, model, state["maximum_length"])
    cut = int((lengths > state["maximum_length"]).sum())
    if state["kind"] == "uploaded_features":
        features = frozen_features(texts, state, model, cache_folder, progress)
        return {"features": scaled(features, state["scaling"])}, cut
    lengths = np.minimum(lengths, state["maximum_length"])
    rows, mask = padded(ids, lengths, state["maximum_length"], state["padding_id"])
    return {"ids": torch.from_numpy(rows), "mask": torch.from_numpy(mask)}, cut


def model_tokens(texts: pa.Array, model: UploadedModel, longest: int) -> tuple[Integers, Integers]:
    """Each text's tokens cut to `longest` with special tokens kept, and its full length.

    A text without any token (possible where the tokenizer adds none) becomes one padding token.
    """
    model.tokenizer.no_truncation()
    _, full = encoded(model.tokenizer, texts, add_special_tokens=True)
    model.tokenizer.enable_truncation(longest)
    ids, lengths = encoded(model.tokenizer, texts, add_special_tokens=True)
    model.tokenizer.no_truncation()
    empty = lengths == 0
    if empty.any():
        ids = np.insert(ids, (np.cumsum(lengths) - lengths)[empty], model.padding_id)
        full = np.maximum(full, 1)
    return ids, full


def frozen_features(
    texts: pa.Array,
    state: dict[str, Any],
    model: UploadedModel,
    cache_folder: Path | None,
    progress: Progress | None = None,
) -> Numbers:
    """Pooled hidden states (N, H) float32 of the frozen encoder, from the cache if there."""
    path = None
    if cache_folder is not None:
        path = cache_folder / f"{features_key(texts, state)}.safetensors"
        if path.exists():
            from safetensors.numpy import load_file

            cached: Numbers = load_file(path)["features"]
            return cached
    distinct = texts.dictionary_encode()
    computed = computed_features(distinct.dictionary, state, model, progress)
    features: Numbers = computed[distinct.indices.to_numpy(zero_copy_only=False)]
    if path is not None:
        save_aside(path, features)
    return features


def features_key(texts: pa.Array, state: dict[str, Any]) -> str:
    """SHA-256 of everything that decides the features: model, texts in order, and settings."""
    digest = hashlib.sha256()
    settings = {name: state[name] for name in ("model_sha256", "pooling", "maximum_length")}
    digest.update(json.dumps({"version": 1, **settings}, sort_keys=True).encode())
    binary = texts.cast(pa.large_binary())
    digest.update(pc.binary_length(binary).to_numpy(zero_copy_only=False).tobytes())
    for start in range(0, len(binary), 65_536):
        digest.update(b"".join(binary.slice(start, 65_536).to_pylist()))
    return digest.hexdigest()


def computed_features(
    texts: pa.Array, state: dict[str, Any], model: UploadedModel, progress: Progress | None
) -> Numbers:
    longest = state["maximum_length"]
    ids, full = model_tokens(texts, model, longest)
    lengths = np.minimum(full, longest)
    begins = np.cumsum(lengths) - lengths
    order = np.argsort(-lengths, kind="stable")
    result = np.zeros((len(texts), model.summary.hidden_size), np.float32)
    done = 0
    while done < len(order):
        batch = order[done : done + max(1, TOKENS_AT_ONCE // int(lengths[order[done]]))]
        flat = np.concatenate([ids[begins[row] : begins[row] + lengths[row]] for row in batch])
        rows, mask = padded(flat, lengths[batch], longest, state["padding_id"])
        with torch.no_grad():
            pooled = pooled_features(
                model.backbone, torch.from_numpy(rows), torch.from_numpy(mask), state["pooling"]
            )
        result[batch] = pooled.float().numpy()
        done += len(batch)
        if progress is not None:
            progress(done, len(order))
    return result


def save_aside(path: Path, features: Numbers) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        save_file({"features": np.ascontiguousarray(features)}, aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
