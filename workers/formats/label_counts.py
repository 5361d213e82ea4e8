"""Classes of a dataset while it is read: how often each stands in each split, and where first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.formats.errors import FormatError
from workers.formats.rules import Place


class LabelCounts:
    """Counts of labels per split."""

    def __init__(self, max_classes: int) -> None:
        self._max_classes = max_classes
        self._train: dict[str, int] = {}
        self._probe: dict[str, int] = {}
        self._first_probe: dict[str, tuple[Place, int, str]] = {}

    def add(
        self, labels: pa.Array, probe: np.ndarray, place: Place, probe_field: str, field: str
    ) -> None:
        """Count one batch; raises FormatError when there are too many classes."""
        self._count(labels.filter(pa.array(~probe)), self._train)
        for label in self._count(labels.filter(pa.array(probe)), self._probe):
            at = int(
                np.flatnonzero(pc.equal(labels, label).to_numpy(zero_copy_only=False) & probe)[0]
            )
            self._first_probe[label] = (place, at, probe_field)
        if len(self._train) > self._max_classes or len(self._probe) > self._max_classes:
            raise FormatError(
                place.file,
                field=field,
                rule=f"has more than {self._max_classes:,} labels; is it the label column?",
            )

    def _count(self, labels: pa.Array, counts: dict[str, int]) -> list[str]:
        """Add to `counts`; returns the labels that are new, unless they are too many to be
        classes."""
        found = pc.value_counts(labels)
        if len(found) > 2 * self._max_classes:
            counts |= dict.fromkeys(found.field("values").to_pylist(), 0)
            return []
        new = []
        for label, count in zip(
            found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True
        ):
            if label not in counts:
                new.append(label)
            counts[label] = counts.get(label, 0) + count
        return new

    def classes(self, file: str, field: str | None) -> list[str]:
        """The sorted classes of the train split; raises FormatError for fewer than two, or for a
        label that only probe rows have."""
        for label, (place, at, probe_field) in self._first_probe.items():
            if label not in self._train:
                raise place.error(
                    at, probe_field, f"the label '{label}' of a probe row stands in no train row"
                )
        if len(self._train) < 2:
            only = next(iter(self._train))
            raise FormatError(
                file, field=field, rule=f"all train rows have the label '{only}'; two are needed"
            )
        return sorted(self._train)

    def counts(self, classes: list[str]) -> list[dict[str, Any]]:
        return [
            {"label": c, "train": self._train.get(c, 0), "probe": self._probe.get(c, 0)}
            for c in classes
        ]
