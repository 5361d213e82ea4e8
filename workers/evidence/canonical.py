"""Canonical JSON (RFC 8785) and its SHA-256, so that a registered plan has one spelling and one
hash on every machine. What a plan must contain is decided by the registration, not here."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np

LARGEST_EXACT_INTEGER = 2**53 - 1


def canonical_json(value: Any) -> bytes:
    """``value`` as UTF-8 JSON by RFC 8785: no spaces, keys sorted by UTF-16 code units, numbers
    spelled as ECMAScript does (so 1.0 and 1 are the same number, spelled ``1``).

    Tuples count as lists, NumPy scalars and arrays as their Python values. Raises ValueError for
    what RFC 8785 cannot spell: non-finite floats, integers that no double equals, lone surrogates;
    and TypeError for keys that are not text and for other types. Both name the place, like
    ``$.seeds[3]``.
    """
    parts: list[str] = []
    _write(value, "$", parts)
    return "".join(parts).encode("utf-8")


def canonical_sha256(value: Any) -> str:
    """The SHA-256 of :func:`canonical_json` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _write(value: Any, place: str, parts: list[str]) -> None:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if value is None:
        parts.append("null")
    elif isinstance(value, bool):
        parts.append("true" if value else "false")
    elif isinstance(value, str):
        parts.append(_text(value, place))
    elif isinstance(value, int):
        parts.append(_integer(value, place))
    elif isinstance(value, float):
        parts.append(_number(value, place))
    elif isinstance(value, (list, tuple)):
        _write_list(value, place, parts)
    elif isinstance(value, dict):
        _write_object(value, place, parts)
    else:
        raise TypeError(f"{place}: a {type(value).__name__} has no place in canonical JSON")


def _write_list(value: list[Any] | tuple[Any, ...], place: str, parts: list[str]) -> None:
    parts.append("[")
    for position, item in enumerate(value):
        if position:
            parts.append(",")
        _write(item, f"{place}[{position}]", parts)
    parts.append("]")


def _write_object(value: dict[Any, Any], place: str, parts: list[str]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"{place}: the key {key!r} is not text")
    spelled = {key: _text(key, place) for key in value}
    parts.append("{")
    for position, key in enumerate(sorted(value, key=lambda key: key.encode("utf-16-be"))):
        if position:
            parts.append(",")
        parts.append(spelled[key] + ":")
        _write(value[key], f"{place}.{key}", parts)
    parts.append("}")


def _text(value: str, place: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{place}: the text holds a lone surrogate") from None
    return json.dumps(value, ensure_ascii=False)


def _integer(value: int, place: str) -> str:
    """RFC 8785 knows only doubles; an integer that no double equals would change silently."""
    if abs(value) <= LARGEST_EXACT_INTEGER:
        return str(value)
    if value.bit_length() <= 1023 and int(float(value)) == value:
        return _number(float(value), place)
    raise ValueError(f"{place}: no double equals the integer {value}; write it as text")


def _number(value: float, place: str) -> str:
    """The spelling of ECMAScript's Number::toString; Python's repr finds the same shortest
    digits."""
    if not math.isfinite(value):
        raise ValueError(f"{place}: {value} is not a finite number")
    if value == 0:
        return "0"
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    all_digits = whole + fraction
    digits = all_digits.lstrip("0")
    point = len(whole) + int(exponent_text or 0) - (len(all_digits) - len(digits))
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    exponent = point - 1
    head = digits if count == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{sign}{head}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
