"""The log files of child processes: kept from growing without bound, and their last words."""

import os
import shutil
from pathlib import Path

LARGEST_LOG = 10_000_000  # bytes
KEPT_LOGS = 3


def rotate(log: Path, largest: int = LARGEST_LOG) -> None:
    """Move a log that has grown past `largest` bytes aside, keeping the last three.

    Copied and emptied, not renamed: the process goes on writing, at the end, to the same file.
    """
    if not log.exists() or log.stat().st_size <= largest:
        return
    for number in range(KEPT_LOGS, 1, -1):
        older = log.with_suffix(f".log.{number - 1}")
        if older.exists():
            older.replace(log.with_suffix(f".log.{number}"))
    shutil.copyfile(log, log.with_suffix(".log.1"))
    os.truncate(log, 0)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, or a note that there are none."""
    if not log.exists():
        return "(no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:]) or "(empty)"
