"""The commands of the documentation do what it says."""

import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import benchmark_names
from curation.settings import SHORTEST_KEY
from embedded.services import service_processes
from embedded.supervisor import Supervisor
from tests.docs.commands import NOT_RUN, ROOT, RUN_BY, WHOLE_PAGES, commands

FOUND = list(commands())


def test_every_command_is_run_by_a_test_or_has_a_reason_not_to_be() -> None:
    unknown = [
        (page, command)
        for page, command in FOUND
        if len([one for one in (*RUN_BY, *NOT_RUN) if re.fullmatch(one, command)]) != 1
    ]
    assert unknown == []
    assert len(FOUND) > 30


@pytest.mark.parametrize("pattern", [*RUN_BY, *NOT_RUN])
def test_no_entry_is_left_of_a_command_that_is_gone(pattern: str) -> None:
    assert any(re.fullmatch(pattern, command) for _, command in FOUND)


@pytest.mark.parametrize("test", sorted({*RUN_BY.values(), *WHOLE_PAGES.values()}))
def test_the_tests_that_run_them_exist(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()


def shown(start: str) -> list[str]:
    return [one for one in dict.fromkeys(command for _, command in FOUND) if one.startswith(start)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An embedded site of its own: these commands write."""
    ours = {"DATABASE_URL", "REDIS_URL", "HUNCH_VAR", "HUNCH_FILES"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    account = {
        "DJANGO_SUPERUSER_USERNAME": "ada",
        "DJANGO_SUPERUSER_EMAIL": "ada@example.com",
        "DJANGO_SUPERUSER_PASSWORD": "a long pass phrase",
    }
    return {**kept, **account, "HUNCH_VAR": str(tmp_path / "var")}


def run(command: str, environment: dict[str, str]) -> str:
    """Run a command of the documentation, with this Python and in the project's folder."""
    words = shlex.split(re.sub(r"^(\.venv/bin/)?python ", f"{sys.executable} ", command))
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_operator_s_commands_run_as_they_stand(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """In the order of an operator's life; the table of commands says that none is left out."""
    var = Path(environment["HUNCH_VAR"])
    with Supervisor(var) as supervisor:
        supervisor.start(*service_processes(var, durable=False))
        run("python manage.py migrate", environment)
        run("python manage.py collectstatic --noinput", environment)
        run("python manage.py createsuperuser --noinput", environment)  # answers by variables
        (token,) = shown(".venv/bin/python manage.py api_token")
        assert run(token.replace("USER", "ada"), environment).strip().startswith("hunch_")
        (worker,) = shown("python -m celery")
        start_and_stop(worker, environment)
    for command in shown("python manage.py verify"):
        assert "are needed" in run(command, environment)
    (backup,) = shown("python manage.py backup")
    run(backup.replace("/backups", str(tmp_path)), environment)
    (restore,) = (one for one in shown("python manage.py restore") if "--replace" in one)
    said = run(restore.replace("/backups", str(tmp_path)), environment)
    assert "Restored the backup" in said


def start_and_stop(command: str, environment: dict[str, str]) -> None:
    """A worker that says it is ready, serves, and ends when it is told to."""
    words = [sys.executable, *shlex.split(command)[1:], "--hostname", "more@hunch"]
    worker = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert worker.stderr is not None
    said = []
    for line in worker.stderr:
        said.append(line)
        if "more@hunch ready" in line:
            break
    else:
        raise AssertionError("the worker ended: " + "".join(said))
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=120)
    assert worker.returncode == 0


def test_the_secrets_are_made_as_the_containers_read_them(tmp_path: Path) -> None:
    lines = [
        command
        for page, command in FOUND
        if page.endswith("own-servers.md") and re.match(r"(mkdir|chmod|python3|echo) ", command)
    ]
    script = "\n".join(["set -euo pipefail", *lines])
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True)
    folder = tmp_path / "docker/secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (identity,) = json.loads((folder / "s3_identities").read_text())["identities"]
    assert identity["credentials"] == [
        {
            "accessKey": (folder / "s3_access_key").read_text().strip(),
            "secretKey": (folder / "s3_secret_key").read_text().strip(),
        }
    ]
    secrets = {file.name: file.read_text().strip() for file in folder.iterdir()}
    assert len(secrets["secret_key"]) >= SHORTEST_KEY
    password = secrets["postgres_password"]
    assert secrets["database_url"] == f"postgresql://hunch:{password}@postgres/hunch"


def test_every_benchmark_that_is_named_exists() -> None:
    named: set[str] = set()
    for _, command in FOUND:
        if command.startswith("make bench ARGS="):
            named |= set(command.removeprefix("make bench ARGS=").split())
    assert named
    assert named <= set(benchmark_names())


def test_every_label_that_the_tutorial_names_stands_on_a_page() -> None:
    pages = "\n".join(page.read_text() for page in (ROOT / "templates").rglob("*.html"))
    labels = re.findall(r"\*\*([^*]+)\*\*", (ROOT / "docs/tutorial.md").read_text())
    assert len(labels) >= 8
    for label in labels:
        assert re.search(rf">\s*(\{{% icon \S+ %\}})?{label}\b", pages), label
