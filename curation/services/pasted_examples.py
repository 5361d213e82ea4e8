"""Examples that people paste into a behaviour: what each kind of behaviour needs of them."""

from typing import Any

from django.core.exceptions import ValidationError

from curation.models import BehaviourKind

MAX_PASTED = 500
MAX_WORDS = 100
MAX_SEQUENCES = 20_000
LONGEST_TEXT = 20_000
LONGEST_WORD = 200


def labelled_texts(definition: dict[str, Any], classes: list[str]) -> dict[str, Any]:
    """The definition with checked `examples`, each a text and its label.

    Raises:
        ValidationError: naming the example and the rule.
    """
    examples = _number_of(definition)
    for number, example in enumerate(examples, start=1):
        if not str(example.get("text") or "").strip():
            raise _refuse(number, example, "the text is empty")
        if example.get("label") not in classes:
            raise _refuse(number, example, f"the label is not one of {', '.join(classes)}")
        _check_length(number, example, ("text",))
    return {
        "selection": "pasted",
        "examples": [{"text": str(one["text"]), "label": str(one["label"])} for one in examples],
    }


def prompts_and_completions(definition: dict[str, Any], kind: str) -> dict[str, Any]:
    """The definition with checked `examples`: each a prompt, which may be empty, with its
    completion; for a preference also the alternative; for the probability of words the prompt
    alone, and `words` for all. `ends` says whether a completion counts with the token that ends a
    text.

    Raises:
        ValidationError: naming the example and the rule.
    """
    examples = _number_of(definition)
    names = ["prompt"]
    if kind != BehaviourKind.TOKEN_CLASS_PROBABILITY:
        names.append("completion")
    if kind == BehaviourKind.COMPLETION_PREFERENCE:
        names.append("alternative")
    for number, example in enumerate(examples, start=1):
        for name in names[1:]:
            if not str(example.get(name) or ""):
                raise _refuse(number, example, f"the {name} is empty")
        if "alternative" in names and example["alternative"] == example["completion"]:
            raise _refuse(number, example, "the alternative is the completion itself")
        if names == ["prompt"] and not str(example.get("prompt") or ""):
            raise _refuse(number, example, "the prompt is empty")
        _check_length(number, example, names)
    cleaned = {
        "selection": "pasted",
        "examples": [{name: str(one.get(name) or "") for name in names} for one in examples],
        "ends": bool(definition.get("ends", False)),
    }
    if names == ["prompt"]:
        cleaned["words"] = _words(definition, len(examples))
    return cleaned


def _number_of(definition: dict[str, Any]) -> list[dict[str, Any]]:
    examples: list[dict[str, Any]] = definition.get("examples") or []
    if not 1 <= len(examples) <= MAX_PASTED:
        raise ValidationError({"definition": f"Paste between 1 and {MAX_PASTED} examples."})
    return examples


def _words(definition: dict[str, Any], prompts: int) -> list[str]:
    words = list(dict.fromkeys(str(word) for word in definition.get("words") or []))
    if not 1 <= len(words) <= MAX_WORDS:
        raise ValidationError({"words": f"Name between 1 and {MAX_WORDS} words."})
    for number, word in enumerate(words, start=1):
        if not word or len(word) > LONGEST_WORD:
            raise ValidationError(
                {"words": f"Word {number}: write between 1 and {LONGEST_WORD} characters."}
            )
    if len(words) * prompts > MAX_SEQUENCES:
        raise ValidationError(
            {"words": f"Prompts times words are {len(words) * prompts:,}, above {MAX_SEQUENCES:,}."}
        )
    return words


def _check_length(number: int, example: dict[str, Any], names: Any) -> None:
    for name in names:
        if len(str(example.get(name) or "")) > LONGEST_TEXT:
            raise _refuse(number, example, f"the {name} is longer than {LONGEST_TEXT:,} characters")


def _refuse(number: int, example: dict[str, Any], rule: str) -> ValidationError:
    """`line` is where a form found the example, blank lines counted."""
    place = f"Line {example['line']}" if "line" in example else f"Example {number}"
    return ValidationError({"definition": f"{place}: {rule}."})
