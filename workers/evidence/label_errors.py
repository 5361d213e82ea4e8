"""Ranking train examples by how likely their label is wrong, from signals measured elsewhere, with
the reasons for each. A rank is a hint for a reader's eyes, never a correction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from workers.evidence.intervals import as_seed_rows
from workers.evidence.records import FloatArray, IntArray, Record

SELF_INFLUENCE = "self_influence"
LOSS = "loss"
MARGIN = "margin"
DISAGREEMENT = "disagreement"
NEIGHBOURS = "neighbours"
LINEAR_MODEL = "linear_model"

# What a large value of each signal says of an example; a small margin is the suspicious one.
REASONS = {
    SELF_INFLUENCE: "the model learns this label only from this example itself (self-influence)",
    LOSS: "the model still gives this label a high loss",
    MARGIN: "the model prefers another label (margin)",
    DISAGREEMENT: "models trained without it expect another label (disagreement)",
    NEIGHBOURS: "most of the examples nearest to it have another label (neighbours)",
    LINEAR_MODEL: "a linear model on its features, fitted without it, expects another label",
}
REASON_SHARE = 0.05


def signal_weights(names: Collection[str]) -> dict[str, float]:
    """The weights that Hunch ranks with, for the signals that there are; chosen on other data than
    its benchmark's (docs/methods/suggestions.md). A signal that is not named is a reason alone."""
    if LINEAR_MODEL in names:
        return {MARGIN: 1.0, NEIGHBOURS: 2.0, LINEAR_MODEL: 2.0}
    return {name: 1.0 for name in (LOSS, MARGIN, DISAGREEMENT, NEIGHBOURS) if name in names}


@dataclass(frozen=True)
class LabelErrorRanking(Record):
    """Every train example, the most suspicious first."""

    order: IntArray  # (N,) train indices
    score: FloatArray  # (N,) by train index; larger is more suspicious
    percentiles: dict[str, FloatArray]  # by signal, (N,): share of examples less suspicious
    agreement: FloatArray  # (N,) share of seeds that put the example among the top REASON_SHARE

    def reasons(self, train_index: int) -> tuple[str, ...]:
        """In words, the signals by which this example is among the most suspicious 5%, strongest
        first."""
        found = [
            (float(values[train_index]), name)
            for name, values in self.percentiles.items()
            if values[train_index] >= 1 - REASON_SHARE
        ]
        return tuple(REASONS[name] for _, name in sorted(found, reverse=True))


def rank_label_errors(
    signals: Mapping[str, ArrayLike], weights: Mapping[str, float] | None = None
) -> LabelErrorRanking:
    """Rank N train examples by signals of label errors, each (N,) or (S, N) over seeds.

    ``signals`` may hold ``self_influence`` (Koh & Liang 2017; Pruthi et al. 2020), ``loss``,
    ``margin`` (of the given label, smaller is worse; Northcutt et al. 2021 rank by it),
    ``disagreement``, ``neighbours`` and ``linear_model``. Units do not matter: in every seed a
    signal is replaced by its normal scores Φ⁻¹((rank − ½)/N) (van der Waerden), averaged over seeds
    and then over signals with ``weights`` (default equal; what has none is a reason alone), so that
    the order is the same under any monotone change of a signal and no single seed or signal can
    carry an example alone. Ties share their mean rank.
    Raises ValueError for unknown signals, NaN, or signals of different length.
    """
    if not signals:
        raise ValueError("at least one signal is needed")
    shares = dict.fromkeys(signals, 1.0) if weights is None else dict(weights)
    percentiles: dict[str, FloatArray] = {}
    per_seed: list[FloatArray] = []
    total, length = 0.0, -1
    for name, values in signals.items():
        if name not in REASONS:
            raise ValueError(f"{name!r} is not a signal; known are {', '.join(REASONS)}")
        rows = np.atleast_2d(np.asarray(values, np.float64))
        length = rows.shape[1] if length < 0 else length
        if rows.ndim != 2 or rows.shape[1] != length:
            raise ValueError(f"{name} has shape {rows.shape}; expected (seeds, {length})")
        if np.isnan(rows).any():
            raise ValueError(f"{name} holds NaN")
        suspicion = -rows if name == MARGIN else rows
        places = (stats.rankdata(suspicion, axis=1) - 0.5) / length
        scores = special.ndtri(places)
        weight = shares.get(name, 0.0)
        percentiles[name] = stats.rankdata(scores.mean(axis=0)) / length
        per_seed.append(weight * scores)
        total += weight
    if total <= 0:
        raise ValueError("the weights of the signals sum to nothing")
    score = sum((rows.mean(axis=0) for rows in per_seed), np.zeros(length)) / total
    return LabelErrorRanking(
        order=np.argsort(-score, kind="stable").astype(np.int64),
        score=score,
        percentiles=percentiles,
        agreement=_agreement(per_seed, length),
    )


def _agreement(per_seed: list[FloatArray], length: int) -> FloatArray:
    """(N,) share of seeds that put an example among the top; signals without seeds count in
    each."""
    seeds = max(len(rows) for rows in per_seed)
    combined = sum(
        (as_seed_rows(np.resize(rows, (seeds, length))) for rows in per_seed),
        np.zeros((seeds, length)),
    )
    top = max(1, round(REASON_SHARE * length))
    threshold = -np.partition(-combined, top - 1, axis=1)[:, top - 1 : top]
    return np.asarray((combined >= threshold).mean(axis=0), np.float64)
