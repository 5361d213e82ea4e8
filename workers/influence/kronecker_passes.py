"""What a Kronecker-factored curvature is made of: labels of the model's own, and the recorded uses
of every matrix, batch by batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from workers.influence.kronecker_blocks import KroneckerBlock
from workers.influence.kronecker_uses import Cotangents, Recorded, record_uses
from workers.influence.linearised import CHUNK_BYTES, Linearised, square_root_curvature
from workers.training.losses import IGNORED_TOKEN

MOST_EXACT_CLASSES = 16
"""Up to so many classes the model's labels are summed over, not drawn."""
KEPT_BYTES = 256 << 20
"""Of recorded uses that are kept between passes."""
CHECKED_EXAMPLES = 4
LONGEST_BATCH = 512


class ModelLabels:
    """Cotangents of the outputs whose second moments are the curvature of the loss in them."""

    def __init__(self, at: Linearised, seed: int) -> None:
        self.loss = at.problem.loss
        self.targets = at.train.targets
        generator = torch.Generator().manual_seed(seed)
        number = len(at.train)
        # Position first, example second: neither batches nor padding move anyone's draw.
        length = self.targets.shape[1] if self.targets.ndim == 2 else 1
        self.draws = torch.rand(length, number, generator=generator, dtype=torch.float64).T

    def of(self, indices: Tensor) -> Cotangents:
        """For the training examples at `indices`."""
        return lambda outputs: self._cotangents(outputs, indices)

    def _cotangents(self, outputs: Tensor, indices: Tensor) -> Tensor:
        if self.loss == "squared_error":
            return torch.full_like(outputs, 2**0.5)[None]
        if self.loss == "cross_entropy" and outputs.shape[1] <= MOST_EXACT_CLASSES:
            return square_root_curvature(self.loss, outputs).movedim(1, 0)
        probabilities = outputs.softmax(-1)
        draws = self.draws[indices].reshape(*outputs.shape[:-1], 1)
        cumulative = probabilities.double().cumsum(-1)
        drawn = torch.searchsorted(cumulative, draws * cumulative[..., -1:])
        drawn = drawn.clamp_max(outputs.shape[-1] - 1)
        found = probabilities.scatter_add(-1, drawn, torch.full_like(probabilities[..., :1], -1.0))
        if self.loss == "next_token":
            counted = (self.targets[indices] != IGNORED_TOKEN).to(outputs.dtype)
            # The loss is a mean over tokens, and so is its curvature: one root of their number.
            found = found * (counted / counted.sum(1, keepdim=True).clamp_min(1).sqrt())[..., None]
        return found[None]


class Passes:
    """The uses of every batch, pass by pass: kept from the first where they fit, else
    recorded again."""

    def __init__(
        self,
        at: Linearised,
        labels: ModelLabels,
        blocks: Sequence[KroneckerBlock],
        vectors: Sequence[str] = (),
    ) -> None:
        """`vectors` are the parameters outside `blocks` whose gradients are wanted too."""
        self.at = at
        self.labels = labels
        self.weights = at.weights.clamp_min(0)
        self.wanted = {*vectors, *(block.weight for block in blocks)}
        self.vectors = tuple(vectors)
        self._kept: list[tuple[Tensor, dict[str, list[Recorded]]]] | None = None

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, list[Recorded]]]]:
        """The weights (B,) and the uses by weight of each batch."""
        if self._kept is not None:
            yield from self._kept
            return
        kept, total = [], 0
        number = len(self.at.train)
        start, length = 0, min(CHECKED_EXAMPLES, number)
        while start < number:
            indices = torch.arange(start, min(number, start + length))
            recorded = record_uses(
                self.at,
                self.at.train.select(indices).inputs,
                self.labels.of(indices),
                vectors=bool(self.vectors),
            )
            found = by_weight(
                [one for one in recorded if {one.use.weight, one.use.bias} & self.wanted]
            )
            each = sum(one.nbytes for one in recorded) / len(indices)
            length = max(1, min(LONGEST_BATCH, int(CHUNK_BYTES / max(1.0, each))))
            start += len(indices)
            total += round(each * len(indices))
            if total <= KEPT_BYTES:
                kept.append((self.weights[indices], found))
            yield self.weights[indices], found
        if total <= KEPT_BYTES:
            self._kept = kept


def by_weight(recorded: Sequence[Recorded]) -> dict[str, list[Recorded]]:
    found: dict[str, list[Recorded]] = defaultdict(list)
    for one in recorded:
        found[one.use.weight].append(one)
    return dict(found)
