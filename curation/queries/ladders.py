"""Reading a test's ladder: the waterfall of one behaviour from its measured rungs."""

import numpy as np

from curation.models import Behaviour, Registration
from curation.models import Ladder as StoredLadder
from workers.evidence.ladder import Ladder, climb


def ladder_of(registration: Registration, behaviour: Behaviour) -> Ladder | None:
    """The ladder of one planned behaviour; None where it was not measured."""
    stored = StoredLadder.objects.filter(registration=registration).first()
    rungs = stored.effects.get(str(behaviour.pk)) if stored else None
    if not rungs:
        return None
    return climb(
        {name: float(np.mean(values)) for name, values in rungs.items()},
        {
            name: float(np.std(values, ddof=1) / np.sqrt(len(values)))
            for name, values in rungs.items()
            if len(values) > 1
        },
        behaviour=behaviour.name,
        unit=behaviour.unit,
    )


def notes_of(registration: Registration) -> list[str]:
    """Which rungs had not converged, in words."""
    stored = StoredLadder.objects.filter(registration=registration).first()
    return list(stored.notes) if stored else []
