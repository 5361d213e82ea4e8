"""Linear scales and round tick values, shared by all charts."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A linear map from data (``low``–``high``) to a position (``start``–``stop``)."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        fraction = (value - self.low) / (self.high - self.low)
        return self.start + fraction * (self.stop - self.start)

    def clamped(self, value: float) -> float:
        return self(min(max(value, self.low), self.high))


def finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten) inside ``low``–``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.7 * rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]


def tick_decimals(values: list[float]) -> int:
    """Decimals at which neighbouring ticks read differently."""
    if len(values) < 2:
        return 2
    step = abs(values[1] - values[0])
    return max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0


def padded(
    values: Iterable[float | None], include_zero: bool = False, share: float = 0.06
) -> tuple[float, float]:
    """A domain that holds all finite values with some air; never empty."""
    known = finite(values)
    if include_zero:
        known.append(0.0)
    if not known:
        return -1.0, 1.0
    low, high = min(known), max(known)
    air = (high - low) * share or abs(high) * 0.1 or 1.0
    return low - air, high + air
