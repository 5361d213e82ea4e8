"""The documentation's samples run as they stand against a live site."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from curation.models import Verdict

pytestmark = pytest.mark.django_db(transaction=True)
DOCS = Path(__file__).parents[2] / "docs"


def environment(live_server, token, **more):
    return {**os.environ, "HUNCH_ADDRESS": live_server.url, "HUNCH_TOKEN": token, **more}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_samples_run(live_server, token, sentences, tmp_path, jobs_run_at_once):
    samples = re.findall(r"```sh\n(.*?)```", (DOCS / "api.md").read_text(), re.DOTALL)
    assert len(samples) >= 8
    script = "\n".join(["set -euo pipefail", *samples])
    done = subprocess.run(
        ["bash", "-c", script],
        env=environment(live_server, token, DATA=str(sentences)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines.count("succeeded") == 5
    assert lines[-1] == Verdict.objects.get().outcome
    assert (tmp_path / "scores.parquet").stat().st_size > 0


def test_the_worked_example_runs(live_server, token, sentences, jobs_run_at_once):
    done = subprocess.run(
        [sys.executable, DOCS / "examples" / "nightly.py", sentences],
        env=environment(live_server, token, PYTHONPATH=str(DOCS.parent)),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    verdict = Verdict.objects.get()
    assert done.returncode == (verdict.outcome == "contradicted"), done.stderr
    assert f": {verdict.outcome}, since" in done.stdout
