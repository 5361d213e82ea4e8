"""The settings of an architecture: type, default and bounds, checked with the field's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Check = Callable[[Mapping[str, Any]], None]


class ArchitectureError(ValueError):
    """A field of an architecture breaks a rule; `field` names it and `rule` says which."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"architecture field “{field}”: {rule}")
        self.field = field
        self.rule = rule


@dataclass(frozen=True)
class Setting:
    """One field. `from_data` marks a size that encoding fills in, not a person."""

    name: str
    title: str
    kind: str  # "integer" | "integers" | "choice" | "switch" | "text" | "object"
    default: Any
    minimum: int = 0
    maximum: int = 0
    choices: tuple[str, ...] = ()
    shortest: int = 0
    longest: int = 0
    from_data: bool = False

    def default_value(self) -> Any:
        return list(self.default) if self.kind == "integers" else self.default

    def needed(self, architecture: Mapping[str, Any]) -> bool:
        """Whether a complete architecture must have this field."""
        if self.name == "model_sha256":
            return False
        if architecture["name"] != "transformers":
            return True
        frozen = bool(architecture.get("trained_part", "head") == "head")
        needed: dict[str, bool] = {
            "model_configuration": not frozen,
            "number_of_features": frozen,
        }
        return needed.get(self.name, True)

    def check(self, value: object) -> None:
        """Raise ArchitectureError naming this field when `value` breaks its rule."""
        if self.kind == "integer":
            self._check_integer(value)
        elif self.kind == "integers":
            self._check_integers(value)
        elif self.kind == "choice" and value not in self.choices:
            raise ArchitectureError(self.name, f"must be one of {', '.join(self.choices)}")
        elif self.kind == "switch" and not isinstance(value, bool):
            raise ArchitectureError(self.name, "must be true or false")
        elif self.kind == "object" and not isinstance(value, dict | None):
            raise ArchitectureError(self.name, "must be an object")
        elif self.kind == "text" and not isinstance(value, str | None):
            raise ArchitectureError(self.name, "must be a text")

    def _check_integer(self, value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ArchitectureError(self.name, "must be a whole number")
        if not self.minimum <= value <= self.maximum:
            raise ArchitectureError(self.name, f"must be between {self.minimum} and {self.maximum}")

    def _check_integers(self, value: object) -> None:
        if not isinstance(value, list | tuple):
            raise ArchitectureError(self.name, "must be a list of whole numbers")
        if not self.shortest <= len(value) <= self.longest:
            raise ArchitectureError(
                self.name, f"must have {self.shortest} to {self.longest} numbers"
            )
        for entry in value:
            self._check_integer(entry)


def integer(name: str, title: str, default: int, minimum: int, maximum: int) -> Setting:
    return Setting(name, title, "integer", default, minimum, maximum)


def integer_list(
    name: str,
    title: str,
    default: Sequence[int],
    minimum: int,
    maximum: int,
    longest: int,
    shortest: int = 0,
) -> Setting:
    return Setting(name, title, "integers", tuple(default), minimum, maximum, (), shortest, longest)


def choice(name: str, title: str, default: str, choices: tuple[str, ...]) -> Setting:
    return Setting(name, title, "choice", default, choices=choices)


def switch(name: str, title: str, default: bool) -> Setting:
    return Setting(name, title, "switch", default)


def from_data(setting: Setting) -> Setting:
    return replace(setting, from_data=True)
