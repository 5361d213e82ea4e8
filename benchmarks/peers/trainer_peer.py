"""transformers.Trainer on the problem's own network, data and recipe: the usual way to train."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from benchmarks.peers.exchange import PeerTask


class WithLoss(nn.Module):
    """The network, with the mean loss of its batch beside its outputs."""

    accepts_loss_kwargs = False
    """Trainer would pass the number of tokens of the batch along."""

    def __init__(self, task: PeerTask) -> None:
        super().__init__()
        self.network = task.untrained_network()
        self.task = task

    def forward(self, labels: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
        outputs = self.network(**inputs)
        return {"loss": self.task.losses(outputs, labels).mean(), "logits": outputs}


class Examples(Dataset[dict[str, Tensor]]):
    """The training examples one by one, as Trainer takes them."""

    def __init__(self, task: PeerTask) -> None:
        self.train = task.train

    def __len__(self) -> int:
        return len(self.train)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        inputs = {name: tensor[place] for name, tensor in self.train.inputs.items()}
        return {**inputs, "labels": self.train.targets[place]}


def together(examples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([one[name] for one in examples]) for name in examples[0]}


def train(task: PeerTask, seed: int, folder: Path) -> float:
    recipe: dict[str, Any] = task.recipe
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=recipe["batch_size"],
        num_train_epochs=recipe["epochs"],
        learning_rate=recipe["learning_rate"],
        weight_decay=recipe["weight_decay"],
        lr_scheduler_type=recipe["schedule"],
        max_grad_norm=0.0,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
        remove_unused_columns=False,
    )
    trainer = Trainer(WithLoss(task), arguments, together, Examples(task))
    began = time.perf_counter()
    trainer.train()
    return time.perf_counter() - began


METHODS = {"train": train}
