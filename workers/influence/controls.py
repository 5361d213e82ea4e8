"""Controls: scores that know nothing, or little, of training, shown beside the predictors so that
a user sees whether influence adds anything. Every unit is arbitrary.

Signs follow one convention: an example that a control rates high counts as good for the behaviour,
better where higher is better and lower for a loss. The two similarities turn the sign for a
training example of another class than the probe example's (than the behaviour's label, where it
has one), without which they could not tell a helpful neighbour from a mislabelled one.

Cost for each seed: gradient norm one epoch of per-example gradients, loss one forward pass, the
others no network at all.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.influence.behaviours import HIGHER_IS_BETTER, Behaviour
from workers.influence.checkpoint_method import ARBITRARY_UNIT, CheckpointMethod
from workers.influence.linearised import Linearised
from workers.influence.overlap import bm25_weights, directions, unit_counts, vocabulary_of
from workers.training.examples import EncodedExamples
from workers.training.losses import LOSSES, loss_for_targets
from workers.training.trainer import TrainingRun

EXAMPLES_AT_ONCE = 256


class Control(CheckpointMethod):
    """Rates examples by `ratings`; the behaviour's direction gives the sign."""

    unit: ClassVar[str] = ARBITRARY_UNIT
    paper: ClassVar[str] = "A control, not a predictor"

    @abstractmethod
    def ratings(self, run: TrainingRun, behaviours: Sequence[Behaviour]) -> Tensor:
        """(K, N), or (1, N) when every behaviour gets the same."""

    def scores_of_run(
        self, run: TrainingRun, behaviours: Sequence[Behaviour]
    ) -> tuple[Tensor, dict[str, Any]]:
        signs = [1.0 if HIGHER_IS_BETTER[one.kind] else -1.0 for one in behaviours]
        return torch.tensor(signs)[:, None] * self.ratings(run, behaviours), {}


class GradientNorm(Control):
    """|∇ℓᵢ| at the final parameters, the same for every behaviour."""

    name: ClassVar[str] = "control_gradient_norm"
    title: ClassVar[str] = "Control: gradient norm"
    question: ClassVar[str] = "Which examples still pull hardest on the finished model?"

    def ratings(self, run: TrainingRun, behaviours: Sequence[Behaviour]) -> Tensor:
        at = Linearised.of(run)
        norms = [at.loss_gradients(at.train.select(indices)).norm(dim=1) for indices in at.chunks()]
        return torch.cat(norms)[None]


class Loss(Control):
    """ℓᵢ at the final parameters, the same for every behaviour."""

    name: ClassVar[str] = "control_loss"
    title: ClassVar[str] = "Control: loss"
    question: ClassVar[str] = "Which examples does the finished model fit worst?"

    def ratings(self, run: TrainingRun, behaviours: Sequence[Behaviour]) -> Tensor:
        at = Linearised.of(run)
        losses = []
        with torch.no_grad():
            for indices in torch.arange(len(at.train)).split(EXAMPLES_AT_ONCE):
                batch = at.train.select(indices)
                losses.append(LOSSES[run.problem.loss](at.outputs(batch.inputs), batch.targets))
        return torch.cat(losses)[None]


class Random(Control):
    """Standard normal draws, the same again for the same seed and behaviour."""

    name: ClassVar[str] = "control_random"
    title: ClassVar[str] = "Control: random"
    question: ClassVar[str] = "How well would chance alone do?"

    def ratings(self, run: TrainingRun, behaviours: Sequence[Behaviour]) -> Tensor:
        rows = []
        for behaviour in behaviours:
            digest = hashlib.sha256(f"{run.seed} {behaviour.kind} {behaviour.label}".encode())
            tensors = {**behaviour.examples.inputs, "": behaviour.examples.targets}
            for name in sorted(tensors):
                digest.update(tensors[name].contiguous().numpy().tobytes())
            number = int.from_bytes(digest.digest()[:8], "little") >> 1
            generator = torch.Generator().manual_seed(number)
            rows.append(torch.randn(len(run.problem.train), generator=generator))
        return torch.stack(rows)


class TextOverlap(Control):
    """Mean BM25 of the training example for the probe examples' texts; see `overlap`.

    Bags forget how often a unit stood in a text: it counts once. Raises ValueError for examples
    that are not encoded as ids.
    """

    name: ClassVar[str] = "control_text_overlap"
    title: ClassVar[str] = "Control: text overlap (BM25)"
    question: ClassVar[str] = "Which examples share rare words with the probe examples?"
    paper: ClassVar[str] = (
        "Robertson & Zaragoza 2009, The probabilistic relevance framework: BM25 and beyond"
    )

    def ratings(self, run: TrainingRun, behaviours: Sequence[Behaviour]) -> Tensor:
        train, probes = run.problem.train, [one.examples for one in behaviours]
        vocabulary = vocabulary_of(train, *probes)
        documents = bm25_weights(unit_counts(train, vocabulary, weighted=False))
        queries = [unit_counts(probe, vocabulary, weighted=False) for probe in probes]
        return similarities(train, documents, behaviours, queries)


class EmbeddingSimilarity(Control):
    """Mean cosine of encoded inputs: frozen features, numbers, pixels, or counts of ids."""

    name: ClassVar[str] = "control_embedding_similarity"
    title: ClassVar[str] = "Control: embedding similarity"
    question: ClassVar[str] = "Which examples look like the probe examples to the encoder?"

    def ratings(self, run: TrainingRun, behaviours: Sequence[Behaviour]) -> Tensor:
        train, probes = run.problem.train, [one.examples for one in behaviours]
        vocabulary = vocabulary_of(train, *probes) if "ids" in train.inputs else None
        queries = [directions(probe, vocabulary) for probe in probes]
        return similarities(train, directions(train, vocabulary), behaviours, queries)


def similarities(
    train: EncodedExamples, documents: Any, behaviours: Sequence[Behaviour], queries: Sequence[Any]
) -> Tensor:
    """(K, N) mean over each behaviour's probe examples of the products of `documents` (N, F) and
    `queries` (M, F) each, with the sign turned where the two are of different classes.

    The mean of products is the product with the mean, so that no (N, M) table is needed.
    """
    classes = train.targets.numpy() if loss_for_targets(train.targets) == "cross_entropy" else None
    rows = []
    for behaviour, query in zip(behaviours, queries, strict=True):
        number = len(behaviour.examples)
        products = documents @ _total(query) / number
        if classes is not None:
            wanted = behaviour.examples.targets.numpy()
            if behaviour.label is not None:
                wanted = np.full(number, behaviour.label)
            products = -products
            for one in np.unique(wanted):
                own = classes == one
                products[own] += 2 * (documents[own] @ _total(query[wanted == one])) / number
        rows.append(products)
    return torch.from_numpy(np.stack(rows))


def _total(rows: Any) -> NDArray[np.float64]:
    """(F,) the sum of dense or sparse `rows`."""
    return np.asarray(rows.sum(0)).reshape(-1)
