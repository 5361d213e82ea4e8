"""How far actual effects scatter around the model's curve, and how heavy the tails are: the fit of
the spread written down in ``effect_model``. The curve itself is fitted in ``calibration_fit``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special

from workers.evidence.effect_model import REFERENCE_SIZE
from workers.evidence.records import BoolArray, FloatArray, IntArray

PRIOR_LOG_ADDITIVE, PRIOR_LOG_ADDITIVE_DEVIATION = float(np.log(0.5**2)), 1.5
PRIOR_LOG_RELATIVE, PRIOR_LOG_RELATIVE_DEVIATION = float(np.log(0.25**2)), 1.0
PRIOR_KIND_RELATIVE_DEVIATION = 1.0
PRIOR_OFFSET_DEVIATION = 0.5  # of a kind's or behaviour's log variance and size exponent
PRIOR_SIZE_EXPONENT_DEVIATION = 1.0  # common to kinds: second-order errors would have γ = 1
PRIOR_TAIL_DEGREES, PRIOR_LOG_TAIL_DEVIATION = 6.0, 0.7
TAIL_GRID = np.array([3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 30.0])


@dataclass(frozen=True)
class Spread:
    """Parameters of the spread in one vector: of the additive part its level, offsets of C kinds
    and of K behaviours, size exponent and its offsets of kinds; of the relative part level, offsets
    of kinds, size exponent."""

    vector: FloatArray
    tail_degrees: float
    kinds: int
    behaviours: int

    @property
    def additive(self) -> FloatArray:
        return self.vector[: 1 + self.kinds]

    @property
    def additive_of_behaviour(self) -> FloatArray:
        return self.vector[1 + self.kinds : 1 + self.kinds + self.behaviours]

    @property
    def size_exponent(self) -> FloatArray:
        start = 1 + self.kinds + self.behaviours
        return self.vector[start : start + 1 + self.kinds]

    @property
    def relative(self) -> FloatArray:
        return self.vector[-2 - self.kinds : -1]

    @property
    def relative_size_exponent(self) -> float:
        return float(self.vector[-1])

    @staticmethod
    def of_kinds(level_and_offsets: FloatArray) -> FloatArray:
        """(C + 1,) level plus offset of each kind, then the level alone for any other kind."""
        return np.asarray(level_and_offsets[0] + np.append(level_and_offsets[1:], 0.0), np.float64)


class SpreadProblem:
    """The evidence on the spread, with the designs of the logarithms of its two parts."""

    def __init__(
        self,
        sizes: FloatArray,  # (E,)
        noise: FloatArray,  # (E, K) variance
        present: BoolArray,  # (E, K)
        kind_rows: IntArray,  # (E,)
        kinds: int,
        behaviours: int,
    ) -> None:
        self.sizes, self.noise, self.present = sizes, noise, present
        edits = len(sizes)
        every, members = np.arange(behaviours), np.arange(edits)
        log_size = np.log(sizes / REFERENCE_SIZE)
        total = 4 + 3 * kinds + behaviours
        additive = np.zeros((edits, behaviours, total))
        relative = np.zeros((edits, behaviours, total))
        exponent = 1 + kinds + behaviours
        level = exponent + 1 + kinds
        additive[..., 0] = relative[..., level] = 1.0
        additive[members, :, 1 + kind_rows] = 1.0
        relative[members, :, level + 1 + kind_rows] = 1.0
        additive[:, every, 1 + kinds + every] = 1.0
        additive[..., exponent] = relative[..., -1] = log_size[:, None]
        additive[members, :, exponent + 1 + kind_rows] = log_size[:, None]
        self.additive, self.relative = additive, relative

    def squared_spread(self, spread: Spread, moved: FloatArray) -> FloatArray:
        """(E, K) squared t scale around the curve, without seed noise."""
        additive = self.sizes[:, None] * np.exp(self.additive @ spread.vector)
        return np.asarray(additive + moved**2 * np.exp(self.relative @ spread.vector), np.float64)


def prior_spread(kinds: int, behaviours: int) -> Spread:
    vector = np.zeros(4 + 3 * kinds + behaviours)
    vector[0] = PRIOR_LOG_ADDITIVE
    vector[-2 - kinds] = PRIOR_LOG_RELATIVE
    return Spread(vector, PRIOR_TAIL_DEGREES, kinds, behaviours)


def fit_spread(
    problem: SpreadProblem, start: Spread, square: FloatArray, moved: FloatArray
) -> Spread:
    """The spread and ν by penalised Student likelihood of expected squared residuals (E, K), given
    the moved predictions m · P (E, K); the seed noise is a known addend of each variance."""
    present = problem.present
    square, noise = square[present], problem.noise[present]
    base = np.broadcast_to(problem.sizes[:, None], present.shape)[present]
    moved_square = moved[present] ** 2
    additive, relative = problem.additive[present], problem.relative[present]
    prior = prior_spread(start.kinds, start.behaviours).vector
    deviation = np.full(prior.size, PRIOR_OFFSET_DEVIATION)
    deviation[0] = PRIOR_LOG_ADDITIVE_DEVIATION
    deviation[1 + start.kinds + start.behaviours] = PRIOR_SIZE_EXPONENT_DEVIATION
    deviation[-2 - start.kinds] = PRIOR_LOG_RELATIVE_DEVIATION
    deviation[-1 - start.kinds : -1] = PRIOR_KIND_RELATIVE_DEVIATION
    degrees = start.tail_degrees

    def objective(vector: FloatArray) -> tuple[float, FloatArray]:
        part_a = base * np.exp(additive @ vector)
        part_r = moved_square * np.exp(relative @ vector)
        total = part_a + part_r + noise
        loss = 0.5 * np.log(total) + (degrees + 1) / 2 * np.log1p(square / (degrees * total))
        slope = 0.5 / total - (degrees + 1) / 2 * square / (total * (degrees * total + square))
        off = (vector - prior) / deviation
        gradient = additive.T @ (slope * part_a) + relative.T @ (slope * part_r)
        return float(loss.sum() + 0.5 * off @ off), gradient + off / deviation

    found = optimize.minimize(
        objective, start.vector, jac=True, method="L-BFGS-B", options={"maxiter": 30}
    )
    spread = replace(start, vector=np.asarray(found.x, np.float64))
    total = problem.squared_spread(spread, moved)[present] + noise
    return replace(spread, tail_degrees=_fit_tail(square / total))


def _fit_tail(standard_square: FloatArray) -> float:
    """ν on a grid by likelihood and a log-normal prior; behaviours of one edit go together, so the
    evidence counts half."""
    grid = TAIL_GRID[:, None]
    density = (
        special.gammaln((grid + 1) / 2)
        - special.gammaln(grid / 2)
        - 0.5 * np.log(grid)
        - (grid + 1) / 2 * np.log1p(standard_square[None, :] / grid)
    )
    off = np.log(TAIL_GRID / PRIOR_TAIL_DEGREES) / PRIOR_LOG_TAIL_DEVIATION
    return float(TAIL_GRID[np.argmax(0.5 * density.sum(axis=1) - 0.5 * off**2)])
