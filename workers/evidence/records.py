"""The one way in which evidence is written down: frozen dataclasses of numbers, arrays and text
that turn into JSON-ready dictionaries and back without loss. What the records mean lives beside
their use."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_ARRAY_TYPES: dict[Any, Any] = {FloatArray: np.float64, IntArray: np.int64, BoolArray: np.bool_}


@dataclasses.dataclass(frozen=True)
class Record:
    """Base of the evidence dataclasses. Non-finite floats become the strings "NaN", "Infinity" and
    "-Infinity", since neither JSON nor PostgreSQL's jsonb has them."""

    def to_json(self) -> dict[str, Any]:
        """The record as a dictionary of plain JSON values."""
        return {
            field.name: _encode(getattr(self, field.name)) for field in dataclasses.fields(self)
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The record that ``to_json`` wrote. Raises ValueError naming an unknown or missing
        field."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in data:
            if name not in known:
                raise ValueError(f"{cls.__name__} has no field {name!r}")
        for name, field in known.items():
            required = (
                field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            )
            if required and name not in data:
                raise ValueError(f"{cls.__name__} needs the field {name!r}")
        hints = typing.get_type_hints(cls)
        return cls(**{name: _decode(value, hints[name]) for name, value in data.items()})


def _encode(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, np.ndarray):
        return _encode(value.tolist())
    if isinstance(value, np.generic):
        return _encode(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else _name_of_non_finite(value)
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _encode(item) for key, item in value.items()}
    if value is None or isinstance(value, (str, int)):
        return value
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def _name_of_non_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _decode(value: Any, hint: Any) -> Any:
    if hint in _ARRAY_TYPES:
        return np.array(value, dtype=_ARRAY_TYPES[hint])
    origin = typing.get_origin(hint)
    arguments = typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _decode(value, next(choice for choice in arguments if choice is not type(None)))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_decode(item, arguments[0]) for item in value)
        return tuple(_decode(item, part) for item, part in zip(value, arguments, strict=True))
    if origin is list:
        return [_decode(item, arguments[0]) for item in value]
    if origin is dict:
        return {key: _decode(item, arguments[1]) for key, item in value.items()}
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_json(value)
    if hint is float:
        return float(value)
    return value
