"""Functions that the resource guard's tests run in a child process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from workers.formats.errors import FormatError

Progress = Callable[[int, int], None]


def counts(to: int, progress: Progress) -> dict[str, int]:
    for k in range(1, to + 1):
        progress(k, to)
    return {"counted": to}


def refuses() -> None:
    raise FormatError("a.csv", 3, "text", "is wrong")


def fills_memory() -> int:
    return len(bytearray(8 * 1024**3))


def spins() -> None:
    while True:
        pass


def waits() -> None:
    threading.Event().wait()


def fills_disk(path: str) -> None:
    with open(path, "wb") as stream:
        stream.write(b"x" * 100_000)


def crashes() -> None:
    os.abort()


def fails() -> float:
    return 1 / 0


def reports_its_process(progress: Progress) -> None:
    progress(os.getpid(), os.getpid())
    threading.Event().wait()


def environment_names() -> list[str]:
    return list(os.environ)
