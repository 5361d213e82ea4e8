"""The one error that reading an untrusted upload raises: which file, row or field, and which
rule."""

from __future__ import annotations


class FormatError(Exception):
    """An upload was refused.

    `file` is the name inside the upload, `row` the 1-based row, `field` the column, key or tensor,
    `rule` a sentence a person can act on.
    """

    def __init__(
        self,
        file: str | None = None,
        row: int | None = None,
        field: str | None = None,
        rule: str = "",
    ) -> None:
        super().__init__(file, row, field, rule)
        self.file = printable(file)
        self.row = row
        self.field = printable(field)
        self.rule = rule

    def __str__(self) -> str:
        place = [
            part
            for part in (
                self.file,
                f"row {self.row}" if self.row is not None else None,
                f"field '{self.field}'" if self.field is not None else None,
            )
            if part
        ]
        return f"{', '.join(place)}: {self.rule}" if place else self.rule


def printable(name: str | None, limit: int = 120) -> str | None:
    """A name from an upload, shortened and with every unprintable character escaped."""
    if name is None:
        return None
    short = name if len(name) <= limit else name[: limit - 1] + "…"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in short
    )
