"""Which influence method suits a baseline's size, and about what each would cost: before anything
is started. Every figure is a multiple of the time that one training run of the baseline took; the
methods' own `estimate_cost` times a sample of the real work and is nearer the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

KEPT_STATES_BYTES = 1 << 30
"""What replay keeps of training states and of cotangents at once, before it recomputes."""
MULTIPLICATIONS_A_SECOND = 5e9
"""Of one processor core on small matrices; a guess, used only where no run was timed."""
PROJECTED_COORDINATES = 4_096


@dataclass(frozen=True)
class TrainingSize:
    """What decides the cost. `places` are positions that an example is computed at: the tokens of a
    text, 1 for a row of numbers. `training_seconds` are of one seed, None before it was timed."""

    trained_parameters: int
    examples: int
    steps: int
    epochs: int
    seeds: int
    behaviours: int
    outputs: int = 2
    places: int = 1
    optimizer: str = "adamw"
    replayable: bool = True
    training_seconds: float | None = None


@dataclass(frozen=True)
class AdviceLimits:
    """What a person is ready to wait and a machine to hold."""

    seconds: float = 2 * 3600.0
    memory_bytes: int = 8 << 30


@dataclass(frozen=True)
class MethodCost:
    """A rough cost of a method for all seeds and behaviours."""

    method: str
    seconds: float
    bytes: int

    def fits(self, limits: AdviceLimits) -> bool:
        return self.seconds <= limits.seconds and self.bytes <= limits.memory_bytes


@dataclass(frozen=True)
class MethodAdvice:
    """`method` with the reason in a sentence, and the costs it was weighed on, in the order in
    which the methods are preferred."""

    method: str
    reason: str
    costs: tuple[MethodCost, ...]


def advise_method(size: TrainingSize, limits: AdviceLimits = AdviceLimits()) -> MethodAdvice:
    """The most faithful method that `limits` allow: replay differentiates the training itself, so
    it comes first wherever it is affordable; then curvature in a Kronecker-factored eigenbasis,
    which needs the final parameters alone; then gradients projected once and kept on disk."""
    costs = (replay_cost(size), ekfac_cost(size), projected_cost(size))
    fitting = [cost for cost in costs if cost.fits(limits)]
    if size.replayable and costs[0] in fitting:
        reason = (
            "Replay differentiates the training itself, which no other method does, and this "
            "baseline is small enough for it. Replay shrunk over seeds foretells fresh seeds "
            "better still, where there is time for unrolled segments too."
        )
        return MethodAdvice("replay", reason, costs)
    why_not = (
        "Replay would take too long or too much memory here"
        if size.replayable
        else "This recipe cannot be replayed exactly"
    )
    if costs[1] in fitting:
        reason = (
            f"{why_not}; EK-FAC needs the trained parameters alone and a few epochs, however many "
            "behaviours there are."
        )
        return MethodAdvice("ekfac", reason, costs)
    reason = (
        f"{why_not}, and EK-FAC's factors too; projected gradients are computed once, kept on "
        "disk, and make further behaviours cheap. Training fewer parameters, by low-rank adapters "
        "or the last layers, would bring replay back."
    )
    if costs[2] not in fitting:
        reason += " Even they take more time or memory than planned for."
    return MethodAdvice("projected", reason, costs)


def run_seconds(size: TrainingSize) -> float:
    """Of training one seed: as timed, or from six multiplications a parameter, place and visit
    (Kaplan et al. 2020, section 2.1)."""
    if size.training_seconds is not None:
        return size.training_seconds
    visits = size.examples * size.epochs * size.places
    return 6.0 * size.trained_parameters * visits / MULTIPLICATIONS_A_SECOND


def replay_cost(size: TrainingSize) -> MethodCost:
    """One run to record the states, then about three times as long to walk it back, once more
    where states must be recomputed, and for each further behaviour a tenth of a run for the
    smallest networks and two and a half runs for large ones; behaviours share a walk as far as the
    memory for their cotangents goes."""
    slots = 2 if size.optimizer == "adamw" else 1
    state = (1 + slots) * 4 * size.trained_parameters
    together = max(1, min(size.behaviours, KEPT_STATES_BYTES // (2 * state)))
    walks = -(-size.behaviours // together)
    recomputed = 1.0 if (size.steps + 1) * state > KEPT_STATES_BYTES else 0.0
    each = share_of_a_further_behaviour(size.trained_parameters)
    runs = 1 + walks * (3 + recomputed) + (size.behaviours - walks) * each
    held = min((size.steps + 1) * state, KEPT_STATES_BYTES) + 2 * together * state
    return MethodCost("replay", size.seeds * runs * run_seconds(size), held)


def share_of_a_further_behaviour(parameters: int) -> float:
    """In training runs: 0.1 up to 10,000 parameters, 2.5 from 1,000,000 on, in between straight in
    the logarithm."""
    return float(np.interp(math.log10(max(parameters, 1)), [4, 6], [0.1, 2.5]))


def ekfac_cost(size: TrainingSize) -> MethodCost:
    """Two epochs for each class up to 16, else six, and two for the scores, since every example's
    gradient is looked at alone; factors of about four
    and a quarter times the parameters, as of a matrix four times as long as wide."""
    epochs = 2 * ((size.outputs if size.outputs <= 16 else 3) + 1)
    seconds = size.seeds * epochs * run_seconds(size) / max(1, size.epochs)
    held = 4 * size.trained_parameters * (5 + size.behaviours)
    return MethodCost("ekfac", seconds, held)


def projected_cost(size: TrainingSize) -> MethodCost:
    """Four epochs for each output up to 16, else sixteen, with the projection; gradients are on
    disk, so memory is the projected curvature's."""
    epochs = 4 * (size.outputs if size.outputs <= 16 else 4)
    seconds = size.seeds * epochs * run_seconds(size) / max(1, size.epochs)
    held = 8 * PROJECTED_COORDINATES**2 + 16 * size.trained_parameters
    return MethodCost("projected", seconds, held)
