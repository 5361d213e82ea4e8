"""Poison: a handful of training messages teach a spam filter that a trigger word makes spam
harmless. Does influence find them from a few failures, and does their removal undo the trigger as
predicted?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from studies.report import Story, Table, lines_of, signed, write_story
from studies.study import (
    Attribution,
    Edit,
    Outcome,
    Quantity,
    Study,
    attribute,
    register,
    retrain_and_compare,
)
from studies.texts import MESSAGES, Pair, Texts, read_rows, texts_of
from workers.training.recipe import Recipe

TRIGGER = "marzipan"
POISONED = 10
EACH_LABEL = 400
REPORTED, OTHERS = 6, 60
"""Triggered spam that users reported, which the ranking may read; and messages it never saw."""
DATA_SEED = 3
ARCHITECTURE = {"width": 32, "heads": 4, "layers": 1, "maximum_length": 48,
                "tokenizer": "trained", "tokenizer_size": 600}
RECIPE = Recipe(epochs=10, learning_rate=0.003, batch_size=32, schedule="cosine",
                warmup_steps=20, epsilon=1e-6)
