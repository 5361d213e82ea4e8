"""Reading the loss, confidence and self-influence of examples: which baseline's, and where one
example stands among the others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.models import Baseline, BaselineState, BehaviourKind, DatasetVersion, ExampleValues
from curation.queries.arrays import stored_array
from curation.queries.example_index import ExampleIndex
from curation.services.behaviours import unit_of

VALUES = ("loss", "confidence", "self_influence")


def measured_baselines(version: DatasetVersion) -> list[ExampleValues]:
    """The values of this version's trained baselines, the newest baseline's first."""
    found = ExampleValues.objects.filter(
        baseline__dataset_version=version, baseline__state=BaselineState.READY
    )
    files = [f"{name}_file" for name in VALUES]
    return list(
        found.select_related("baseline__model", "baseline__recipe", *files).order_by(
            "-baseline__created_at"
        )
    )


def chosen_values(
    known: Sequence[ExampleValues], wanted: str, baseline: Baseline | None
) -> ExampleValues | None:
    """The values of the wanted baseline, else of the given one, else the newest."""
    for key in (wanted, "" if baseline is None else str(baseline.pk)):
        for one in known:
            if str(one.baseline_id) == key:
                return one
    return known[0] if known else None


def arrays_of(values: ExampleValues | None) -> dict[str, NDArray[np.float32]]:
    """Name to one number a row of the upload, of what has been measured."""
    if values is None:
        return {}
    files = {name: getattr(values, f"{name}_file") for name in VALUES}
    return {name: stored_array(file) for name, file in files.items() if file is not None}


def units_of(values: ExampleValues) -> dict[str, str]:
    loss = unit_of(values.baseline, BehaviourKind.MEAN_LOSS)
    return {
        "loss": loss,
        "confidence": "probability",
        "self_influence": f"{loss} per unit of weight",
    }


def standing(
    index: ExampleIndex, values: ExampleValues, row: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Each value of one example with its rank among the examples of its split, largest first."""
    of_split = np.asarray(index.array(f"{row['split']}_rows"))
    place = of_split[row[f"{row['split']}_index"]]
    units = units_of(values)
    found = []
    for name, array in arrays_of(values).items():
        own = float(array[place])
        if np.isfinite(own):
            others = np.asarray(array[of_split])
            rank = int((others > own).sum()) + 1
            found.append(
                {"name": name, "value": own, "unit": units[name], "rank": rank, "of": len(others)}
            )
    return found
