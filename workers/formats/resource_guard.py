"""Runs a function on untrusted input in a child process with memory, processor and wall-clock
limits.

The child gets and gives JSON only; a crash, a limit or a refusal there is an exception here.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from workers.formats.errors import FormatError

_LARGEST_RESULT = 64 * 1024 * 1024
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


@dataclass(frozen=True)
class ResourceLimits:
    """`memory_bytes` bounds the child's address space, of which Python and Arrow take about 1
    GiB."""

    memory_bytes: int = 6 * 1024**3
    cpu_seconds: int = 900
    wall_seconds: float = 1_800.0
    largest_file_bytes: int = 16 * 1024**3


class ResourceLimitExceeded(Exception):
    """The child used too much; `limit` is "memory", "processor time", "time", "disk" or "crash"."""

    def __init__(self, limit: str, detail: str) -> None:
        super().__init__(limit, detail)
        self.limit = limit
        self.detail = detail

    def __str__(self) -> str:
        return f"reading the upload was stopped: {self.detail}"


def run_guarded(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    limits: ResourceLimits,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Call `function(**arguments)` in a child process and return its JSON result.

    `function` is a module-level function; `arguments` must be JSON. When `progress` is
    given, the child's function is passed its own `progress` argument, and calls arrive here;
    raising from it ends the child. Raises FormatError as the child raised it,
    ResourceLimitExceeded, and RuntimeError for any other failure of the child.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    request = json.dumps(
        {"function": name, "arguments": dict(arguments), "progress": progress is not None,
         "limits": vars(limits)}
    ).encode()  # fmt: skip
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "workers.formats.resource_guard", str(writing)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=(writing,),
        start_new_session=True,
        env=_environment(),
    )
    os.close(writing)
    try:
        assert child.stdin is not None and child.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(request)
            child.stdin.close()
        with os.fdopen(reading, "rb") as results:
            answer, complaint = _listen(results, child.stderr, limits.wall_seconds, progress)
        child.wait(timeout=30)
    finally:
        _end(child)
    return _result(answer, complaint, child.returncode)


def _environment() -> dict[str, str]:
    """The parent's environment without anything that could be a secret, one thread for every
    library."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR", "TMP", "TEMP")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    paths = [p for p in sys.path if p] or [os.getcwd()]
    environment["PYTHONPATH"] = os.pathsep.join([os.getcwd(), *paths])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS"):
        environment[name] = "1"
    environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    environment["MALLOC_ARENA_MAX"] = "2"
    return environment


def _listen(
    results: BinaryIO,
    errors: Any,
    wall_seconds: float,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, Any] | None, str]:
    """The child's last message, and the end of what it printed as an error."""
    deadline = time.monotonic() + wall_seconds
    pending, complaint = b"", b""
    answer: dict[str, Any] | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(results, selectors.EVENT_READ)
        selector.register(errors, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise ResourceLimitExceeded("time", f"it took longer than {wall_seconds:g} seconds")
            for key, _ in ready:
                data = os.read(key.fd, 65_536)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is errors:
                    complaint = (complaint + data)[-4_096:]
                else:
                    *lines, pending = (pending + data).split(b"\n")
                    if len(pending) > _LARGEST_RESULT:
                        raise ResourceLimitExceeded("memory", "its result is too large")
                    for line in lines:
                        message = json.loads(line)
                        if "progress" not in message:
                            answer = message
                        elif progress is not None:
                            progress(*message["progress"])
    return answer, complaint.decode(errors="replace")


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _result(answer: dict[str, Any] | None, complaint: str, code: int) -> Any:
    if answer is not None and "result" in answer:
        return answer["result"]
    if answer is not None and "format_error" in answer:
        raise FormatError(**answer["format_error"])
    if answer is not None and answer.get("memory"):
        raise ResourceLimitExceeded("memory", "it needs more memory than is allowed")
    if answer is not None and answer.get("disk"):
        raise ResourceLimitExceeded("disk", "it would write more to disk than is allowed")
    if answer is not None:
        raise RuntimeError(answer.get("error", "the child process failed"))
    if code == -signal.SIGXCPU:
        raise ResourceLimitExceeded("processor time", "it used more processor time than is allowed")
    if code == -signal.SIGKILL or _tells_of_memory(complaint):
        raise ResourceLimitExceeded("memory", "it needs more memory than is allowed")
    raise ResourceLimitExceeded("crash", f"the reader ended with status {code}")


def _tells_of_memory(text: str) -> bool:
    signs = ("bad_alloc", "memoryerror", "allocat", "out of memory", "failed to map segment")
    return any(sign in text.lower() for sign in signs)


def _child(result_descriptor: int) -> None:
    request = json.loads(sys.stdin.buffer.read())
    _limit(request["limits"])
    with os.fdopen(result_descriptor, "wb", buffering=0) as results:

        def send(message: dict[str, Any]) -> None:
            results.write(json.dumps(message).encode() + b"\n")

        try:
            arguments = dict(request["arguments"])
            if request["progress"]:
                arguments["progress"] = _throttled(send)
            result = _resolve(request["function"])(**arguments)
            send({"result": result})
        except FormatError as error:
            places = {"file": error.file, "row": error.row, "field": error.field}
            send({"format_error": places | {"rule": error.rule}})
        except MemoryError:
            send({"memory": True})
        except Exception as error:  # the boundary: every failure is told to the parent as text
            text = f"{type(error).__name__}: {error}"[:2_000]
            full = isinstance(error, OSError) and error.errno in (27, 28)
            starved = _tells_of_memory(text)
            send({"disk": True} if full else {"memory": True} if starved else {"error": text})


def _limit(limits: Mapping[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    seconds, size = int(limits["cpu_seconds"]), int(limits["largest_file_bytes"])
    resource.setrlimit(resource.RLIMIT_AS, (int(limits["memory_bytes"]),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _resolve(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module_name), attribute)
    if not callable(function):
        raise ValueError(f"{name} is not a function")
    return function  # type: ignore[no-any-return]


def _throttled(send: Callable[[dict[str, Any]], None]) -> Callable[[int, int], None]:
    last = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last > 0.2:
            last = now
            send({"progress": [int(done), int(total)]})

    return progress


if __name__ == "__main__":
    _child(int(sys.argv[1]))
