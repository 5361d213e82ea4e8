"""From one method's prediction to what retraining will do: the calibrated value and interval, cheap
enough for the web process. The model stands in ``effect_model``, its fit in ``calibration_fit``.

Assumptions: a new edit is exchangeable with the bank's edits of its kind, given size and
prediction; deviations of behaviours and edits are normal, residuals Student. An empty bank leaves
the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from workers.evidence.bank import EditShape, kinds_of
from workers.evidence.combination import Combination
from workers.evidence.effect_model import (
    covariates,
    curve,
    edit_gradient,
    squared_spread,
    weight_sign,
)
from workers.evidence.intervals import check_level
from workers.evidence.records import FloatArray, IntArray, Record
from workers.evidence.seed_noise import EVEN_NOISE, NoiseGrowth

FEW_EDITS = 12


@dataclass(frozen=True)
class EditPart(Record):
    """The part of a proposal that is of one kind, with its own prediction for each behaviour."""

    kind: str
    size: float  # moved weight of this part as a fraction of the train split
    prediction: FloatArray  # (n,)


def split_by_kind(weights: ArrayLike, scores: ArrayLike, number_of_examples: int) -> list[EditPart]:
    """The parts of a proposal by kind, from the new weights (n,) of the examples that it names and
    their scores (n, K); the parts' predictions Σ (new weight − 1) · score add up to the whole.
    Examples that keep weight 1 belong to no part."""
    values, rows = np.asarray(weights, np.float64), np.asarray(scores, np.float64)
    kinds = kinds_of(values)
    kinds[values == 1.0] = ""
    return [
        EditPart(
            kind=str(kind),
            size=float(np.abs(values[kinds == kind] - 1.0).sum() / number_of_examples),
            prediction=(values[kinds == kind] - 1.0) @ rows[kinds == kind],
        )
        for kind in np.unique(kinds[kinds != ""])
    ]


@dataclass(frozen=True)
class Calibration(Record):
    """Everything needed to turn predictions of one method into calibrated ones.

    Arrays over kinds have one more row than there are kinds, for a kind the bank does not hold;
    arrays over behaviours have one more entry, for a behaviour the bank did not measure.
    """

    behaviours: tuple[str, ...]  # K
    kinds: tuple[str, ...]  # C
    number_of_edits: int
    unit_ratio: float  # r: 1 for methods that speak in the behaviour's unit
    scales: FloatArray  # (K,) of the method's scores, without r
    better: FloatArray  # (K,) +1 where larger values of the behaviour are better, else −1
    seed_noise: FloatArray  # (K,) standard deviation over seeds of one paired effect; NaN unknown
    coefficients: FloatArray  # (C + 1, K + 1, 7) β, η₁, η₂, η₃, u, h, a
    covariance: FloatArray  # (C + 1, K + 1, 7, 7)
    edit_variance: float  # of w
    log_additive: FloatArray  # (C + 1,)
    log_additive_of_behaviour: FloatArray  # (K + 1,)
    size_exponents: FloatArray  # (C + 1,)
    log_relative: FloatArray  # (C + 1,)
    relative_size_exponent: float
    tail_degrees: float  # ν
    conformal_levels: FloatArray  # (L,)
    conformal_factors: FloatArray  # (C + 1, L) multiply the interval; 1 where there is too little
    size_range: tuple[float, float]
    largest_targeting: float
    combination: Combination | None = None  # None for a single method
    noise_growth: NoiseGrowth = EVEN_NOISE  # of seed_noise²

    @property
    def has_evidence(self) -> bool:
        """False for an empty bank: the interval is then the prior's, wide, and must say so."""
        return self.number_of_edits > 0

    def columns_of(self, names: Sequence[str]) -> IntArray:
        """Column of each behaviour; −1 for one that the bank did not measure."""
        places = {name: column for column, name in enumerate(self.behaviours)}
        return np.array([places.get(name, -1) for name in names], np.int64)

    def predict(
        self,
        prediction: ArrayLike,
        kind: str | Sequence[str],
        size: ArrayLike,
        behaviour: ArrayLike | None = None,
        level: float = 0.9,
        *,
        number_of_seeds: int | None = None,
        behaviour_scale: ArrayLike | None = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Calibrated (value, low, high), each shaped like ``prediction``, in the behaviours' units.

        ``prediction`` is (n,) for one edit or (E, n) for E of them, then with E kinds and sizes.
        ``behaviour`` is (n,), columns of the bank's behaviours (default all K); −1 marks an
        unmeasured one, whose score scale must then be in ``behaviour_scale`` (n,). The interval is
        for the mean over fresh seeds; with ``number_of_seeds`` for the mean of so many retrains,
        where the seed noise is known. Raises ValueError for a level outside (0, 1), sizes ≤ 0, or
        an unmeasured behaviour without a scale.
        """
        kind_rows = self.rows_of([kind] if isinstance(kind, str) else kind)
        sizes = np.atleast_1d(np.asarray(size, np.float64))
        if np.ndim(prediction) == 2:
            kind_rows, sizes = kind_rows[:, None], sizes[:, None]
        columns = self._columns(behaviour, np.shape(prediction)[-1])
        value, variance = self.moments(prediction, kind_rows, sizes, columns, behaviour_scale)
        factor = self._conformal_factor(kind_rows, level)
        noise = self.seed_noise_of(prediction, sizes, columns, behaviour_scale)
        half = self._half_width(np.sqrt(variance) * factor, noise, level, number_of_seeds)
        return value, value - half, value + half

    def predict_parts(
        self,
        parts: Sequence[EditPart],
        behaviour: ArrayLike | None = None,
        level: float = 0.9,
        *,
        number_of_seeds: int | None = None,
        behaviour_scale: ArrayLike | None = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Calibrated (value, low, high) of a proposal of several kinds at once, each (n,).

        Each part is calibrated by its own kind and size, and the values add up, as first-order
        predictions do. The parts' standard deviations add up as well (as if perfectly correlated):
        an upper bound, since a bank of single-kind edits says nothing about how kinds interact.
        """
        if not parts:
            raise ValueError("an edit has at least one part")
        columns = self._columns(behaviour, len(parts[0].prediction))
        value = np.zeros(columns.shape)
        deviation = np.zeros(columns.shape)
        for part in parts:
            row = self.rows_of([part.kind])
            part_value, variance = self.moments(
                part.prediction, row, np.array([part.size]), columns, behaviour_scale
            )
            value += part_value
            deviation += np.sqrt(variance) * self._conformal_factor(row, level)
        prediction = np.sum([part.prediction for part in parts], axis=0)
        size = np.array([sum(part.size for part in parts)])
        noise = self.seed_noise_of(prediction, size, columns, behaviour_scale)
        half = self._half_width(deviation, noise, level, number_of_seeds)
        return value, value - half, value + half

    def moments(
        self,
        prediction: ArrayLike,
        kind_rows: IntArray,
        sizes: FloatArray,
        columns: IntArray,
        behaviour_scale: ArrayLike | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Value and squared t scale of the prediction, before the conformal factor; broadcasts."""
        if not np.all(sizes > 0):
            raise ValueError("the size of an edit must be positive")
        scale = self._scale_of(columns, behaviour_scale)
        standard = np.asarray(prediction, np.float64) / scale
        row = np.broadcast_to(kind_rows, standard.shape)
        column = np.broadcast_to(columns, standard.shape)
        points = covariates(
            standard,
            sizes,
            np.array([*(weight_sign(kind) for kind in self.kinds), 0.0])[kind_rows],
            np.append(self.better, 0.0)[columns],
            self.size_range[1],
            self.largest_targeting,
        )
        own = self.coefficients[row, column]
        value, gradient, moved = curve(points, own)
        of_edit = edit_gradient(points, own, moved)
        uncertainty = np.einsum(
            "...f,...fg,...g->...", gradient, self.covariance[row, column], gradient
        )
        spread = squared_spread(
            moved,
            sizes,
            self.log_additive[row] + self.log_additive_of_behaviour[column],
            self.size_exponents[row],
            self.log_relative[row],
            self.relative_size_exponent,
        )
        unit = scale * self.unit_ratio
        variance = np.maximum(uncertainty, 0.0) + of_edit**2 * self.edit_variance + spread
        return value * unit, variance * unit**2

    def seed_noise_of(
        self,
        prediction: ArrayLike,
        sizes: FloatArray,
        columns: IntArray,
        behaviour_scale: ArrayLike | None = None,
    ) -> FloatArray:
        """Standard deviation over seeds of one paired effect of edits with these predictions and
        sizes, which broadcast; NaN where the bank did not measure it."""
        scale = self._scale_of(columns, behaviour_scale)
        standard = np.asarray(prediction, np.float64) / scale
        relative = self.noise_growth.relative_variance(standard, sizes)
        return np.asarray(np.append(self.seed_noise, np.nan)[columns] * np.sqrt(relative))

    def warnings(self, shape: EditShape) -> list[str]:
        """What a reader of this edit's interval must know, in sentences; empty when nothing."""
        if not self.has_evidence:
            return [
                "No calibration retrain exists yet: the interval is a wide guess from experience "
                "with other models, not from this one."
            ]
        found = []
        if self.number_of_edits < FEW_EDITS:
            found.append(
                f"The calibration rests on {self.number_of_edits} edits only; the interval leans "
                "on experience with other models."
            )
        if shape.kind not in self.kinds:
            name = shape.kind.replace("_", "-")
            found.append(f"The bank holds no {name} edits; other kinds stand in for them.")
        low, high = self.size_range
        if not low / 1.5 <= shape.size <= high * 1.5:
            found.append(
                f"The edit moves {shape.size:.2%} of the training weight; the bank holds edits of "
                f"{low:.2%} to {high:.2%}."
            )
        return found

    def rows_of(self, kinds: Sequence[str]) -> IntArray:
        """Row of each kind in the arrays over kinds; the last one for kinds the bank lacks."""
        places = {name: row for row, name in enumerate(self.kinds)}
        return np.array([places.get(kind, len(self.kinds)) for kind in kinds], np.int64)

    def _columns(self, behaviour: ArrayLike | None, count: int) -> IntArray:
        if behaviour is not None:
            return np.asarray(behaviour, np.int64)
        if count != len(self.behaviours):
            raise ValueError(f"{count} predictions for {len(self.behaviours)} behaviours")
        return np.arange(count)

    def _scale_of(self, columns: IntArray, given: ArrayLike | None) -> FloatArray:
        known = np.append(self.scales, np.nan)[columns]
        scale = known if given is None else np.where(columns < 0, np.asarray(given), known)
        if not np.all(scale > 0):
            raise ValueError("an unmeasured behaviour needs a positive behaviour_scale")
        return np.asarray(scale, np.float64)

    def _conformal_factor(self, kind_rows: IntArray, level: float) -> FloatArray:
        check_level(level)
        factors = np.array(
            [np.interp(level, self.conformal_levels, row) for row in self.conformal_factors]
        )
        return np.asarray(factors[kind_rows], np.float64)

    def _half_width(
        self, scale: FloatArray, noise: FloatArray, level: float, number_of_seeds: int | None
    ) -> FloatArray:
        probability = (1.0 + level) / 2.0
        half = special.stdtrit(self.tail_degrees, probability) * scale
        if number_of_seeds is not None:
            noise = np.nan_to_num(noise) * special.ndtri(probability) / np.sqrt(number_of_seeds)
            half = np.hypot(half, noise)
        return np.asarray(half, np.float64)
