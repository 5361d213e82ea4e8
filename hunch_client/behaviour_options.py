"""Which examples a behaviour reads, from the options of `hunch behaviour add`."""

import json
from pathlib import Path
from typing import Any

import typer

from hunch_client.errors import HunchError


def probe_definition(of_class: str, where: str, examples: list[str]) -> dict[str, Any]:
    """Probe examples of the dataset: all, a class, a slice `ATTRIBUTE=VALUE`, or named ones.

    Raises:
        typer.BadParameter: more than one choice, or a slice without `=`.
    """
    if sum(map(bool, (of_class, where, examples))) > 1:
        raise typer.BadParameter("Choose one of --class, --where and --example.")
    if of_class:
        return {"selection": "class", "label": of_class}
    if where:
        attribute, equals, value = where.partition("=")
        if not equals:
            raise typer.BadParameter(f"--where takes ATTRIBUTE=VALUE, not “{where}”.")
        return {"selection": "slice", "attribute": attribute, "value": value}
    if examples:
        return {"selection": "examples", "example_ids": examples}
    return {"selection": "all"}


def prompt_definition(
    prompts: list[str],
    completions: list[str],
    alternatives: list[str],
    words: list[str],
    ends: bool,
) -> dict[str, Any]:
    """Prompts that are given here, each with its completion and alternative, in their order.

    Raises:
        typer.BadParameter: not as many of one as of the other.
    """
    columns = {"prompt": prompts, "completion": completions, "alternative": alternatives}
    given = {name: texts for name, texts in columns.items() if texts}
    if "prompt" not in given and completions:
        given = {"prompt": [""] * len(completions), **given}
    if len({len(texts) for texts in given.values()}) > 1:
        counts = ", ".join(f"{len(texts)} --{name}" for name, texts in given.items())
        raise typer.BadParameter(f"Give as many of each: there are {counts}.")
    rows = [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
    definition: dict[str, Any] = {"selection": "pasted", "examples": rows}
    if words:
        definition["words"] = words
    if ends:
        definition["ends"] = True
    return definition


def file_definition(path: Path, words: list[str], ends: bool) -> dict[str, Any]:
    """Examples of a file of JSON lines, such as `{"prompt": …, "completion": …}` or `{"text": …,
    "label": …}`. Raises HunchError naming the line."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise HunchError(f"{path}, line {number}: this is not JSON.") from error
        if not isinstance(row, dict):
            raise HunchError(f"{path}, line {number}: this is not an object in braces.")
        rows.append(row)
    more = {"words": words} if words else {}
    return {"selection": "pasted", "examples": rows, **more, **({"ends": True} if ends else {})}


def usual_kind(definition: dict[str, Any]) -> str:
    """The kind that is meant where none is named."""
    examples = definition.get("examples") or [{}]
    if definition["selection"] != "pasted" or "text" in examples[0]:
        return "mean_margin"
    if "words" in definition:
        return "token_class_probability"
    if "alternative" in examples[0]:
        return "completion_preference"
    return "completion_log_probability"
