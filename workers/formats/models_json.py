"""JSON from an uploaded model folder, read within bounds on size, nesting and number of keys."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import numpy as np

from workers.formats.errors import FormatError

STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def parse_json_object(content: bytes, file: str, *, deepest: int) -> dict[str, Any]:
    """The JSON object in `content`, at most `deepest` levels of nesting.

    Raises FormatError on bad UTF-8, bad JSON, deeper nesting, a key that stands twice, NaN or
    Infinity, surrogates, or when the outermost value is not an object. The depth is measured
    before parsing, in time linear in the size.
    """
    if nesting_depth(content) > deepest:
        raise FormatError(file=file, rule=f"JSON nests deeper than {deepest} levels")

    def refuse(constant: str) -> NoReturn:
        raise FormatError(file=file, rule=f"JSON holds {constant}, which is not a finite number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise FormatError(file=file, field=twice, rule="the key stands twice in one object")
        return found

    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(file=file, rule=f"not UTF-8 text (byte {error.start})") from None
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise FormatError(file=file, rule=f"not valid JSON: {short(error)}") from None
    if not isinstance(value, dict):
        raise FormatError(file=file, rule="the JSON must be an object")
    return value


def nesting_depth(content: bytes) -> int:
    """The deepest nesting of brackets outside strings."""
    marks = np.frombuffer(STRING.sub(b"", content), np.uint8)
    steps = np.isin(marks, (ord("{"), ord("["))).astype(np.int32)
    steps -= np.isin(marks, (ord("}"), ord("]")))
    return int(np.cumsum(steps).max(initial=0))


def short(error: BaseException, limit: int = 160) -> str:
    """The first line of an error's text, shortened."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"
