"""Predictions by the method, or combination of methods, that held-out evidence chose for each
behaviour among those that answer at once; and any combination's, from its members' raw ones.

The choice stands in the newest calibration of the combination; its evidence in
curation/queries/method_choices.
"""

from collections.abc import Mapping
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from curation.models import Baseline, Estimate, Influence
from curation.queries.method_choices import parse_candidate
from curation.queries.predictions import (
    DEFAULT_LEVEL,
    DEFAULT_METHOD,
    PredictedEffect,
    RawPrediction,
    calibration_of,
    effects_by,
    first_order,
    latest_calibration,
    latest_calibrations,
)
from workers.evidence.bank import edit_shape
from workers.evidence.calibration import EditPart
from workers.evidence.selection import COMBINATION

Array = NDArray[np.float64]


def chosen_effects(
    *,
    baseline: Baseline,
    train_indices: NDArray[np.int64],
    weights: Array,
    level: float = DEFAULT_LEVEL,
    number_of_seeds: int | None = None,
    plain: list[PredictedEffect] | None = None,
) -> list[PredictedEffect]:
    """The instant prediction of every behaviour that the default method scored, each by what
    held-out evidence chose for it; by the default method where it chose nothing. `plain` are the
    default method's, where they are known already."""
    newest = latest_calibrations(baseline, (DEFAULT_METHOD, COMBINATION))
    if DEFAULT_METHOD not in newest:
        return plain or []

    def effects(
        calibration: UUID, raw: RawPrediction, combined: list[dict[str, float]] | None = None
    ) -> list[PredictedEffect]:
        return effects_by(
            calibration,
            baseline=baseline,
            raw=raw,
            weights=weights,
            level=level,
            number_of_seeds=number_of_seeds,
            combined=combined,
        )

    raw = {DEFAULT_METHOD: first_order(baseline, DEFAULT_METHOD, train_indices, weights)}
    if plain is None:
        plain = effects(newest[DEFAULT_METHOD], raw[DEFAULT_METHOD]) if len(weights) else []
    pk = newest.get(COMBINATION)
    if pk is None or not plain:
        return plain
    chosen = weights_by_behaviour(pk)
    wanted = {one.behaviour.pk: chosen.get(one.behaviour.pk, {}) for one in plain}
    others = {name for own in wanted.values() for name in own} - {DEFAULT_METHOD}
    raw |= {name: first_order(baseline, name, train_indices, weights) for name in others}
    found = {}
    for name in others:
        if any(list(own) == [name] for own in wanted.values()):
            for one in effects(calibration_pk_of(pk, name), raw[name]):
                found[name, one.behaviour.pk] = one
    if any(len(own) > 1 for own in wanted.values()):
        for one in effects(pk, *combined_prediction(pk, baseline, raw, weights)):
            found[COMBINATION, one.behaviour.pk] = one
    return [
        found.get((_method_of(wanted[one.behaviour.pk]), one.behaviour.pk), one) for one in plain
    ]


def combined_prediction(
    pk: UUID, baseline: Baseline, raw: Mapping[str, RawPrediction], weights: Array
) -> tuple[RawPrediction, list[dict[str, float]]]:
    """Of the behaviours for which more than one method weighs: the raw prediction of the
    combination whose calibration is `pk`, from its members' by name, and their weights."""
    calibration = calibration_of(pk)
    combination = calibration.combination
    assert combination is not None
    keys = [UUID(key) for key in calibration.behaviours]
    columns: list[int] = []
    influences: list[Influence] = []
    per_seed: list[Array] = []
    of_members: list[dict[str, float]] = []
    for column, key in enumerate(keys):
        own = combination.of_behaviour(column)
        if len(own) > 1 and all(name in raw and key in raw[name].places for name in own):
            heaviest = raw[next(iter(own))]
            columns.append(column)
            influences.append(heaviest.influences[heaviest.places[key]])
            per_seed.append(heaviest.per_seed[heaviest.places[key]])
            of_members.append(own)
    if not columns:
        return RawPrediction([], [], []), []
    members = {name: _calibrated_parts(pk, name, raw[name], keys) for name in raw}
    kinds = {tuple(part.kind for part in parts) for parts in members.values()}
    if len(kinds) > 1:  # an edit-aware member speaks of the edit as a whole
        shape = edit_shape(weights, baseline.dataset_version.train_count)
        members = {name: [_whole(shape.kind, shape.size, parts)] for name, parts in members.items()}
    parts = [
        EditPart(
            same[0].kind,
            same[0].size,
            combination.combine(
                {name: part.prediction for name, part in zip(members, same, strict=True)}
            )[columns],
        )
        for same in zip(*members.values(), strict=True)
    ]
    return RawPrediction(influences, parts, per_seed), of_members


def weights_by_behaviour(pk: UUID) -> dict[UUID, dict[str, float]]:
    """The weights of the members for each behaviour, of the combination whose calibration is
    `pk`."""
    calibration = calibration_of(pk)
    assert calibration.combination is not None
    return {
        UUID(key): calibration.combination.of_behaviour(column)
        for column, key in enumerate(calibration.behaviours)
    }


def instant_methods(baseline: Baseline) -> dict[UUID, str]:
    """The method, or the combination, that predicts each behaviour at once; empty before any
    choice."""
    pk = latest_calibration(baseline, COMBINATION)
    if pk is None:
        return {}
    return {key: _method_of(own) for key, own in weights_by_behaviour(pk).items()}


def calibration_pk_of(pk: UUID, member: str) -> UUID:
    combination = calibration_of(pk).combination
    assert combination is not None
    return UUID(combination.calibrations[combination.members.index(member)])


def _method_of(weights: Mapping[str, float]) -> str:
    if len(weights) > 1:
        return COMBINATION
    return parse_candidate(next(iter(weights)))[0] if weights else DEFAULT_METHOD


def _calibrated_parts(
    pk: UUID, member: str, raw: RawPrediction, keys: list[UUID]
) -> list[EditPart]:
    """The member's parts with its calibrated values for the combination's behaviours (K,); NaN for
    those that it does not predict."""
    calibration = calibration_of(calibration_pk_of(pk, member))
    columns = calibration.columns_of([str(one.behaviour_id) for one in raw.influences])
    scale = [one.diagnostics["random_edit_scale"] for one in raw.influences]
    found = []
    for part in raw.parts:
        value, _ = calibration.moments(
            part.prediction,
            calibration.rows_of([part.kind]),
            np.array([part.size]),
            columns,
            scale,
        )
        by_key = {one.behaviour_id: value[k] for k, one in enumerate(raw.influences)}
        values = np.array([by_key.get(key, np.nan) for key in keys])
        found.append(EditPart(part.kind, part.size, values))
    return found


def _whole(kind: str, size: float, parts: list[EditPart]) -> EditPart:
    return EditPart(kind, size, np.asarray(sum(part.prediction for part in parts)))


def edit_aware_combination(baseline: Baseline) -> UUID | None:
    """The newest combination with an edit-aware member among its candidates."""
    return latest_calibration(baseline, COMBINATION, Estimate.EDIT_AWARE)
