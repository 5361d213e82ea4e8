"""`manage.py demo` as a new user runs it: own database, broker, web server and worker processes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[2]
OWN_SERVICES = ("DATABASE_URL", "REDIS_URL", "HUNCH_VAR")


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {key: value for key, value in os.environ.items() if key not in OWN_SERVICES}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "demo", "--rows", "300", "--port", "8790"],
        cwd=PROJECT,
        env={**environment, "HUNCH_VAR": str(tmp_path / "var"), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """The output up to and with the line that contains `wanted`."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return "".join(lines)
    raise AssertionError("the demo ended early:\n" + "".join(lines))


def sign_in(client: httpx.Client, password: str) -> httpx.Response:
    page = client.get("/sign-in/")
    form = {"username": "demo", "password": password}
    form["csrfmiddlewaretoken"] = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    return client.post("/sign-in/", data=form, headers={"Referer": str(page.url)})


@pytest.mark.slow
def test_the_demo_shows_predicted_beside_actual_and_leaves_a_site_that_stops_together(demo):
    output = read_until(demo, "The site stays up at")
    address = re.search(r"http://127\.0\.0\.1:\d+", output)[0]
    password = re.search(r"with the password\s+(\S+)", output)[1]
    assert output.count("Predicted") >= 2
    assert "never a guarantee" in output
    assert re.search(r"Supported|Direction only|Contradicted|Inconclusive", output)
    children = psutil.Process(demo.pid).children(recursive=True)
    names = " ".join(" ".join(child.cmdline()) for child in children)
    assert all(part in names for part in ("postgres", "valkey", "gunicorn", "celery"))
    with httpx.Client(base_url=address, follow_redirects=True) as client:
        ready = {"status": "ok", "failed": [], "queues_without_worker": []}
        assert client.get("/readyz?workers").json() == ready
        home = sign_in(client, password)
        assert home.status_code == 200
        assert "Sample" in home.text
    demo.send_signal(signal.SIGINT)
    assert demo.wait(timeout=60) == 0
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
