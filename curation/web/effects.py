"""From predicted effects and verdicts to what charts and templates show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.utils.safestring import SafeString

from curation.models import Behaviour, Estimate, Prediction, Proposal, Verdict
from curation.queries.combinations import chosen_effects
from curation.queries.method_choices import choices_of, preferred
from curation.queries.predictions import PredictedEffect, edits_of
from curation.web.charts.forest import ForestRow, Measure, forest_plot
from curation.web.mark import hypothesis_mark


@dataclass(frozen=True)
class EffectRow:
    """One behaviour's predicted change, with what it means for the user."""

    behaviour: Behaviour
    value: float
    low: float
    high: float
    noise: float | None
    warnings: Sequence[str]
    edit_aware: bool = False
    combined: Mapping[str, float] = field(default_factory=dict)  # weights by method
    beside: Prediction | None = None  # the edit-aware one where evidence prefers this one

    @property
    def direction(self) -> str:
        """``better``, ``worse`` or ``unclear`` when the interval holds no change at all."""
        if self.low <= 0 <= self.high:
            return "unclear"
        return "better" if (self.value > 0) == (self.behaviour.better == "higher") else "worse"

    @property
    def combination(self) -> str:
        """The methods that add up to this prediction, with their weights; empty for one method."""
        return " + ".join(
            f"{weight:.2f} × {name.replace('_', ' ')}" for name, weight in self.combined.items()
        )

    @property
    def within_noise(self) -> bool:
        return self.noise is not None and abs(self.value) < self.noise


def rows_of(effects: Iterable[PredictedEffect]) -> list[EffectRow]:
    return [
        EffectRow(
            e.behaviour, e.value, e.low, e.high, e.seed_noise, e.warnings, combined=e.combined
        )
        for e in effects
    ]


def rows_of_predictions(predictions: Iterable[Prediction]) -> list[EffectRow]:
    return [
        EffectRow(
            behaviour=p.behaviour,
            value=p.value,
            low=p.low,
            high=p.high,
            noise=p.details.get("seed_noise"),
            warnings=p.warnings,
            edit_aware=p.estimate == Estimate.EDIT_AWARE,
            combined=p.details.get("combined", {}),
        )
        for p in predictions
    ]


def rows_of_proposal(proposal: Proposal) -> list[EffectRow]:
    """The prediction of the current edits: the instant one, or for each behaviour the edit-aware
    one where a worker has it; where held-out evidence speaks for the instant one, both."""
    indices, weights = edits_of(proposal)
    if not len(indices):
        return []
    baseline = proposal.baseline
    instant = chosen_effects(baseline=baseline, train_indices=indices, weights=weights)
    followed: dict[UUID, list[Prediction]] = {}
    for one in proposal.predictions.filter(
        revision=proposal.revision, estimate=Estimate.EDIT_AWARE
    ).select_related("behaviour"):
        followed.setdefault(one.behaviour_id, []).append(one)
    choices = choices_of(baseline) if followed else {}
    rows = []
    for row, effect in zip(rows_of(instant), instant, strict=True):
        rivals = followed.get(row.behaviour.pk)
        if rivals:
            first = Prediction(method=effect.method, estimate=Estimate.FIRST_ORDER)
            best = preferred([first, *rivals], choices.get(row.behaviour.pk))
            if best is first:
                row = replace(row, beside=preferred(rivals, None))
            else:
                (row,) = rows_of_predictions([best])
        rows.append(row)
    return rows


def predicted_forest(rows: Sequence[EffectRow], identifier: str = "predicted") -> SafeString:
    return forest_plot(
        [
            ForestRow(
                row.behaviour.name,
                row.behaviour.unit,
                predicted=Measure(row.value, row.low, row.high),
                noise=row.noise,
            )
            for row in rows
        ],
        identifier=identifier,
        title="Predicted change",
        mark=hypothesis_mark(),
    )


def shared_warnings(rows: Sequence[EffectRow]) -> list[tuple[str, list[str]]]:
    """Each warning once, with the behaviours it concerns; none named when it concerns all."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for warning in row.warnings:
            found.setdefault(warning, []).append(row.behaviour.name)
    return [(text, [] if len(names) == len(rows) else names) for text, names in found.items()]


def measure(value: float | None, low: float | None, high: float | None) -> Measure | None:
    return None if value is None else Measure(value, low, high)


def verdict_forest(verdicts: Sequence[Verdict], identifier: str = "verdicts") -> SafeString:
    return forest_plot(
        [
            ForestRow(
                verdict.behaviour.name,
                verdict.behaviour.unit,
                predicted=measure(verdict.predicted, verdict.predicted_low, verdict.predicted_high),
                actual=measure(verdict.actual, verdict.actual_low, verdict.actual_high),
                placebo=measure(verdict.placebo, verdict.placebo_low, verdict.placebo_high),
                note=verdict.get_outcome_display(),
            )
            for verdict in verdicts
        ],
        identifier=identifier,
        title="Predicted, actual and placebo",
        mark=hypothesis_mark(),
    )
