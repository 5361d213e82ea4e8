"""Why a prediction missed: the ladder from an influence estimate to fresh-seed retrains, as
arithmetic over measured rungs. The rungs themselves are computed where models are trained.

Bae et al. (2022), "If influence functions are the answer, then what is the question?", split the
gap between influence functions and cold retraining into solver error, linearisation error,
proximity gap, non-convergence gap and warm-start gap; the seed comes last here, since Hunch
predicts the mean over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from workers.evidence.records import Record


@dataclass(frozen=True)
class Rung(Record):
    name: str
    title: str
    gap: str  # the name of the step that leads here from the rung before
    explanation: str  # why the two rungs may differ


RUNGS = (
    Rung("influence_estimate", "Influence estimate", "", ""),
    Rung(
        "exact_solve",
        "Exact solve",
        "solver error",
        "the estimate solves its linear system only approximately",
    ),
    Rung(
        "proximal_response",
        "Proximal Bregman response",
        "linearisation",
        "the network bends where influence follows a straight line",
    ),
    Rung(
        "continued",
        "Continued to convergence",
        "proximity",
        "influence stays near the trained weights, and training on does not",
    ),
    Rung(
        "warm_start",
        "Warm-start retrain",
        "non-convergence",
        "the recipe stops before the edited loss has converged",
    ),
    Rung(
        "cold_same_seed",
        "Cold retrain, same seed",
        "warm start",
        "training from scratch takes another path than training on",
    ),
    Rung(
        "fresh_seeds",
        "Fresh-seed retrains",
        "seed",
        "other seeds have another order of examples and other initial weights",
    ),
)


@dataclass(frozen=True)
class Gap(Record):
    """One step of the waterfall, between two neighbouring measured rungs."""

    name: str
    lower: str  # name of the rung that it starts from
    upper: str
    start: float
    end: float
    amount: float  # end − start; the amounts sum to the whole difference
    share: float  # |amount| as a fraction of the sum of all |amounts|
    standard_error: float  # NaN where a rung came without one
    sentence: str


@dataclass(frozen=True)
class Ladder(Record):
    start: float
    end: float
    gaps: tuple[Gap, ...]
    largest_gap: str  # name, empty when nothing differs
    summary: str

    @property
    def difference(self) -> float:
        return self.end - self.start


def climb(
    values: Mapping[str, float],
    standard_errors: Mapping[str, float] | None = None,
    *,
    behaviour: str = "the behaviour",
    unit: str = "",
) -> Ladder:
    """The ladder over the measured rungs, ``values`` by rung name in the behaviour's unit.

    Rungs that were not measured are skipped, and the gap across them carries the names of all that
    it spans. ``standard_errors`` by rung name mark gaps within twice their error as not resolved.
    Raises ValueError for unknown rungs, non-finite values, or fewer than two rungs.
    """
    known = [rung.name for rung in RUNGS]
    for name in (*values, *(standard_errors or {})):
        if name not in known:
            raise ValueError(f"{name!r} is not a rung; the rungs are {', '.join(known)}")
    for name, value in values.items():
        if not np.isfinite(value):
            raise ValueError(f"the rung {name!r} has the value {value}")
    measured = [rung for rung in RUNGS if rung.name in values]
    if len(measured) < 2:
        raise ValueError("a ladder needs at least two measured rungs")
    amounts = [values[upper.name] - values[lower.name] for lower, upper in pairwise(measured)]
    total = sum(abs(amount) for amount in amounts)
    gaps = tuple(
        _gap(lower, upper, values, standard_errors or {}, total, unit)
        for lower, upper in pairwise(measured)
    )
    largest = max(gaps, key=lambda gap: abs(gap.amount)) if total > 0 else None
    start, end = float(values[measured[0].name]), float(values[measured[-1].name])
    return Ladder(
        start=start,
        end=end,
        gaps=gaps,
        largest_gap=largest.name if largest else "",
        summary=_summary(measured, start, end, largest, behaviour, unit),
    )


def _gap(
    lower: Rung,
    upper: Rung,
    values: Mapping[str, float],
    errors: Mapping[str, float],
    total: float,
    unit: str,
) -> Gap:
    spanned = RUNGS[RUNGS.index(lower) + 1 : RUNGS.index(upper) + 1]
    start, end = float(values[lower.name]), float(values[upper.name])
    amount = end - start
    error = float("nan")
    if lower.name in errors or upper.name in errors:
        error = float(np.hypot(errors.get(lower.name, 0.0), errors.get(upper.name, 0.0)))
    name = " and ".join(rung.gap for rung in spanned)
    return Gap(
        name=name,
        lower=lower.name,
        upper=upper.name,
        start=start,
        end=end,
        amount=amount,
        share=abs(amount) / total if total > 0 else 0.0,
        standard_error=error,
        sentence=_sentence(name, spanned, amount, error, unit),
    )


def _sentence(name: str, spanned: tuple[Rung, ...], amount: float, error: float, unit: str) -> str:
    because = "; ".join(rung.explanation for rung in spanned)
    opening = name[0].upper() + name[1:]
    if amount == 0:
        return f"{opening} changes nothing."
    unresolved = np.isfinite(error) and abs(amount) <= 2 * error
    verb = "seems to move" if unresolved else ("move" if " and " in name else "moves")
    doubt = ", which is within its own noise" if unresolved else ""
    return f"{opening} {verb} the effect by {_quantity(amount, unit)}{doubt}: {because}."


def _summary(
    measured: list[Rung],
    start: float,
    end: float,
    largest: Gap | None,
    behaviour: str,
    unit: str,
) -> str:
    first, last = measured[0].title.lower(), measured[-1].title.lower()
    if largest is None:
        return f"For {behaviour}, all measured steps from {first} to {last} agree."
    return (
        f"For {behaviour}, the {first} says {_quantity(start, unit)} and the {last} "
        f"{_quantity(end, unit)}; the largest step is {largest.name} with "
        f"{_quantity(largest.amount, unit)}."
    )


def _quantity(value: float, unit: str) -> str:
    return f"{value:+.3g}{' ' + unit if unit else ''}"
