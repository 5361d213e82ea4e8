"""The small world, and the lines that the log would hold."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from curation.operations.logs import Identified, JsonFormatter
from curation.services import rate_limits
from tests.api.conftest import api_of
from tests.web.conftest import browser_of, owner, people, plain_static_files, world

__all__ = ["api_of", "browser_of", "owner", "people", "plain_static_files", "world"]


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Every line that was logged so far, as the site would write it in JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Identified())
    loggers = [logging.getLogger(), logging.getLogger("django")]
    for logger in loggers:
        logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def no_workers() -> None:
    broker = rate_limits.connection()
    for key in broker.scan_iter("hunch:worker:*"):
        broker.delete(key)
