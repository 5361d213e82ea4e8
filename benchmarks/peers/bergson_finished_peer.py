"""bergson's EK-FAC and TRAK scores of a finished language model, by its own pipelines, from a model
folder and tokenised datasets that are written for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bergson.cli.trak import trak
from bergson.config.config import (
    DataConfig,
    HessianConfig,
    HessianPipelineConfig,
    IndexConfig,
    InversionConfig,
    PreprocessConfig,
    QuerySetConfig,
    ScoreConfig,
    TrakConfig,
)
from bergson.hessians.pipeline import hessian_pipeline
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks.peers.exchange import PeerTask
from workers.training.examples import EncodedExamples

PROJECTIONS, DAMPING = 1_024, 0.1
"""As many as Hunch takes for so many examples. TRAK's usual damping of 0 needs more examples than
projections; this one is the library's own everywhere else."""
TOKENS_AT_ONCE = 2_048
"""The longest input of the model, which bergson takes as the limit of a batch's tokens."""


def ekfac(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, tuple[()]]:
    """(K, N) -∇b · (H + damping)⁻¹ ∇ℓ, H by EK-FAC at the library's usual damping."""
    index, query = written(task, seed, folder)
    hessian_pipeline(
        index,
        HessianConfig(method="kfac", ev_correction=True),
        ScoreConfig(),
        PreprocessConfig(),
        HessianPipelineConfig(query=query),
    )
    return behaviours_of(task, Path(index.run_path) / "scores"), ()


def trak_scores(task: PeerTask, seed: int, folder: Path) -> tuple[Tensor, tuple[()]]:
    """(K, N) of one model, in TRAK's arbitrary unit."""
    index, query = written(task, seed, folder)
    index.projection_dim = PROJECTIONS
    index.projection_target = "global"
    index.projection_seed = seed
    index.loss_fn = "log_odds"
    damped = PreprocessConfig(inversion_cfg=InversionConfig(damping_factor=DAMPING))
    trak(index, TrakConfig(query=query, preprocess_cfg=damped))
    return behaviours_of(task, Path(index.run_path) / "scores"), ()


def written(task: PeerTask, seed: int, folder: Path) -> tuple[IndexConfig, QuerySetConfig]:
    """The model, its texts and the probe texts as bergson reads them."""
    configuration = dict(task.architecture["model_configuration"])
    config = AutoConfig.for_model(configuration.pop("model_type"), **configuration)
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(task.network(seed).model.state_dict())
    model.save_pretrained(folder / "model")
    tokens = {f"<{token}>": token for token in range(config.vocab_size)}
    # Read for its limits alone: the texts come as tokens.
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(tokens))).save_pretrained(
        folder / "model"
    )
    for name, examples in (("train", task.train), ("probe", task.probes[0].examples)):
        rows_of(examples).save_to_disk(str(folder / name))
    index = IndexConfig(
        str(folder / "run"),
        model=str(folder / "model"),
        data=DataConfig(dataset=str(folder / "train")),
        loss_reduction="mean",
        token_batch_size=TOKENS_AT_ONCE,
    )
    return index, QuerySetConfig(dataset=str(folder / "probe"))


def rows_of(examples: EncodedExamples) -> Dataset:
    """Whole sequences with their labels, which bergson shifts by itself."""
    rows: list[dict[str, Any]] = []
    for ids, mask, targets in zip(
        examples.inputs["ids"], examples.inputs["mask"], examples.targets, strict=True
    ):
        inputs, own = ids[mask].tolist(), targets[mask].tolist()
        rows.append(
            {
                "input_ids": [inputs[0], *own],
                "labels": [-100, *own],
                "length": len(own) + 1,
            }
        )
    return Dataset.from_list(rows)


def behaviours_of(task: PeerTask, folder: Path) -> Tensor:
    """(K, N): scores of probe texts, higher where training lowers their loss, as behaviours."""
    found = json.loads((folder / "info.json").read_text())
    table = np.memmap(
        folder / "scores.bin", dtype=np.dtype(found["dtype"]), mode="r", shape=(found["num_rows"],)
    )
    columns = np.stack([table[f"score_{place}"] for place in range(found["num_scores"])])
    return task.behaviour_rows([-torch.from_numpy(columns.astype(np.float32))])


METHODS = {"EK-FAC": ekfac, "TRAK": trak_scores}
