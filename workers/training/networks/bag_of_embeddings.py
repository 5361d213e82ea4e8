"""A text classifier that sums the embeddings of a text's words and character n-grams
(cf. Joulin et al. 2017, fastText)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workers.training.networks.layers import ACTIVATIONS, Embedding, Linear, dropout


class BagOfEmbeddings(nn.Module):
    """ids (B, L) int, weights (B, L) float (0 at padding) -> class scores (B, C)."""

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        hidden: int,
        number_of_outputs: int,
        activation: str,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        # A text's weights have length 1: its sum starts small, so that learning decides it.
        self.embedding = Embedding(vocabulary_size, width, generator, standard_deviation=0.1)
        self.hidden = Linear(width, hidden, generator, gain=2**0.5) if hidden else None
        self.output = Linear(hidden or width, number_of_outputs, generator)
        self.activation = ACTIVATIONS[activation]
        self.dropout = dropout()

    def forward(self, ids: Tensor, weights: Tensor) -> Tensor:
        table = self.embedding.weight
        # One product with the table, not a gather of L rows: measured twice as fast for first and
        # second derivatives over several cotangents or weight sets at once.
        counts = torch.zeros(*ids.shape[:-1], table.shape[0], dtype=table.dtype, device=ids.device)
        counts = counts.scatter_add(-1, ids.long(), weights.to(table.dtype))
        values = counts @ table
        if self.hidden is not None:
            values = self.activation(self.hidden(values))
        values = self.dropout(values)
        scores: Tensor = self.output(values)
        return scores


def build_bag_of_embeddings(architecture: dict[str, Any], generator: torch.Generator) -> nn.Module:
    return BagOfEmbeddings(
        architecture["vocabulary_size"],
        architecture["width"],
        architecture["hidden"],
        architecture["number_of_outputs"],
        architecture["activation"],
        generator,
    )
