"""The chat template of an uploaded tokenizer, rendered in a sandbox inside a limited process.

A template is a program of the upload: it only ever runs in a child process with limits on time and
memory, in a Jinja environment that reaches no attribute of Python's objects and changes nothing.
"""

from __future__ import annotations

import datetime
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from workers.formats.errors import FormatError
from workers.formats.models_json import parse_json_object, short
from workers.formats.resource_guard import ResourceLimitExceeded, ResourceLimits, run_guarded

TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"
LONGEST_RENDERED = 1_000_000
RESOURCES = ResourceLimits(
    memory_bytes=4 * 1024**3, cpu_seconds=300, wall_seconds=600.0, largest_file_bytes=2 * 1024**3
)


class OneDay(datetime.datetime):
    """What a template that asks for the date is told: the same messages give the same tokens on
    every day."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> OneDay:
        return cls(2024, 7, 26, tzinfo=tz)


@dataclass(frozen=True)
class ChatTemplate:
    """The template's text and the texts of the tokenizer's special tokens that it may name."""

    template: str
    special_tokens: dict[str, str]


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The default template of a checked model folder, None where it has none. Nothing is run."""
    settings: dict[str, Any] = {}
    if (folder / TOKENIZER_CONFIG).exists():
        content = (folder / TOKENIZER_CONFIG).read_bytes()
        settings = parse_json_object(content, TOKENIZER_CONFIG, deepest=24)
    template = settings.get("chat_template")
    if (folder / TEMPLATE_FILE).exists():
        template = (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default", next(iter(named.values()), None))
    if not isinstance(template, str) or not template.strip():
        return None
    special = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token = settings.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            special[name] = text
    return ChatTemplate(template, special)


def render_conversations(
    template: ChatTemplate, conversations: pa.Array, resources: ResourceLimits = RESOURCES
) -> tuple[pa.Array, pa.Array]:
    """Prompts and completions of `conversations`, each the JSON of a list of messages of which the
    last is the assistant's: the prompt is all before the answer, with the template's invitation
    to answer, and the completion what the template makes of the answer.

    Raises FormatError, naming the row where there is one, for a template that fails, does not
    begin an answered conversation as it begins the unanswered one, or needs too much.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "messages.arrow", Path(folder) / "rendered.arrow"
        _write(pa.table({"messages": conversations.cast(pa.large_string())}), source)
        arguments = {
            "template": template.template,
            "special_tokens": template.special_tokens,
            "source": str(source),
            "result": str(result),
        }
        try:
            run_guarded(render_in_child, arguments, resources)
        except ResourceLimitExceeded as error:
            raise FormatError(
                file=TEMPLATE_FILE, rule=f"rendering the messages was stopped: {error.detail}"
            ) from error
        with pa.memory_map(str(result)) as stream:
            table = pa.ipc.open_file(stream).read_all()
            prompts, completions = (
                pa.array(table[name].to_pylist(), pa.large_string())
                for name in ("prompt", "completion")
            )
    return prompts, completions


def render_in_child(
    template: str, special_tokens: Mapping[str, str], source: str, result: str
) -> None:
    """Reads the conversations from one Arrow file and writes the rendered ones to another. Only
    for a process of its own: it sets that process's date for templates."""
    from transformers.utils import chat_template_utils

    vars(chat_template_utils)["datetime"] = OneDay
    with pa.memory_map(source) as stream:
        conversations = pa.ipc.open_file(stream).read_all()["messages"]
    prompts, completions = [], []
    for row, text in enumerate(conversations, start=1):
        prompt, whole = rendered_pair(template, special_tokens, json.loads(text.as_py()), row)
        prompts.append(prompt)
        completions.append(whole[len(prompt) :])
    _write(
        pa.table(
            {
                "prompt": pa.array(prompts, pa.large_string()),
                "completion": pa.array(completions, pa.large_string()),
            }
        ),
        Path(result),
    )


def rendered_pair(
    template: str,
    special_tokens: Mapping[str, str],
    messages: Sequence[Mapping[str, str]],
    row: int,
) -> tuple[str, str]:
    """The unanswered conversation with the invitation to answer, and the answered one."""
    prompt = _rendered(template, special_tokens, messages[:-1], row, invite=True)
    whole = _rendered(template, special_tokens, messages, row, invite=False)
    if not whole.startswith(prompt):
        # Templates that strip the end of the invitation before an answer differ in white space.
        prompt = prompt.rstrip()
    if not whole.startswith(prompt):
        raise FormatError(
            file=TEMPLATE_FILE,
            row=row,
            rule="the template writes the conversation differently once it is answered, so that "
            "the answer cannot be told apart; train on plain chat messages instead",
        )
    return prompt, whole


def _rendered(
    template: str,
    special_tokens: Mapping[str, str],
    messages: Sequence[Mapping[str, str]],
    row: int,
    *,
    invite: bool,
) -> str:
    from transformers.utils import chat_template_utils

    render: Any = chat_template_utils.render_jinja_template
    try:
        texts, _ = render(
            conversations=[list(messages)],
            chat_template=template,
            add_generation_prompt=invite,
            **special_tokens,
        )
    except MemoryError:
        raise
    except Exception as error:
        raise FormatError(
            file=TEMPLATE_FILE, row=row, rule=f"the template failed: {short(error)}"
        ) from error
    if len(texts[0]) > LONGEST_RENDERED:
        raise FormatError(
            file=TEMPLATE_FILE,
            row=row,
            rule=f"the rendered conversation is longer than {LONGEST_RENDERED:,} characters",
        )
    return str(texts[0])


def _write(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
