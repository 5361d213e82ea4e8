"""Reading JSON and queries strictly: what the database cannot hold is refused at the door."""

import json
import math
from typing import Any, NoReturn

from django.http import HttpRequest
from django.utils.datastructures import MultiValueDict
from ninja.parser import Parser

from curation.api.problems import MalformedInput

MAX_DEPTH = 40


class StrictParser(Parser):
    """Refuses NUL, lone surrogates, NaN, infinite numbers, huge whole numbers and deep nesting."""

    def parse_body(self, request: HttpRequest) -> Any:
        try:
            value = json.loads(
                request.body, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
            )
        except RecursionError as error:
            raise MalformedInput("The JSON is nested too deeply.") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise MalformedInput("The body is not valid JSON in UTF-8.") from error
        check(value)
        return value

    def parse_querydict(
        self, data: MultiValueDict, list_fields: list[str], request: HttpRequest
    ) -> dict[str, Any]:
        for values in data.lists():
            check([value for value in values[1] if isinstance(value, str)])
        return super().parse_querydict(data, list_fields, request)


def check(value: Any, depth: int = 0) -> None:
    """Raise MalformedInput for text that PostgreSQL cannot store, and for deep nesting."""
    if depth > MAX_DEPTH:
        raise MalformedInput(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, str):
        if "\0" in value:
            raise MalformedInput("The text holds a NUL character.")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise MalformedInput("The text holds half of a surrogate pair.")
    elif isinstance(value, dict):
        for key, entry in value.items():
            check(key, depth + 1)
            check(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            check(entry, depth + 1)


def _no_constant(text: str) -> NoReturn:
    raise MalformedInput(f"{text} is not a JSON number.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise MalformedInput("A number is too large.")
    return value


def _whole(text: str) -> int:
    if len(text) > 30:
        raise MalformedInput("A whole number is too large.")
    return int(text)
