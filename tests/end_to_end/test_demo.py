"""The tutorial's commands as a new user gives them: a site with its own database, broker, web
server and worker processes. The steps on its pages are walked in tests/web/browser/test_walk.py."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[2]
TUTORIAL = (PROJECT / "docs/tutorial.md").read_text()
OWN_SERVICES = ("DATABASE_URL", "REDIS_URL", "HUNCH_VAR")
START = 'make demo ARGS="--rows 300"'  # the tutorial's shorter way
AGAIN = "make serve"

pytestmark = pytest.mark.slow


@dataclass
class Site:
    """A running `make`, what it printed, and where it serves."""

    process: subprocess.Popen[str]
    output: str
    address: str

    @property
    def password(self) -> str:
        return re.search(r"with the password\s+(\S+)", self.output)[1]

    def parts(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> list[psutil.Process]:
        """Ctrl-C, which a terminal sends to the whole group; returns the parts that outlive it."""
        parts = self.parts()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(timeout=60)
        return psutil.wait_procs(parts, timeout=30)[1]


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "var"


def run(command: str, var: Path, last_words: str) -> Site:
    """Start a command of the tutorial and read until its site is up."""
    assert f"`{command}`" in TUTORIAL
    kept = {key: value for key, value in os.environ.items() if key not in OWN_SERVICES}
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=PROJECT,
        env={**kept, "HUNCH_VAR": str(var), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output = read_until(process, last_words)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        raise
    return Site(process, output, re.search(r"http://127\.0\.0\.1:\d+", output)[0])


def read_until(process: subprocess.Popen[str], last_words: str) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if last_words in line:
            return "".join(lines)
    raise AssertionError("it ended early:\n" + "".join(lines))


@pytest.fixture(scope="module")
def site(var: Path) -> Iterator[Site]:
    started = run(START, var, "The site stays up at")
    yield started
    if started.process.poll() is None:
        started.interrupt()


def sign_in(client: httpx.Client, password: str) -> httpx.Response:
    page = client.get("/sign-in/")
    form = {"username": "demo", "password": password}
    form["csrfmiddlewaretoken"] = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    return client.post("/sign-in/", data=form, headers={"Referer": str(page.url)})


def test_the_demo_shows_predicted_beside_actual_on_a_whole_site(site: Site, var: Path) -> None:
    assert site.output.count("Predicted") >= 2
    assert "never a guarantee" in site.output
    assert re.search(r"Supported|Direction only|Contradicted|Inconclusive", site.output)
    names = " ".join(" ".join(part.cmdline()) for part in site.parts())
    assert all(part in names for part in ("postgres", "valkey", "gunicorn", "celery"))
    with httpx.Client(base_url=site.address, follow_redirects=True) as client:
        ready = {"status": "ok", "failed": [], "queues_without_worker": []}
        assert client.get("/readyz?workers").json() == ready
        home = sign_in(client, site.password)
        assert home.status_code == 200
        assert "Sample" in home.text
        client.get("/guide/", params={"q": "what-somebody-asked"})
    log = (var / "logs/web.log").read_text()
    assert "GET /guide/ 200" in log
    assert "what-somebody-asked" not in log


def test_it_stops_together_and_everything_is_kept(site: Site, var: Path) -> None:
    password = site.password
    assert site.interrupt() == []
    again = run(AGAIN, var, "Hunch runs at")
    try:
        with httpx.Client(base_url=again.address, follow_redirects=True) as client:
            assert "Sample" in sign_in(client, password).text
    finally:
        assert again.interrupt() == []
