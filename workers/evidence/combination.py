"""How a combination of methods is written down and applied: weights of calibrated predictions, kept
in the calibration of the combination. Whether one is used is decided in ``selection``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from workers.evidence.records import FloatArray, Record


@dataclass(frozen=True)
class Combination(Record):
    """Non-negative weights of M methods' calibrated predictions for each of K behaviours.

    The raw prediction of the combination is Σₘ wₘₖ · (value calibrated by method m), in the
    behaviour's unit; the calibration that holds this record calibrates that sum once more, as it
    would any method. A behaviour whose evidence chose a single method has one weight of 1.
    """

    members: tuple[str, ...]  # M names
    calibrations: tuple[str, ...]  # M identifiers of the members' calibrations
    weights: FloatArray  # (M, K)

    def __post_init__(self) -> None:
        if not len(self.members) == len(self.calibrations) == len(self.weights):
            raise ValueError("a combination needs one calibration and one row of weights a member")
        if np.any(self.weights < 0):
            raise ValueError("the weights of a combination must not be negative")

    def of_behaviour(self, column: int) -> dict[str, float]:
        """The weights above 0 for one behaviour, the largest first."""
        pairs = zip(self.members, self.weights[:, column].tolist(), strict=True)
        found = sorted(pairs, key=lambda pair: -pair[1])
        return {name: weight for name, weight in found if weight > 0}

    def combine(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """(..., K) combined predictions from the members' calibrated ones; members that weigh
        nothing may be absent."""
        rows = [
            row * np.where(row > 0, values[name], 0.0)
            for name, row in zip(self.members, self.weights, strict=True)
            if np.any(row > 0)
        ]
        if not rows:
            raise ValueError("no member of the combination weighs anything")
        return np.asarray(np.sum(rows, axis=0), np.float64)
