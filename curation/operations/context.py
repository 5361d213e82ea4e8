"""Which request or job this thread works for; the log and the traces name it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
JOB_ID: ContextVar[str] = ContextVar("job_id", default="")


@contextmanager
def working_for(variable: ContextVar[str], identifier: str) -> Iterator[None]:
    before = variable.set(identifier)
    try:
        yield
    finally:
        variable.reset(before)
