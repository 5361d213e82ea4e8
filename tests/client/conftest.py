"""A live site, a token, and jobs that a worker's task runs as soon as they are sent."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from curation.models import Scope
from curation.services import jobs, rate_limits, tokens
from hunch_client import Hunch

WORDS = {"up": ["good", "fine", "glad", "warm"], "down": ["bad", "poor", "sad", "cold"]}


@pytest.fixture
def jobs_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real task, called where the message would be sent; the learning code runs for real."""
    from workers.tasks.run import run_job

    monkeypatch.setattr(jobs, "send", lambda job: run_job(str(job.pk)))


@pytest.fixture
def token(live_server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(rate_limits, "take", lambda **limit: None)
    user = get_user_model().objects.create(username="ada")
    return tokens.create_token(user=user, name="tests", scopes=list(Scope.values))[1]


@pytest.fixture
def hunch(live_server: Any, token: str) -> Any:
    with Hunch(live_server.url, token) as client:
        yield client


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    """120 train and 60 probe sentences; every tenth train label is wrong."""
    draw = random.Random(0)
    lines = []
    for number in range(180):
        label = draw.choice(["up", "down"])
        text = " ".join(draw.choices(WORDS[label], k=4) + ["the", "day"])
        split = "train" if number < 120 else "test"
        if split == "train" and number % 10 == 0:
            label = {"up": "down", "down": "up"}[label]
        row = {"id": f"s{number}", "text": text, "label": label, "split": split}
        lines.append(json.dumps(row))
    path = tmp_path / "sentences.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
