"""The tokenizer of an uploaded model: an allow-list of parts, bounded sizes, ids inside the model's
vocabulary, and bounded regular expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workers.formats.errors import FormatError
from workers.formats.models_json import short
from workers.formats.models_patterns import check_pattern

MODELS = ("BPE", "WordPiece", "Unigram", "WordLevel")
PARTS = {
    "normalizer": (
        "Sequence BertNormalizer NFC NFD NFKC NFKD Nmt Lowercase Strip StripAccents Replace "
        "Prepend Precompiled ByteLevel"
    ),
    "pre_tokenizer": (
        "Sequence BertPreTokenizer ByteLevel Metaspace Whitespace WhitespaceSplit Punctuation "
        "Digits Split UnicodeScripts CharDelimiterSplit"
    ),
    "post_processor": "Sequence TemplateProcessing BertProcessing RobertaProcessing ByteLevel",
    "decoder": "Sequence WordPiece ByteLevel Metaspace BPEDecoder Replace ByteFallback Fuse Strip",
}
KEYS = {"version", "truncation", "padding", "added_tokens", "model", *PARTS}
MOST_PARTS = 32
MOST_ADDED_TOKENS = 20_000
LONGEST_TOKEN = 2_000
LARGEST_GROWTH = 64
LONGEST_CHARACTER_MAP = 4 * 1024 * 1024
LONGEST_TEMPLATE = 256 * 1024
MOST_TEMPLATE_PIECES = 64


def check_tokenizer(raw: Mapping[str, Any], file: str, vocabulary_size: int) -> None:
    """Check the object of a tokenizer.json; raises FormatError naming the part and the rule."""
    for key in raw:
        if key not in KEYS:
            raise FormatError(file=file, field=key, rule="is not a part of a tokenizer")
    check_model(raw.get("model"), file, vocabulary_size)
    check_added_tokens(raw.get("added_tokens") or [], file, vocabulary_size)
    growth = 1.0
    for name, allowed in PARTS.items():
        parts = list(flattened(raw.get(name), file, name))
        if len(parts) > MOST_PARTS:
            raise FormatError(file=file, field=name, rule=f"has more than {MOST_PARTS} steps")
        for part in parts:
            if part["type"] not in allowed.split():
                raise FormatError(
                    file=file, field=name, rule=f"type {part['type']!r:.60} is not allowed"
                )
            growth *= check_part(part, file, name, vocabulary_size)
    if growth > LARGEST_GROWTH:
        raise FormatError(
            file=file,
            field="normalizer",
            rule=f"its replacements could make a text more than {LARGEST_GROWTH} times longer",
        )


def check_model(model: Any, file: str, vocabulary_size: int) -> None:
    if not isinstance(model, dict):
        raise FormatError(file=file, field="model", rule="is missing")
    # Old WordPiece and BPE files leave the type out; their keys tell it.
    kind = model.get("type", "BPE" if "merges" in model else "WordPiece")
    if kind not in MODELS:
        raise FormatError(file=file, field="model.type", rule=f"must be one of {', '.join(MODELS)}")
    vocabulary = model.get("vocab")
    if kind == "Unigram":
        ids = check_unigram(vocabulary, file)
    elif isinstance(vocabulary, dict):
        ids = list(vocabulary.values())
        longest = max(map(len, vocabulary), default=0)
        if longest > LONGEST_TOKEN:
            raise FormatError(
                file=file, field="model.vocab", rule=f"a token is longer than {LONGEST_TOKEN}"
            )
    else:
        raise FormatError(file=file, field="model.vocab", rule="must be an object")
    check_ids(ids, file, "model.vocab", vocabulary_size)
    if len(set(ids)) != len(ids):
        raise FormatError(file=file, field="model.vocab", rule="two tokens share an id")


def check_unigram(vocabulary: Any, file: str) -> list[int]:
    for entry in vocabulary if isinstance(vocabulary, list) else [None]:
        if (
            not isinstance(entry, list)
            or len(entry) != 2
            or not isinstance(entry[0], str)
            or not isinstance(entry[1], int | float)
            or len(entry[0]) > LONGEST_TOKEN
        ):
            raise FormatError(
                file=file, field="model.vocab", rule="must be a list of [token, score] pairs"
            )
    return list(range(len(vocabulary)))


def check_ids(ids: list[Any], file: str, field: str, vocabulary_size: int) -> None:
    for number in ids:
        if type(number) is not int or not 0 <= number < vocabulary_size:
            raise FormatError(
                file=file,
                field=field,
                rule=f"token id {number!r:.40} is outside the model's vocabulary of "
                f"{vocabulary_size:,}",
            )


def check_added_tokens(tokens: Any, file: str, vocabulary_size: int) -> None:
    if not isinstance(tokens, list) or len(tokens) > MOST_ADDED_TOKENS:
        raise FormatError(
            file=file, field="added_tokens", rule=f"must be a list of up to {MOST_ADDED_TOKENS}"
        )
    for token in tokens:
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not 0 < len(content) <= LONGEST_TOKEN:
            raise FormatError(
                file=file,
                field="added_tokens",
                rule=f"each needs a content of 1 to {LONGEST_TOKEN} characters",
            )
        check_ids([token.get("id")], file, "added_tokens", vocabulary_size)


def flattened(part: Any, file: str, name: str) -> Iterator[dict[str, Any]]:
    """The part and everything inside its sequences, outermost first."""
    if part is None:
        return
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise FormatError(file=file, field=name, rule="must be an object with a type")
    yield part
    for inner_key in ("normalizers", "pretokenizers", "processors", "decoders"):
        inner = part.get(inner_key) or []
        if not isinstance(inner, list):
            raise FormatError(file=file, field=name, rule=f"{inner_key} must be a list")
        for entry in inner:
            yield from flattened(entry, file, name)


def check_part(part: dict[str, Any], file: str, name: str, vocabulary_size: int) -> float:
    """Check one step; returns by how much it can lengthen a text."""
    pattern = part.get("pattern")
    length = 0
    if isinstance(pattern, dict):
        expression = pattern.get("Regex")
        if isinstance(expression, str):
            check_pattern(expression, file, f"{name}.pattern")
        literal = pattern.get("String")
        length = len(literal) if isinstance(literal, str) else 0
    elif pattern is not None:
        raise FormatError(file=file, field=f"{name}.pattern", rule="must be an object")
    kind = part["type"]
    if kind == "Precompiled" and len(str(part.get("precompiled_charsmap"))) > LONGEST_CHARACTER_MAP:
        raise FormatError(file=file, field=name, rule="the character map is too large")
    if kind == "TemplateProcessing":
        check_template(part, file, vocabulary_size)
    if name == "normalizer" and kind in ("Replace", "Prepend"):
        added = part.get("content", part.get("prepend"))
        if not isinstance(added, str):
            raise FormatError(file=file, field=name, rule="a replacement must be a text")
        if kind == "Prepend":
            return 1 + len(added) / 16
        return max(1.0, len(added) / length if length else 1.0 + len(added))
    return 1.0


def check_template(part: dict[str, Any], file: str, vocabulary_size: int) -> None:
    for key in ("single", "pair"):
        pieces = part.get(key)
        if not isinstance(pieces, list) or len(pieces) > MOST_TEMPLATE_PIECES:
            raise FormatError(
                file=file,
                field=f"post_processor.{key}",
                rule=f"must be a list of up to {MOST_TEMPLATE_PIECES} pieces",
            )
    special = part.get("special_tokens")
    if not isinstance(special, dict) or len(special) > MOST_TEMPLATE_PIECES:
        raise FormatError(
            file=file, field="post_processor.special_tokens", rule="must be a small object"
        )
    for token in special.values():
        ids = token.get("ids") if isinstance(token, dict) else None
        if not isinstance(ids, list) or len(ids) > MOST_TEMPLATE_PIECES:
            raise FormatError(
                file=file, field="post_processor.special_tokens", rule="each needs a list of ids"
            )
        check_ids(ids, file, "post_processor.special_tokens", vocabulary_size)


def check_tokenizer_config(raw: Mapping[str, Any], file: str) -> None:
    """Check a tokenizer_config.json; its templates are kept small and never rendered here."""
    template = raw.get("chat_template")
    templates = template if isinstance(template, list) else [template]
    for entry in templates:
        text = entry.get("template") if isinstance(entry, dict) else entry
        if text is not None and (not isinstance(text, str) or len(text) > LONGEST_TEMPLATE):
            raise FormatError(
                file=file,
                field="chat_template",
                rule=f"must be a text of up to {LONGEST_TEMPLATE} characters",
            )
    if len(templates) > 16:
        raise FormatError(file=file, field="chat_template", rule="has more than 16 templates")
    kind = raw.get("tokenizer_class")
    if kind is not None and (not isinstance(kind, str) or not kind.isidentifier()):
        raise FormatError(file=file, field="tokenizer_class", rule="must be a class name")


def load_tokenizer(folder: Path, vocabulary_size: int) -> Any:
    """The folder's tokenizer as a `tokenizers.Tokenizer`, without truncation or padding of its own.

    Reads tokenizer.json, or else vocab.txt (WordPiece), or else vocab.json with merges.txt
    (byte-level BPE). The folder must have passed `inspect_model_folder`. Raises FormatError when
    the library refuses the content.
    """
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, Tokenizer

    if (folder / "tokenizer.json").exists():
        file = "tokenizer.json"
    else:
        file = "vocab.txt" if (folder / "vocab.txt").exists() else "vocab.json"
    try:
        if file == "tokenizer.json":
            tokenizer = Tokenizer.from_file(str(folder / file))
        elif file == "vocab.txt":
            tokenizer = BertWordPieceTokenizer(str(folder / file))._tokenizer
        else:
            tokenizer = ByteLevelBPETokenizer(
                str(folder / file), str(folder / "merges.txt")
            )._tokenizer
    except BaseException as error:  # a panic of the Rust library is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise FormatError(file=file, rule=f"not a valid tokenizer: {short(error)}") from None
    if tokenizer.get_vocab_size() > vocabulary_size:
        raise FormatError(
            file=file,
            rule=f"has more tokens than the model's vocabulary of {vocabulary_size:,}",
        )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
