"""How numbers, times and sizes are written for people: signs, units and sensible digits.

Pure functions without Django; the template filters and the charts both call them.
"""

import math
from collections.abc import Sequence
from datetime import datetime

MINUS = "\u2212"
NO_BREAK = "\u00a0"
MISSING = "–"

_TIME_UNITS = (
    ("year", 365 * 86400),
    ("month", 30 * 86400),
    ("week", 7 * 86400),
    ("day", 86400),
    ("hour", 3600),
    ("minute", 60),
)


def decimals_for(*values: float, significant: int = 2, most: int = 6) -> int:
    """Decimals that show the smallest non-zero of ``values`` with ``significant`` digits.

    Used with the width of an interval, so that an estimate never shows digits its interval
    says are unknown. Non-finite values and zeros are ignored; with nothing left, 2.
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes:
        return 2
    return max(0, min(most, significant - 1 - math.floor(math.log10(min(sizes)))))


def number(value: float | None, decimals: int | None = None, significant: int = 3) -> str:
    """``value`` with a real minus sign and thousands separators; a dash where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    if decimals is None:
        decimals = decimals_for(value, significant=significant)
    text = f"{abs(value):,.{decimals}f}"
    negative = value < 0 and any(digit in text for digit in "123456789")
    return (MINUS if negative else "") + text


def signed(value: float | None, decimals: int | None = None, significant: int = 3) -> str:
    """Like :func:`number`, with an explicit plus: a change is never shown without its sign."""
    text = number(value, decimals, significant)
    positive = value is not None and value > 0 and any(digit in text for digit in "123456789∞")
    return f"+{text}" if positive else text


def in_unit(value: float | None, unit: str) -> tuple[float | None, str]:
    """The value and unit to show: probabilities are shown as percentages."""
    if unit in ("probability", "accuracy"):
        return (None if value is None else 100 * value), "%"
    return value, unit


def change_unit(unit: str) -> str:
    """The unit of a *difference* of values in ``unit``: percentages differ by points."""
    return "points" if unit in ("probability", "accuracy", "%") else unit


def with_unit(value: float | None, unit: str, decimals: int | None = None) -> str:
    """A level with its unit, as in ``63.1%`` or ``0.412 nats``."""
    shown, shown_unit = in_unit(value, unit)
    text = number(shown, decimals)
    if text == MISSING or not shown_unit:
        return text
    return text + ("%" if shown_unit == "%" else NO_BREAK + shown_unit)


def change(value: float | None, unit: str, decimals: int | None = None) -> str:
    """A signed change with its unit, as in ``+1.20 points`` or ``−0.031 nats``."""
    shown, _ = in_unit(value, unit)
    text = signed(shown, decimals)
    name = change_unit(unit)
    return text if text == MISSING or not name else text + NO_BREAK + name


def interval_decimals(low: float, high: float, unit: str = "") -> int:
    """The decimals that the width of an interval supports, in the unit that is shown."""
    scale = 100 if in_unit(1.0, unit)[1] == "%" else 1
    return decimals_for(scale * (high - low) / 2)


def interval(
    low: float | None, high: float | None, unit: str = "", decimals: int | None = None
) -> str:
    """``+0.012 to +0.050``, with the digits that the width of the interval supports."""
    if low is None or high is None:
        return MISSING
    if decimals is None:
        decimals = interval_decimals(low, high, unit)
    low, high = (in_unit(bound, unit)[0] for bound in (low, high))
    return f"{signed(low, decimals)} to {signed(high, decimals)}"


def estimate(value: float | None, low: float | None, high: float | None, unit: str = "") -> str:
    """``+0.031 nats (+0.012 to +0.050)``: one decimal policy for the value and its interval."""
    if value is None or low is None or high is None:
        return change(value, unit)
    decimals = interval_decimals(low, high, unit)
    return f"{change(value, unit, decimals)} ({interval(low, high, unit)})"


def percentage(fraction: float | None, decimals: int = 0) -> str:
    """A fraction as a percentage: ``0.925`` → ``93%``."""
    if fraction is None or math.isnan(fraction):
        return MISSING
    return number(100 * fraction, decimals) + "%"


def count(value: int | None) -> str:
    """A whole number with thousands separators."""
    return MISSING if value is None else f"{value:,}".replace("-", MINUS)


def compact_count(value: int) -> str:
    """A count in at most four characters, for axes and chips: ``12k``, ``1.3M``."""
    for size, suffix in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if abs(value) >= size:
            shown = value / size
            return (
                f"{shown:.1f}".removesuffix(".0") + suffix if shown < 10 else f"{shown:.0f}{suffix}"
            )
    return str(value)


def plural(number_of: int, singular: str, many: str | None = None) -> str:
    """``1 example``, ``1,200 examples``."""
    return f"{count(number_of)} {singular if number_of == 1 else many or singular + 's'}"


def duration(seconds: float | None) -> str:
    """A length of time in its two largest units: ``0.42 s``, ``3 min 20 s``, ``1 h 05 min``."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))}{NO_BREAK}ms"
    if seconds < 10:
        return f"{seconds:.1f}{NO_BREAK}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NO_BREAK}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}{NO_BREAK}min {rest:02d}{NO_BREAK}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}{NO_BREAK}h {minutes:02d}{NO_BREAK}min"
    days, hours = divmod(hours, 24)
    return f"{days}{NO_BREAK}d {hours}{NO_BREAK}h"


def relative_time(moment: datetime, now: datetime) -> str:
    """``3 minutes ago`` or ``in 2 days``, by the largest whole unit; both aware or both naive."""
    seconds = (now - moment).total_seconds()
    for name, size in _TIME_UNITS:
        whole = int(abs(seconds) // size)
        if whole:
            words = plural(whole, name)
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "just now"


def file_size(number_of_bytes: int | None) -> str:
    """Bytes in decimal units, as file managers show them: ``1.2 MB``."""
    if number_of_bytes is None:
        return MISSING
    size = float(number_of_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return (
                f"{size:.0f}{NO_BREAK}{unit}"
                if size >= 10 or unit == "bytes"
                else f"{size:.1f}{NO_BREAK}{unit}"
            )
        size /= 1000
    return f"{size:.1f}{NO_BREAK}TB"


def short_hash(digest: str, length: int = 12) -> str:
    """The leading characters of a content hash, enough to recognise it."""
    return digest[:length]


def in_words(items: Sequence[str], conjunction: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"
