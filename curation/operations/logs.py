"""Log lines as JSON, one object a line, with the ids of request and job.

A line holds what the program says and nothing that users sent: no query string, header, body or
token, and of an exception its type and place but not its message, which may quote an example.
"""

import json
import logging
import re
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from curation.operations.context import JOB_ID, REQUEST_ID

QUERY = re.compile(r"\?[^\s'\"]*")
TOKEN = re.compile(r"(?i)\b(hunch_[a-z0-9]+_|bearer\s+|://[^\s:/@]*:)[^\s@'\"]+")
OWN_FIELDS = ("method", "path", "route", "status", "milliseconds", "user_id", "kind", "queue")
MOST_FRAMES = 30


def without_secrets(text: str) -> str:
    """The text with query strings, tokens and passwords of addresses cut out."""
    return TOKEN.sub(r"\1…", QUERY.sub("?…", text))


def places(trace: TracebackType | None) -> list[str]:
    """The innermost frames, as `file:line function`; no source and no values."""
    frames = traceback.extract_tb(trace)[-MOST_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


class Identified(logging.Filter):
    """Puts the ids of request and job on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = REQUEST_ID.get()
        record.job_id = JOB_ID.get()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line; keys that say nothing are left out."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            "request_id": getattr(record, "request_id", ""),
            "job_id": getattr(record, "job_id", ""),
        }
        fields |= {name: getattr(record, name) for name in OWN_FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0]:
            kind, _, trace = record.exc_info
            fields["exception"] = {"type": kind.__name__, "places": places(trace)}
        return json.dumps(
            {name: value for name, value in fields.items() if value not in ("", None)}
        )


class PlainFormatter(logging.Formatter):
    """The same for a person at a terminal, whose own data it is: with whole tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        line = without_secrets(super().format(record))
        ids = (getattr(record, "request_id", ""), getattr(record, "job_id", ""))
        return " ".join([line, *(f"[{one}]" for one in ids if one)])


def logging_settings(*, form: str, level: str) -> dict[str, Any]:
    """Django's LOGGING. The loggers of gunicorn are taken over, so that they follow the rules."""
    formatters = {
        "json": {"()": JsonFormatter},
        "plain": {"()": PlainFormatter, "format": "{asctime} {levelname} {name} {message}",
                  "style": "{"},
    }  # fmt: skip
    own = {"handlers": ["console"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"identified": {"()": Identified}},
        "formatters": {"chosen": formatters[form]},
        "handlers": {
            "console": {
                "class": "logging.StreamHandler",
                "formatter": "chosen",
                "filters": ["identified"],
            }
        },
        "root": {"handlers": ["console"], "level": level},
        # Django's own would print the same lines once more, and mail them.
        "loggers": {"django": own, "gunicorn.error": own},
    }
