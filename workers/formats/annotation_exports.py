"""Label Studio and Argilla exports turned into plain rows; other JSON passes unchanged."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa

from workers.formats.errors import FormatError


def recognise(first_line: str) -> str | None:
    """ "label_studio" or "argilla" when the first record has that tool's shape, else None."""
    try:
        record = json.loads(first_line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    if isinstance(record.get("data"), dict) and isinstance(record.get("annotations"), list):
        return "label_studio"
    answers = ("responses", "suggestions")
    if isinstance(record.get("fields"), dict) and any(key in record for key in answers):
        return "argilla"
    return None


def unfold(lines: pa.Array, tool: str, file: str, rows_before: int) -> pa.Array:
    """One flat JSON object for each record: its fields, and for each question the most frequent
    answer, its share of the answers (`<question>_agreement`) and their number
    (`<question>_answers`)."""
    flatten = _label_studio if tool == "label_studio" else _argilla
    flat: list[str] = []
    for number, line in enumerate(lines.to_pylist(), start=rows_before + 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(file, number, rule="the record is not valid JSON") from error
        try:
            flat.append(json.dumps(flatten(record)))
        except (AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
            name = "Label Studio" if tool == "label_studio" else "Argilla"
            raise FormatError(
                file, number, rule=f"the record has not the shape of a {name} export"
            ) from error
    return pa.array(flat, pa.string())


def _label_studio(task: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"id": task.get("id", task.get("inner_id"))}
    row.update(task["data"])
    answers: dict[str, list[str]] = {}
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        for result in annotation.get("result", ()):
            answer = _choice(result.get("value") or {})
            if answer is not None:
                answers.setdefault(str(result["from_name"]), []).append(answer)
    return _with_answers(row, answers)


def _choice(value: dict[str, Any]) -> str | None:
    for key in ("choices", "labels", "taxonomy"):
        chosen = value.get(key)
        if isinstance(chosen, list) and chosen:
            return " | ".join(str(item) for item in chosen)
    for key in ("rating", "number", "text"):
        if key in value:
            given = value[key]
            return str(given[0]) if isinstance(given, list) and given else str(given)
    return None


def _argilla(record: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"id": record.get("id") or record.get("_server_id")}
    row.update(record["fields"])
    for name, value in (record.get("metadata") or {}).items():
        row.setdefault(name, value)
    answers: dict[str, list[str]] = {}
    responses = record.get("responses") or {}
    if isinstance(responses, dict):  # Argilla 2: question -> list of responses
        for question, given in responses.items():
            for response in given:
                if response.get("status", "submitted") == "submitted":
                    answers.setdefault(question, []).append(_written(response["value"]))
    else:  # Argilla 1: a list of users' responses
        for response in responses:
            if response.get("status", "submitted") == "submitted":
                for question, given in (response.get("values") or {}).items():
                    answers.setdefault(question, []).append(_written(given["value"]))
    _with_answers(row, answers)
    suggestions = record.get("suggestions") or {}
    if isinstance(suggestions, list):
        suggestions = {s.get("question_name", "question"): s for s in suggestions}
    for question, suggestion in suggestions.items():
        row.setdefault(f"{question}_suggestion", _written(suggestion.get("value")))
    return row


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _with_answers(row: dict[str, Any], answers: dict[str, list[str]]) -> dict[str, Any]:
    for question, given in answers.items():
        answer, votes = Counter(given).most_common(1)[0]
        name = question if question not in row else f"{question}_answer"
        row[name] = answer
        row[f"{name}_agreement"] = round(votes / len(given), 4)
        row[f"{name}_answers"] = len(given)
    return row
