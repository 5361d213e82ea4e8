"""The deployment files start what the embedded site starts, with options that exist."""

import os
import subprocess

import click
import pytest
from celery.bin.beat import beat
from celery.bin.worker import worker
from django.core.management import get_commands
from gunicorn.config import Config

from embedded.site import SiteSettings, site_processes
from tests.deployment.commands import COMMANDS, ROOT
from workers.celery import QUEUES

ALL = [(where, command) for where, commands in COMMANDS.items() for command in commands]
EMBEDDED = [list(process.command) for process in site_processes(SiteSettings(), 8000)]


def queues_of(command: list[str]) -> set[str]:
    return set(command[command.index("--queues") + 1].split(",")) if "worker" in command else set()


def program_of(command: list[str]) -> str:
    return next(name for name in ("gunicorn", "worker", "beat", "manage.py") if name in command)


def parse_celery(command: click.Command, arguments: list[str]) -> None:
    """Raises click.UsageError where an option does not exist."""
    parser = command.make_parser(click.Context(command))
    _, rest, _ = parser.parse_args(arguments)
    assert rest == []


@pytest.mark.parametrize(("where", "command"), ALL)
def test_every_command_exists_with_its_options(where, command):
    assert "python" in command[0]
    program = program_of(command)
    arguments = command[command.index(program) + 1 :]
    if program == "manage.py":
        assert arguments[0] in get_commands()
    elif program == "gunicorn":
        parsed = Config().parser().parse_args(arguments)
        assert parsed.args == ["curation.wsgi:application"]
    else:
        assert command[1:6] == ["-m", "celery", "--app", "workers.celery", "--quiet"]
        parse_celery(worker if program == "worker" else beat, arguments)


@pytest.mark.parametrize("where", COMMANDS)
def test_every_queue_has_a_worker_and_there_is_one_clock(where):
    commands = COMMANDS[where]
    assert set().union(*map(queues_of, commands)) == set(QUEUES)
    assert [program_of(command) for command in commands].count("beat") == 1


@pytest.mark.parametrize("where", COMMANDS)
def test_workers_divide_the_queues_as_the_embedded_site_does(where):
    embedded = {frozenset(queues_of(command)) for command in EMBEDDED}
    assert {frozenset(queues_of(command)) for command in COMMANDS[where]} == embedded


def test_the_entry_point_reads_addresses_from_files_and_becomes_the_command(tmp_path):
    (tmp_path / "database").write_text("postgresql://hunch:a b@postgres/hunch\n")
    (tmp_path / "redis").write_text("redis://redis/0\n")
    named = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL_FILE": str(tmp_path / "database"),
        "REDIS_URL_FILE": str(tmp_path / "redis"),
    }
    program = 'printf "%s|%s|%s" "$DATABASE_URL" "$REDIS_URL" "$1"'
    command = [ROOT / "docker/entrypoint.sh", "sh", "-c", program, "sh", "an argument"]
    found = subprocess.run(command, env=named, capture_output=True, text=True, check=True)
    assert found.stdout == "postgresql://hunch:a b@postgres/hunch|redis://redis/0|an argument"


def test_the_entry_point_ends_where_a_file_is_missing(tmp_path):
    named = {"PATH": os.environ["PATH"], "DATABASE_URL_FILE": str(tmp_path / "missing")}
    ended = subprocess.run([ROOT / "docker/entrypoint.sh", "true"], env=named, capture_output=True)
    assert ended.returncode != 0
